"""Where alerts go: the log, Slack, or a webhook of one's own."""

from __future__ import annotations

import json
import logging
import random
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

import requests
from urllib3.exceptions import HTTPError

from dataops_platform.alerts.events import Status
from dataops_platform.alerts.message import LINES, Message, body, lines, link
from dataops_platform.contracts.model import Severity
from dataops_platform.contracts.problems import ConfigError, Unavailable
from dataops_platform.secrets import Secret, brief, hide

if TYPE_CHECKING:
    from slack_sdk import WebClient

TIMEOUT = (5.0, 10.0)
"""Seconds to connect, and between two bytes of an answer."""
ATTEMPTS = 3
_RETRIED = {408, 429, 500, 502, 503, 504}
_LONGEST_PAUSE = 8.0
_SECRET_PATH = 20
"""Characters from which a URL's path is hidden on its own, too: a shorter one may be a plain word."""

log = logging.getLogger("dataops.alerts")


class Channel(Protocol):
    """Somewhere that messages are sent to."""

    @property
    def name(self) -> str:
        """As in DATAOPS_ALERTS."""
        ...

    def send(self, message: Message) -> None:
        """Send a message.

        Raises:
            DataOpsError: it can't be told whether it arrived, or it didn't; the text says why, without secrets.
        """
        ...


class LogChannel:
    """The process's log: one record for each problem, for people in all its partitions."""

    name = "log"

    def __init__(self, each: bool = False) -> None:
        """Args:
        each: whether each alert is a record of its own, with all its fields, as programs need them.
        """
        self._each = each

    def send(self, message: Message) -> None:
        """Write the records."""
        for line in lines(message, self._each):
            alert = line.alert
            level = logging.INFO
            if alert.status is Status.OPEN:
                level = logging.ERROR if alert.severity is Severity.ERROR else logging.WARNING
            fields = {
                "kind": str(alert.kind),
                "status": str(alert.status),
                "table": alert.table,
                "partition": alert.partition,
                "rule": alert.rule,
                "observed": alert.observed,
                "expected": alert.expected,
                "owner": alert.owner,
                "run_id": alert.run_id,
                "url": link(alert, message.ui_url),
            }
            log.log(level, "%s", line.text, extra={"fields": fields})


class WebhookChannel:
    """Posts JSON to a URL."""

    name = "webhook"

    def __init__(self, url: Secret, sleep: Callable[[float], None] = time.sleep) -> None:
        self._url = url
        self._sleep = sleep

    def send(self, message: Message) -> None:
        """Post the message's body; see docs/alerts.md."""
        post(self._url, body(message), self._sleep)


class SlackWebhook:
    """An incoming webhook of Slack."""

    name = "slack"

    def __init__(self, url: Secret, sleep: Callable[[float], None] = time.sleep) -> None:
        self._url = url
        self._sleep = sleep

    def send(self, message: Message) -> None:
        """Post the message's text."""
        post(self._url, {"text": slack_text(message)}, self._sleep)


class SlackApi:
    """A channel of Slack, by a token."""

    name = "slack"

    def __init__(self, client: Callable[[], WebClient], channel: str) -> None:
        """Args:
        client: makes Slack's client, with a timeout and a bounded number of attempts.
        channel: its id or name.
        """
        self._client = client
        self._channel = channel

    def send(self, message: Message) -> None:
        """Post the message's text."""
        from slack_sdk.errors import SlackApiError

        try:
            self._client().chat_postMessage(
                channel=self._channel, text=slack_text(message), unfurl_links=False, unfurl_media=False
            )
        except SlackApiError as error:
            said = error.response.get("error") if isinstance(error.response.data, dict) else None
            status = error.response.status_code
            if status in _RETRIED or said == "ratelimited":
                raise Unavailable(f"Slack answers {status} {said or ''}".rstrip()) from None
            raise ConfigError(
                f"Slack refuses: {said or status}. {_SLACK_REPAIRS.get(str(said), _SLACK_REPAIR)}"
            ) from None
        except OSError as error:  # urllib's errors, timeouts among them
            raise Unavailable(f"Slack doesn't answer: {brief(error)}") from None


_SLACK_REPAIR = "Correct DATAOPS_SLACK_TOKEN or DATAOPS_SLACK_CHANNEL."
_SLACK_REPAIRS = {
    "invalid_auth": "Correct DATAOPS_SLACK_TOKEN.",
    "token_revoked": "Make a new token, and set DATAOPS_SLACK_TOKEN.",
    "missing_scope": "Grant the app the scope chat:write, and install it again.",
    "channel_not_found": "Correct DATAOPS_SLACK_CHANNEL, or invite the app to the channel.",
    "not_in_channel": "Invite the app to the channel.",
}


def slack_text(message: Message) -> str:
    """The message in Slack's markup."""
    found = lines(message)
    texts = [f"*dataops {_escaped(message.environment)}*: {message.summary}"]
    for line in found[:LINES]:
        recovered = line.alert.status is Status.RECOVERED
        mark = ":white_check_mark:" if recovered else _MARKS[line.alert.severity]
        url = link(line.alert, message.ui_url)
        texts.append(f"{mark} {_escaped(line.text)}" + (f" <{url}|open>" if url else ""))
    if len(found) > LINES:
        texts.append(f"… {len(found) - LINES} more: `dataops status` lists all that failed")
    return "\n".join(texts)


_MARKS = {Severity.ERROR: ":x:", Severity.WARNING: ":warning:"}


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def post(url: Secret, content: object, sleep: Callable[[float], None] = time.sleep) -> None:
    """Post JSON, a bounded number of times while the server may do better.

    Raises:
        ConfigError: the URL can't be read, or the server refuses what was sent.
        Unavailable: there was no good answer.
    """
    target = url.reveal()
    # Never the URL: of most webhooks it is the secret. Nor what `requests` says, which has its path.
    where = f"{url.setting} ({checked_host(url.setting, target)})"
    path = target.partition("://")[2].partition("/")[2]
    if len(path) >= _SECRET_PATH:  # as HTTP libraries log it
        hide(path)
    problem = ""
    for attempt in range(ATTEMPTS):
        pause = 0.0
        try:
            answer = requests.post(
                target,
                data=json.dumps(content, ensure_ascii=False).encode(),
                headers={"Content-Type": "application/json; charset=utf-8"},
                timeout=TIMEOUT,
                allow_redirects=False,  # a redirected POST becomes a GET, and nobody would notice
                stream=True,  # what it says isn't read: it may be long
            )
        except requests.Timeout:
            problem = "no answer in time"
        except (requests.RequestException, HTTPError, UnicodeError) as error:  # not all of urllib3's are translated
            problem = f"no connection, or it broke off ({type(error).__name__})"
        else:
            answer.close()
            if 200 <= answer.status_code < 300:
                return
            problem = f"{answer.status_code} {answer.reason or ''}".rstrip()
            if answer.status_code not in _RETRIED:
                raise ConfigError(f"{where} answers {problem}: correct the setting, or mend the receiver")
            pause = _retry_after(answer)
        if attempt < ATTEMPTS - 1:
            sleep(min(max(pause, random.uniform(0.25, 0.5) * 2**attempt), _LONGEST_PAUSE))
    raise Unavailable(f"{where}: no good answer in {ATTEMPTS} attempts; the last one: {problem}")


def checked_host(setting: str, url: str) -> str:
    """The host of a URL, which may be shown.

    Raises:
        ConfigError: it is no URL that can be posted to.
    """
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        port = f":{parts.port}" if parts.port else ""
        host.encode("idna")  # no empty part of a name, and none of more than 63 characters
    except ValueError:
        host, port = "", ""
    if not host or parts.scheme not in ("http", "https") or any(c.isspace() for c in url):
        raise ConfigError(f"{setting} is no URL: write one that begins with https://")
    return host + port


def _retry_after(answer: requests.Response) -> float:
    text = answer.headers.get("Retry-After", "")
    return float(text) if text.isascii() and text.isdecimal() else 0.0
