"""Topics and subscriptions of Google's Pub/Sub emulator, as tests use them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import grpc
from google.api_core import exceptions as api
from google.pubsub_v1 import PublisherClient, ReceivedMessage, SubscriberClient
from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcTransport

from dataops_platform_tests.emulators.fixtures import unique
from dataops_platform_tests.emulators.servers import PubSubServer


class Mail:
    """A topic of its own, and an ordered subscription to it."""

    def __init__(self, server: PubSubServer, ack_deadline: int = 10, topic: bool = True) -> None:
        self.env = server.env
        self.publisher = PublisherClient(transport=PublisherGrpcTransport(channel=_channel(server)))
        self.subscriber = SubscriberClient(transport=SubscriberGrpcTransport(channel=_channel(server)))
        self.project, self._deadline = unique("p"), ack_deadline
        self.topic = f"projects/{self.project}/topics/events"
        self.subscription = f"projects/{self.project}/subscriptions/all"
        if topic:
            self.create()

    @property
    def address(self) -> str:
        """As in DATAOPS_EVENTS."""
        return f"pubsub://{self.project}/events"

    def create(self) -> None:
        self.publisher.create_topic(name=self.topic)
        request = {"name": self.subscription, "topic": self.topic, "ack_deadline_seconds": self._deadline}
        self.subscriber.create_subscription(request={**request, "enable_message_ordering": True})

    def send(self, attributes: Mapping[str, str], data: bytes = b"{}") -> None:
        self.publisher.publish(topic=self.topic, messages=[{"data": data, "attributes": dict(attributes)}])

    def received(self, patience: float = 2.0) -> list[ReceivedMessage]:
        """All that is there, acknowledged."""
        found: list[ReceivedMessage] = []
        while True:
            try:
                some = self.subscriber.pull(
                    request={"subscription": self.subscription, "max_messages": 1000}, timeout=patience, retry=None
                ).received_messages
            except api.DeadlineExceeded:
                some = []
            if not some:
                return found
            self.subscriber.acknowledge(subscription=self.subscription, ack_ids=[item.ack_id for item in some])
            found += some

    def bodies(self) -> list[dict[str, Any]]:
        """What the messages say that are there."""
        return [json.loads(item.message.data) for item in self.received()]


def _channel(server: PubSubServer) -> grpc.Channel:
    return grpc.insecure_channel(server.address)
