"""`dataops doctor` on a Pub/Sub subscription that tells of new objects in landing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc
import pytest
from google.iam.v1 import iam_policy_pb2
from google.pubsub_v1 import PublisherClient, Subscription
from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport

from dataops_platform.cli.doctor import Doctor
from dataops_platform.contracts.problems import ConfigError
from dataops_platform.settings import Settings
from dataops_platform_tests import readme
from dataops_platform_tests.emulators.fixtures import unique
from dataops_platform_tests.integration.cli.test_doctor import CLOUD, storage

pytestmark = pytest.mark.cloud
TOPIC = "projects/acme-data/topics/new-objects"
NAME = "projects/acme-data/subscriptions/dataops"
TELLING = {"kind": "storage#notification", "id": "1", "topic": f"//pubsub.googleapis.com/{TOPIC}"}


@pytest.fixture
def look(tmp_path) -> Callable[..., list[str]]:
    """The check, in a project whose objects land in the bucket acme-landing, and embedded in a folder."""
    (block,) = [block for block in readme.blocks(readme.REPO / "docs" / "arrival.md") if block.path]
    (tmp_path / "contracts").mkdir()
    (tmp_path / str(block.path)).write_text(block.text)

    def check(base: dict[str, str] = CLOUD, **env: str) -> list[str]:
        given = {"DATAOPS_PROJECT": str(tmp_path), "DATAOPS_NOTIFICATIONS": NAME}
        checks = dict(Doctor(Settings.load(base | given | env)).checks())
        list(checks["contracts"]())
        return list(checks["notifications"]())

    return check


@contextmanager
def pubsub(subscription: Subscription, permissions: list[str]) -> Iterator[str]:
    """Pub/Sub with one subscription, and with an answer about permissions, which the emulator doesn't give."""

    def method(request_type, answer):
        return grpc.unary_unary_rpc_method_handler(
            lambda request, _: answer,
            request_deserializer=request_type,
            response_serializer=lambda message: message.SerializeToString(),
        )

    granted = iam_policy_pb2.TestIamPermissionsResponse(permissions=permissions)
    handlers = [
        grpc.method_handlers_generic_handler(
            "google.pubsub.v1.Subscriber", {"GetSubscription": method(bytes, Subscription.pb(subscription))}
        ),
        grpc.method_handlers_generic_handler("google.iam.v1.IAMPolicy", {"TestIamPermissions": method(bytes, granted)}),
    ]
    server = grpc.server(ThreadPoolExecutor(2), handlers=handlers)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None)


def subscription(**fields) -> Subscription:
    return Subscription(name=NAME, topic=TOPIC, ack_deadline_seconds=30, **fields)


CONSUME = ["pubsub.subscriptions.consume"]


def test_all_as_it_should_be(look):
    with pubsub(subscription(), CONSUME) as host, storage({"items": [TELLING]}, []) as url:
        lines = look(PUBSUB_EMULATOR_HOST=host, STORAGE_EMULATOR_HOST=url)
    assert lines == [
        f"{NAME}: 30 s to acknowledge, unread messages are kept for 0 days",
        f"new objects of gs://acme-landing are told to {TOPIC}",
    ]


@pytest.mark.parametrize(
    ("found", "permissions", "message"),
    [
        (subscription(), [], r"permission pubsub\.subscriptions\.consume on .* is missing\. Grant roles/pubsub"),
        (subscription(detached=True), CONSUME, r"has no topic any more"),
        (Subscription(name=NAME, topic="_deleted-topic_"), CONSUME, r"has no topic any more.*create dataops --topic"),
        (subscription(push_config={"push_endpoint": "https://x"}), CONSUME, r"delivers by itself"),
        (
            subscription(dead_letter_policy={"dead_letter_topic": TOPIC}),
            CONSUME,
            r"gives up messages that come again.*`gcloud pubsub subscriptions update dataops --clear-dead-letter-",
        ),
    ],
)
def test_a_subscription_that_is_of_no_use(look, found, permissions, message):
    with pubsub(found, permissions) as host, pytest.raises(ConfigError, match=message):
        look(PUBSUB_EMULATOR_HOST=host)


@pytest.mark.parametrize(
    "told",
    [
        [],
        [TELLING | {"topic": f"//pubsub.googleapis.com/{TOPIC}-2"}],
        [TELLING | {"event_types": ["OBJECT_DELETE"]}],
    ],
)
def test_a_bucket_that_tells_nobody(look, told):
    with (
        pubsub(subscription(), CONSUME) as host,
        storage({"items": told}, []) as url,
        pytest.raises(
            ConfigError,
            match=r"yaml:12: bucket acme-landing doesn't tell .*-objects of new objects\. Let it .*--event-types",
        ),
    ):
        look(PUBSUB_EMULATOR_HOST=host, STORAGE_EMULATOR_HOST=url)


def test_googles_emulator(look, pubsub_server):
    """It has no permissions to ask for; they count as granted."""
    project = unique("p")
    name, topic = f"projects/{project}/subscriptions/dataops", f"projects/{project}/topics/new"
    env = pubsub_server.env | {"DATAOPS_NOTIFICATIONS": name}
    with pytest.raises(
        ConfigError, match=r"there is no subscription .*\. Create it \(`gcloud pubsub subscriptions create"
    ):
        look(**env)
    channel = grpc.insecure_channel(pubsub_server.address)
    PublisherClient(transport=PublisherGrpcTransport(channel=channel)).create_topic(name=topic)
    settings = Settings.load(CLOUD | env)
    settings.identity.subscriber_client().create_subscription(name=name, topic=topic)
    told = TELLING | {"topic": f"//pubsub.googleapis.com/{topic}", "event_types": ["OBJECT_FINALIZE"]}
    with storage({"items": [told]}, []) as url:
        lines = look(**env, STORAGE_EMULATOR_HOST=url)
    assert lines == [
        f"{name}: 10 s to acknowledge, unread messages are kept for 7 days",
        f"new objects of gs://acme-landing are told to {topic}",
    ]


def test_embedded(look, tmp_path):
    """A folder tells nobody by itself. Messages that could not be read are counted."""
    lake = Settings.load({"DATAOPS_PROJECT": str(tmp_path)}).lake_store()
    lake.create("_dead_letters/notifications/1.json", b"{}")
    with pubsub(subscription(), CONSUME) as host:
        lines = look({}, PUBSUB_EMULATOR_HOST=host)
    assert lines == [
        f"{NAME}: 30 s to acknowledge, unread messages are kept for 0 days",
        f"1 message(s) could not be read: look at {lake.uri('_dead_letters/notifications')}",
    ]


def test_no_check_without_the_setting():
    assert "notifications" not in dict(Doctor(Settings.load(CLOUD)).checks())


@pytest.mark.parametrize("text", ["dataops", "projects/acme-data/topics/x", "projects/A/subscriptions/x"])
def test_what_is_no_subscription(text):
    with pytest.raises(
        ConfigError, match=r"DATAOPS_NOTIFICATIONS is .*: write projects/<project>/subscriptions/<name>"
    ):
        Settings.load(CLOUD | {"DATAOPS_NOTIFICATIONS": text})
