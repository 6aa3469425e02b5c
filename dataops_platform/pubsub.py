"""Pub/Sub by plain calls: each one ends, says what went wrong in words, and leaves no thread behind.

Google's high-level client batches and pulls in threads of its own. Here order and durability matter more than the last
message per second: what was published, and what was acknowledged, is known when a call returns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from google.api_core import exceptions as api

from dataops_platform.contracts.problems import ConfigError
from dataops_platform.google_errors import RETRY, google_errors

if TYPE_CHECKING:  # the clients take a second to import
    from google.pubsub_v1 import PublisherClient, SubscriberClient

PATIENCE = 30.0
"""Seconds that a call is repeated for, while the service may do better."""
ANSWER = 10.0
"""Seconds in which a service answers that has nothing to deliver, and is there."""
AT_ONCE = 500
"""Messages of one call; the service takes 1,000, and 10 MB."""
_RETRY = RETRY.with_timeout(PATIENCE)


@dataclass(frozen=True, slots=True)
class Message:
    """What is published.

    Attributes:
        key: messages of one key are delivered in the order in which they were published, to subscriptions that ask
            for it.
    """

    data: bytes
    attributes: Mapping[str, str]
    key: str


class Topic:
    """A topic that is published to."""

    def __init__(self, setting: str, name: str, client: Callable[[], PublisherClient]) -> None:
        """Args:
        setting: what names it, for messages.
        name: `projects/<project>/topics/<topic>`.
        client: makes the client, once something is published.
        """
        self._setting = setting
        self.name = name
        self._client = client
        self._made: PublisherClient | None = None

    def publish(self, messages: Sequence[Message]) -> None:
        """Publish messages of one key, in order. Once this returns they are kept by the service.

        Raises:
            ConfigError: there is no such topic, or a permission is missing.
            Unavailable: no good answer; some may have been published.
        """
        if self._made is None:
            self._made = self._client()
        for start in range(0, len(messages), AT_ONCE):
            part = [
                {"data": item.data, "attributes": dict(item.attributes), "ordering_key": item.key}
                for item in messages[start : start + AT_ONCE]
            ]
            try:
                with google_errors("publish to", self.name, f"pubsub.topics.publish on {self.name}"):
                    self._made.publish(request={"topic": self.name, "messages": part}, retry=_RETRY, timeout=PATIENCE)
            except api.NotFound as error:
                raise no_topic(self._setting, self.name) from error
            except api.GoogleAPICallError as error:
                raise ConfigError(f"{self._setting}: {self.name} refuses messages: {error.message}") from error

    def close(self) -> None:
        """End the connection, if there is one."""
        if self._made is not None:
            self._made.transport.close()  # type: ignore[no-untyped-call]
            self._made = None


@dataclass(frozen=True, slots=True)
class Received:
    """A message that was pulled, and must be acknowledged.

    Attributes:
        handle: what it is acknowledged by; another one whenever it is delivered.
        id: the message's: the same whenever it is delivered.
    """

    handle: str
    id: str
    data: bytes
    attributes: Mapping[str, str]
    published_at: datetime


class Subscription:
    """A subscription that is pulled from."""

    def __init__(self, setting: str, name: str, client: Callable[[], SubscriberClient]) -> None:
        """Args:
        setting: what names it, for messages.
        name: `projects/<project>/subscriptions/<subscription>`.
        client: makes the client, once something is pulled.
        """
        self._setting = setting
        self.name = name
        self._client = client
        self._made: SubscriberClient | None = None

    def pull(self, limit: int, patience: float) -> list[Received]:
        """Some of the messages that are there, in any order; none where none came in time.

        Args:
            limit: how many at most, up to 1,000.
            patience: seconds to wait for the first one.

        Raises:
            ConfigError: there is no such subscription, or a permission is missing.
            Unavailable: no good answer.
        """
        request = {"subscription": self.name, "max_messages": limit}
        with self._words():
            try:
                answer = self._service.pull(request=request, retry=None, timeout=patience)
            except api.DeadlineExceeded:
                self._ask()
                return []
        received = []
        for item in answer.received_messages:
            message = item.message
            published: Any = message.publish_time  # a datetime, whatever its type says
            received.append(
                Received(item.ack_id, message.message_id, message.data, dict(message.attributes), published)
            )
        return received

    def _ask(self) -> None:
        """Nothing came in time: make sure that there is somebody to send something."""
        request = {"resource": self.name, "permissions": ["pubsub.subscriptions.consume"]}
        try:
            self._service.test_iam_permissions(request=request, retry=None, timeout=ANSWER)
        except api.MethodNotImplemented:
            return  # an answer, too

    def acknowledge(self, handles: Sequence[str]) -> None:
        """These messages need not be delivered again.

        Raises:
            ConfigError: as `pull` does.
            Unavailable: no good answer; some may come again.
        """
        for part in _parts(handles):
            with self._words():
                request = {"subscription": self.name, "ack_ids": part}
                self._service.acknowledge(request=request, retry=_RETRY, timeout=PATIENCE)

    def keep(self, handles: Sequence[str], seconds: int) -> None:
        """Have these messages delivered again only after so many seconds from now, unless they are acknowledged.

        Raises:
            ConfigError: as `pull` does.
            Unavailable: no good answer.
        """
        for part in _parts(handles):
            with self._words():
                request = {"subscription": self.name, "ack_ids": part, "ack_deadline_seconds": seconds}
                self._service.modify_ack_deadline(request=request, retry=_RETRY, timeout=PATIENCE)

    @property
    def _service(self) -> SubscriberClient:
        if self._made is None:
            self._made = self._client()
        return self._made

    @contextmanager
    def _words(self) -> Iterator[None]:
        try:
            with google_errors("read from", self.name, f"pubsub.subscriptions.consume on {self.name}"):
                yield
        except api.NotFound as error:
            raise no_subscription(self._setting, self.name) from error
        except api.GoogleAPICallError as error:
            raise ConfigError(
                f"{self._setting}: {self.name} can't be pulled from: {error.message}. `dataops doctor` looks at it."
            ) from error

    def close(self) -> None:
        """End the connection, if there is one."""
        if self._made is not None:
            self._made.transport.close()  # type: ignore[no-untyped-call]
            self._made = None


def _parts(handles: Sequence[str]) -> Iterator[list[str]]:
    for start in range(0, len(handles), AT_ONCE):
        yield list(handles[start : start + AT_ONCE])


def no_subscription(setting: str, name: str) -> ConfigError:
    """What to say where a subscription is missing."""
    _, project, _, short = name.split("/")
    return ConfigError(
        f"{setting}: there is no subscription {name}. Create it (`gcloud pubsub subscriptions create {short}"
        f" --topic <topic> --project {project}`), or correct the setting."
    )


def no_topic(setting: str, name: str) -> ConfigError:
    """What to say where a topic is missing."""
    _, project, _, short = name.split("/")
    return ConfigError(
        f"{setting}: there is no topic {name}. Create it (`gcloud pubsub topics create {short} --project {project}`),"
        " or correct the setting."
    )
