"""Notifications of new objects in Dagster, with Google's Pub/Sub emulator: a message goes when its run is certain."""

from __future__ import annotations

import json
import re
import socket
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import dagster as dg
import pytest

from dataops_platform import pubsub
from dataops_platform.lake import Lake
from dataops_platform.orchestration import landing_sensor, notification_sensor
from dataops_platform.orchestration.build import build_definitions
from dataops_platform.settings import Settings
from dataops_platform_tests.integration.orchestration.conftest import instance
from dataops_platform_tests.integration.orchestration.test_landing_sensor import HEAD, Shop, project
from dataops_platform_tests.messages import Mail

pytestmark = pytest.mark.cloud


@dataclass
class Handled:
    kept: set[str] = field(default_factory=set)
    acknowledged: set[str] = field(default_factory=set)


class Told(Shop):
    """The shop, told of its objects by Pub/Sub."""

    def __init__(self, folder: Path, mail: Mail) -> None:
        self.folder, self.mail = folder, mail
        env = {"DATAOPS_HOME": str(folder / "home"), "DATAOPS_NOTIFICATIONS": mail.subscription}
        self.settings = Settings.load(env | {"DATAOPS_PROJECT": str(project(folder / "shop"))} | mail.env)
        self.load()

    def load(self) -> None:
        """As in a code server that was started anew: nothing is known but the cursor."""
        self.definitions = build_definitions(self.settings)
        self.repository = self.definitions.get_repository_def()
        self.sensor = self.repository.get_sensor_def("notifications")
        self.cursor = getattr(self, "cursor", None)

    def tell(self, path: Path, **changes: str) -> None:
        landing = self.settings.project / "landing"
        written = datetime.fromtimestamp(path.stat().st_mtime, UTC) if path.exists() else datetime.now(UTC)
        given = {
            "eventType": "OBJECT_FINALIZE",
            "payloadFormat": "NONE",
            "bucketId": str(landing),
            "objectId": path.relative_to(landing).as_posix(),
            "objectGeneration": str(self.generation(path)),
            "eventTime": written.isoformat(),
        }
        self.mail.send(given | changes, b"")

    def generation(self, path: Path) -> int:
        place = self.definitions.resources["platform"].place(self.table)
        found = place.inbox.stat(path.relative_to(self.settings.project / "landing").as_posix())
        return found.generation if found else 1

    @property
    def table(self):
        return self.definitions.resources["platform"].tables["orders"]

    def launch(self, requests, dagster) -> None:
        """As the daemon does: the run is in Dagster's storage, and runs to its end."""
        for request in requests:
            tags = {"dagster/run_key": request.run_key, "dagster/sensor_name": "notifications"}
            result = self.run(request._replace(tags={**request.tags, **tags}), dagster)
            assert result.success

    def die(self, handled: Handled) -> None:
        """The code server is gone with what it held: leases end, and another one starts with the cursor alone."""
        open_ones = list(dict.fromkeys(handled.kept - handled.acknowledged))
        request = {"subscription": self.mail.subscription, "ack_ids": open_ones, "ack_deadline_seconds": 0}
        self.mail.subscriber.modify_ack_deadline(request=request)
        self.load()


@pytest.fixture(autouse=True)
def _patience(monkeypatch):
    """The emulator answers at once."""
    monkeypatch.setattr(notification_sensor, "PATIENCE", 0.5)


@pytest.fixture
def told(tmp_path, pubsub_server):
    return Told(tmp_path, Mail(pubsub_server))


@pytest.fixture
def moments(monkeypatch):
    """What time it is for the sensor: the last one."""
    found = [datetime(2024, 5, 3, 12, tzinfo=UTC)]

    class Clock(datetime):
        @classmethod
        def now(cls, tz=None):
            return found[-1]

    monkeypatch.setattr(notification_sensor, "datetime", Clock)
    return found


@pytest.fixture
def handled(monkeypatch):
    """Handles of messages, as the sensor keeps and acknowledges them."""
    seen, service = Handled(), notification_sensor.Subscription
    keep, acknowledge = service.keep, service.acknowledge

    def kept(self, handles, seconds):
        seen.kept.update(handles)
        keep(self, handles, seconds)

    def acknowledged(self, handles):
        seen.acknowledged.update(handles)
        acknowledge(self, handles)

    monkeypatch.setattr(service, "keep", kept)
    monkeypatch.setattr(service, "acknowledge", acknowledged)
    return seen


def test_a_message_is_acknowledged_when_its_run_is_stored(told, handled, tmp_path):
    for day in (1, 5, 6, 7, 8):
        told.tell(told.write(day))
    with instance(tmp_path / "dagster") as dagster:
        requests = told.tick(dagster).run_requests
        assert [(r.partition_key, r.tags.get("dagster/asset_partition_range_start")) for r in requests] == [
            ("2024-05-01", None), (None, "2024-05-05")
        ]  # fmt: skip
        assert {key.to_user_string() for key in requests[0].asset_selection} >= {"raw/orders", "staging/orders"}
        assert (len(handled.kept), len(handled.acknowledged)) == (5, 0)
        told.launch(requests, dagster)
        quiet = told.tick(dagster)
        assert quiet.run_requests == []
        assert quiet.skip_message == "0 messages, 0 of new objects; 5 acknowledged"
        assert handled.acknowledged == handled.kept
        assert told.staged() == [1, 5, 6, 7, 8]


def test_a_process_that_dies_with_messages_in_its_hands_loses_none(told, handled, tmp_path):
    """They come again, to a process that knows only the cursor, or not even that."""
    told.tell(told.write(1))
    with instance(tmp_path / "dagster") as dagster:
        (request,) = told.tick(dagster).run_requests
        told.die(handled)
        waiting = told.tick(dagster)
        assert waiting.run_requests == []
        assert waiting.skip_message == "1 messages, 1 of new objects; 0 acknowledged"  # its run isn't stored
        told.launch([request], dagster)
        told.die(handled)
        told.cursor = None
        done = told.tick(dagster)
        assert done.run_requests == []  # whatever is lost, the lake knows what is delivered
        assert done.skip_message == "1 messages, 0 of new objects; 1 of objects known before; 1 acknowledged"
        told.die(handled)
        assert told.tick(dagster).skip_message.startswith("0 messages")


def test_a_process_that_dies_before_the_run_is_over(told, handled, tmp_path):
    """The run is stored, and it is certain that it will look: the message goes, though nothing is delivered yet."""
    told.tell(told.write(1))
    with instance(tmp_path / "dagster") as dagster:
        (request,) = told.tick(dagster).run_requests
        told.die(handled)
        tags = {"dagster/run_key": request.run_key, **request.tags}
        dagster.create_run_for_job(told.repository.get_job("pipeline"), tags=tags)
        done = told.tick(dagster)
        assert done.run_requests == []
        assert done.skip_message == "1 messages, 1 of new objects; 1 acknowledged"


def test_a_run_that_never_came_to_be_is_asked_for_again(told, handled, tmp_path):
    told.tell(told.write(1))
    with instance(tmp_path / "dagster") as dagster:
        assert len(told.tick(dagster).run_requests) == 1
        body = json.loads(told.cursor)
        (run,) = body["runs"].values()
        run["at"] -= 600
        told.cursor = json.dumps(body)
        told.die(handled)
        assert len(told.tick(dagster).run_requests) == 1


def test_duplicates_and_disorder(told, handled, tmp_path):
    """An older object's message after a newer one's, and each of them twice: one run, and one row each."""
    first, second = told.write(1, "a.csv", ago=90), told.write(1, "b.csv", HEAD + "11,2024-05-01,DE,2\n", ago=60)
    with instance(tmp_path / "dagster") as dagster:
        told.tell(second)
        told.tell(second)
        (request,) = told.tick(dagster).run_requests
        told.launch([request], dagster)
        told.tell(first)
        told.tell(second)
        assert told.tick(dagster).run_requests == []
        assert told.staged() == [1, 11]
        third = told.write(1, "a.csv", HEAD + "1,2024-05-01,FR,9\n", ago=30)  # written anew
        told.tell(third)
        (request,) = told.tick(dagster).run_requests
        told.launch([request], dagster)
        assert told.staged() == [1, 11]
        told.tick(dagster)
    assert handled.acknowledged == handled.kept


def test_what_can_not_be_read_is_kept_and_told(told, handled, tmp_path):
    told.mail.send({"eventType": "OBJECT_FINALIZE", "bucketId": "b"}, b"hello")
    told.mail.send({"from": "somebody"}, b"")
    with instance(tmp_path / "dagster") as dagster:
        said = told.tick(dagster).skip_message
        assert "2 that can't be read: no notification of Cloud Storage: attributes" in said
        assert "2 acknowledged" in said
        lake = Lake(told.settings.lake_store())
        letters = [json.loads(lake.store.read(i.key)) for i in lake.store.list("_dead_letters/notifications/")]
        assert sorted(letter["data"] for letter in letters) == ["", "aGVsbG8="]
        assert {"from": "somebody"} in [letter["attributes"] for letter in letters]
        assert "0 messages" in told.tick(dagster).skip_message
    assert handled.acknowledged == handled.kept


def test_what_is_not_to_be_delivered(told, tmp_path):
    """Objects of nobody, or that don't belong, and other events: said, and acknowledged."""
    landing = told.settings.project / "landing"
    told.tell(told.write(1, "readme.txt", "hello"))
    told.tell(told.write(1, "_SUCCESS", ""))
    told.tell(landing / "orders/dt=2099-01-01/a.csv")
    told.tell(landing / "orders/dt=2024-05-01/a.csv", bucketId="/elsewhere")
    told.tell(landing / "orders/dt=2024-05-01/a.csv", eventType="OBJECT_DELETE")
    with instance(tmp_path / "dagster") as dagster:
        found = told.tick(dagster)
        assert found.run_requests == []
        assert "5 messages, 0 of new objects; 5 of nothing to be delivered; 2 that don't belong: " in found.skip_message
        assert f"{landing}/orders/dt=2024-05-01/readme.txt" in found.skip_message
        assert "5 acknowledged" in found.skip_message


def test_a_partition_that_is_not_over_waits(told, handled, tmp_path, moments):
    """Its message goes once Dagster has kept the cursor that names it; its run is asked for when it is over."""
    told.tell(told.write(3))
    with instance(tmp_path / "dagster") as dagster:
        first = told.tick(dagster)
        assert first.run_requests == []
        assert "1 of partition 2024-05-03, not over yet; 0 acknowledged" in first.skip_message
        told.die(handled)
        assert "1 acknowledged" in told.tick(dagster).skip_message
        moments.append(datetime(2024, 5, 4, 0, 1, tzinfo=UTC))
        (request,) = told.tick(dagster).run_requests
        assert request.partition_key == "2024-05-03"
        assert told.tick(dagster).run_requests == []
        moments.append(datetime(2024, 5, 4, 0, 10, tzinfo=UTC))  # no run came of it
        (request,) = told.tick(dagster).run_requests
        told.launch([request], dagster)
        assert told.tick(dagster).run_requests == []
        assert json.loads(told.cursor)["early"] == {}
        assert told.staged() == [3]
        assert len(handled.acknowledged) == 1


@pytest.mark.parametrize("edit", ["end: 2024-05-02", "granularity: month", "gone"])
def test_a_partition_that_the_contract_has_no_more(told, handled, tmp_path, moments, edit):
    """It was waited for. Nothing else waits because of it: other objects' messages are handled."""
    told.tell(told.write(3))
    with instance(tmp_path / "dagster") as dagster:
        told.tick(dagster)
        assert list(json.loads(told.cursor)["early"]) == ["orders|2024-05-03"]
        contract = told.settings.project / "contracts/orders.odcs.yaml"
        text = contract.read_text()
        if edit == "gone":
            told.cursor = told.cursor.replace("orders|", "returns|")  # as where a table's contract was deleted
        elif edit.startswith("end"):
            contract.write_text(re.sub(r"end: [-0-9]+", edit, text))
        else:
            contract.write_text(text.replace("granularity: day", edit))
        assert edit == "gone" or contract.read_text() != text
        moments.append(datetime(2024, 5, 6, tzinfo=UTC))
        told.die(handled)
        told.tick(dagster)
        assert json.loads(told.cursor)["early"] == {}
        if edit.startswith("end"):
            told.tell(told.write(2))
            (request,) = told.tick(dagster).run_requests
            assert request.partition_key == "2024-05-02"


def test_a_run_that_failed_stands_for_no_other_object(told, handled, tmp_path):
    first, second = told.write(1, "a.csv", ago=90), told.write(1, "b.csv", HEAD + "11,2024-05-01,DE,2\n", ago=60)
    with instance(tmp_path / "dagster") as dagster:
        told.tell(second)
        (request,) = told.tick(dagster).run_requests
        tags = {"dagster/run_key": request.run_key, **request.tags}
        run = dagster.create_run_for_job(told.repository.get_job("pipeline"), tags=tags)
        assert told.tick(dagster).skip_message == "0 messages, 0 of new objects; 1 acknowledged"
        dagster.report_run_failed(run, "its process is gone")
        told.tell(first)
        (request,) = told.tick(dagster).run_requests
        told.launch([request], dagster)
        assert told.staged() == [1, 11]


def test_more_runs_than_one_tick_asks_for(told, tmp_path, monkeypatch):
    monkeypatch.setattr(notification_sensor, "RUNS", 2)
    for day in (1, 3, 5, 7):
        told.tell(told.write(day))
    with instance(tmp_path / "dagster") as dagster:
        first = told.tick(dagster).run_requests
        second = told.tick(dagster).run_requests
        assert {r.partition_key for r in first + second} == {f"2024-05-0{day}" for day in (1, 3, 5, 7)}
        assert (len(first), len(second)) == (2, 2)


def test_listing_finds_what_a_lost_message_was_about(told, tmp_path):
    """But leaves young objects to their messages."""
    told.write(1, ago=700)
    told.write(3, ago=60)
    told.sensor = told.repository.get_sensor_def("landing_orders")
    assert told.sensor.minimum_interval_seconds == landing_sensor.NOTIFIED_INTERVAL
    with instance(tmp_path / "dagster") as dagster:
        found = told.tick(dagster)
        assert [r.partition_key for r in found.run_requests] == ["2024-05-01"]
        told.launch(found.run_requests, dagster)
        assert "1 that Pub/Sub tells of" in told.tick(dagster).skip_message
        assert told.staged() == [1]


def test_a_missing_subscription_is_one_message(tmp_path, pubsub_server):
    told = Told(tmp_path, Mail(pubsub_server, topic=False))
    says = r"DATAOPS_NOTIFICATIONS: there is no subscription .* Create it \(`gcloud pubsub"
    with instance(tmp_path / "dagster") as dagster, pytest.raises(Exception, match=says) as caught:
        told.tick(dagster)
    error, shown = caught.value, []  # Dagster shows all that led to it
    while error is not None:
        shown.append(type(error).__name__)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    assert shown == ["ConfigError"]


def test_a_service_that_does_not_answer_is_not_one_without_messages(tmp_path, monkeypatch):
    monkeypatch.setattr(pubsub, "ANSWER", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        mail = SimpleNamespace(
            subscription="projects/acme-data/subscriptions/news",
            env={"PUBSUB_EMULATOR_HOST": f"127.0.0.1:{mute.getsockname()[1]}"},
        )
        told = Told(tmp_path, mail)
        says = "can't read from projects/acme-data/subscriptions/news: no good answer"
        with instance(tmp_path / "dagster") as dagster, pytest.raises(Exception, match=says):
            told.tick(dagster)


def test_a_cursor_that_can_not_be_read_is_the_beginning(told, tmp_path):
    told.tell(told.write(1))
    told.cursor = "what?"
    with instance(tmp_path / "dagster") as dagster:
        assert [r.partition_key for r in told.tick(dagster).run_requests] == ["2024-05-01"]


@pytest.mark.long
def test_on_google_cloud(tmp_path, cloud_env, bucket, gcs_client, bq_project, pubsub_server):
    """From an object in a bucket to rows on BigQuery; the object has generations, and a prefix."""
    folder = project(tmp_path / "shop")
    contract = folder / "contracts" / "orders.odcs.yaml"
    landing = gcs_client.create_bucket(f"{bucket}-landing")
    server = f"    type: custom\n    location: gs://{landing.name}/in\n"
    contract.write_text(contract.read_text().replace("    type: local\n    path: landing\n    format: csv\n", server))
    mail = Mail(pubsub_server)
    env = {
        "DATAOPS_PROJECT": str(folder),
        "DATAOPS_HOME": str(tmp_path / "home"),
        "DATAOPS_ENV": "staging",
        "DATAOPS_LAKE": f"gs://{bucket}/lake",
        "DATAOPS_PRODUCTION_LAKE": f"gs://{bucket}/production",
        "DATAOPS_WAREHOUSE": f"bigquery://{bq_project}/US",
        "DATAOPS_NOTIFICATIONS": mail.subscription,
    }
    shop = Told.__new__(Told)
    shop.mail, shop.settings = mail, Settings.load(cloud_env | mail.env | env)
    shop.load()

    def write(row: str) -> dict[str, str]:
        blob = landing.blob("in/orders/dt=2024-05-01/a.csv")
        blob.upload_from_string(HEAD + row)
        blob.reload()
        given = {"eventType": "OBJECT_FINALIZE", "payloadFormat": "JSON_API_V1", "bucketId": landing.name}
        given |= {"objectId": blob.name, "objectGeneration": str(blob.generation)}
        return given | {"eventTime": blob.updated.isoformat()}

    with instance(tmp_path / "dagster") as dagster:
        first = write("1,2024-05-01,FR,1.50\n")
        mail.send(first, b'{"size": "60"}')
        (request,) = shop.tick(dagster).run_requests
        shop.launch([request], dagster)
        assert shop.staged() == [1]
        mail.send(write("1,2024-05-01,FR,2.50\n"), b'{"size": "60"}')  # written anew
        mail.send(first, b'{"size": "60"}')
        (request,) = shop.tick(dagster).run_requests
        shop.launch([request], dagster)
        assert shop.tick(dagster).skip_message == "0 messages, 0 of new objects; 1 acknowledged"
    (row,) = shop.settings.warehouse().query("SELECT amount FROM staging.orders").to_pylist()
    assert float(row["amount"]) == 2.5


def test_without_the_setting_there_is_no_such_sensor(tmp_path):
    shop = Shop(tmp_path)
    assert not shop.repository.has_sensor_def("notifications")
    assert shop.sensor.minimum_interval_seconds == landing_sensor.INTERVAL
    assert isinstance(shop.sensor, dg.SensorDefinition)
