"""`dataops doctor` on the Pub/Sub topic of events."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc
import pytest
from google.iam.v1 import iam_policy_pb2
from google.pubsub_v1 import Topic

from dataops_platform.cli.doctor import Doctor
from dataops_platform.contracts.problems import ConfigError
from dataops_platform.settings import Settings
from dataops_platform_tests.conftest import REPO
from dataops_platform_tests.integration.cli.test_doctor import CLOUD
from dataops_platform_tests.messages import Mail

pytestmark = pytest.mark.cloud
NAME = "projects/acme-data/topics/dataops-events"
EMBEDDED = {"DATAOPS_PROJECT": str(REPO)}


def look(base: dict[str, str], **env: str) -> list[str]:
    given = {"DATAOPS_EVENTS": "pubsub://acme-data/dataops-events"}
    return list(dict(Doctor(Settings.load(base | given | env)).checks())["events"]())


@contextmanager
def pubsub(permissions: list[str]) -> Iterator[str]:
    """Pub/Sub with one topic, and with an answer about permissions, which the emulator doesn't give."""

    def method(answer):
        return grpc.unary_unary_rpc_method_handler(
            lambda request, _: answer, response_serializer=lambda message: message.SerializeToString()
        )

    granted = iam_policy_pb2.TestIamPermissionsResponse(permissions=permissions)
    handlers = [
        grpc.method_handlers_generic_handler(
            "google.pubsub.v1.Publisher", {"GetTopic": method(Topic.pb(Topic(name=NAME)))}
        ),
        grpc.method_handlers_generic_handler("google.iam.v1.IAMPolicy", {"TestIamPermissions": method(granted)}),
    ]
    server = grpc.server(ThreadPoolExecutor(2), handlers=handlers)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None)


@pytest.mark.parametrize("base", [CLOUD, EMBEDDED])
def test_all_as_it_should_be(base):
    with pubsub(["pubsub.topics.publish"]) as host:
        assert look(base, PUBSUB_EMULATOR_HOST=host) == [f"{NAME} can be published to"]


def test_a_topic_that_may_not_be_published_to():
    with (
        pubsub([]) as host,
        pytest.raises(
            ConfigError, match=r"DATAOPS_EVENTS: permission pubsub\.topics\.publish on .* is missing\. Grant"
        ),
    ):
        look(CLOUD, PUBSUB_EMULATOR_HOST=host)


def test_googles_emulator(pubsub_server):
    mail = Mail(pubsub_server, topic=False)
    env = mail.env | {"DATAOPS_EVENTS": mail.address}
    with pytest.raises(
        ConfigError, match=r"there is no topic .*\. Create it \(`gcloud pubsub topics create events --pr"
    ):
        look(EMBEDDED, **env)
    mail.create()
    assert look(EMBEDDED, **env) == [f"{mail.topic} can be published to"]


def test_no_check_without_the_setting():
    assert "events" not in dict(Doctor(Settings.load(CLOUD)).checks())
