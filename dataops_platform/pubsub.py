"""Pub/Sub by plain calls: each one ends, says what went wrong in words, and leaves no thread behind.

Google's high-level client batches and pulls in threads of its own. Here order and durability matter more than the last
message per second: what was published, and what was acknowledged, is known when a call returns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from google.api_core import exceptions as api

from dataops_platform.contracts.problems import ConfigError
from dataops_platform.google_errors import RETRY, google_errors

if TYPE_CHECKING:  # the clients take a second to import
    from google.pubsub_v1 import PublisherClient

PATIENCE = 30.0
"""Seconds that a call is repeated for, while the service may do better."""
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


def no_topic(setting: str, name: str) -> ConfigError:
    """What to say where a topic is missing."""
    _, project, _, short = name.split("/")
    return ConfigError(
        f"{setting}: there is no topic {name}. Create it (`gcloud pubsub topics create {short} --project {project}`),"
        " or correct the setting."
    )
