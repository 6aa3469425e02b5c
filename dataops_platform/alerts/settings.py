"""Settings of alerts: which channels, and what each needs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from dataops_platform.alerts.channels import checked_host
from dataops_platform.contracts.problems import ConfigError
from dataops_platform.secrets import Secret, Variables

CHANNELS = ("log", "slack", "webhook")
SLACK_API = "https://slack.com/api/"


@dataclass(frozen=True, slots=True)
class AlertSettings:
    """Where alerts go. Secrets are read when they are needed.

    Attributes:
        channels: DATAOPS_ALERTS: `log` (default), `slack`, `webhook`; several separated by commas.
        ui_url: DATAOPS_UI_URL: where people find Dagster's UI, like `https://dagster.acme.com`; default: no links.
        webhook: DATAOPS_ALERTS_WEBHOOK: URL that JSON is posted to; a secret.
        slack_webhook: DATAOPS_SLACK_WEBHOOK: URL of an incoming webhook of Slack; a secret.
        slack_token: DATAOPS_SLACK_TOKEN: token of a Slack app that may post, instead; a secret.
        slack_channel: DATAOPS_SLACK_CHANNEL: id or name of the channel that the token posts to.
        slack_api: DATAOPS_SLACK_API: base URL of Slack's API, for GovSlack; default: `https://slack.com/api/`.
    """

    channels: tuple[str, ...] = ("log",)
    ui_url: str | None = None
    webhook: Secret | None = None
    slack_webhook: Secret | None = None
    slack_token: Secret | None = None
    slack_channel: str | None = None
    slack_api: str = SLACK_API

    @classmethod
    def load(cls, env: Variables) -> AlertSettings:
        """Read the settings.

        Raises:
            ConfigError: a value can't be used, or a channel lacks one; the text names the variable.
        """
        names = tuple(dict.fromkeys(filter(None, (n.strip() for n in (env.get("DATAOPS_ALERTS") or "log").split(",")))))
        unknown = [name for name in names if name not in CHANNELS]
        if unknown or not names:
            raise ConfigError(
                f"DATAOPS_ALERTS is {env['DATAOPS_ALERTS']!r}: write one or more of {', '.join(CHANNELS)}, separated"
                " by commas"
            )
        made = cls(
            channels=names,
            ui_url=_url("DATAOPS_UI_URL", env.get("DATAOPS_UI_URL")),
            webhook=env.secret("DATAOPS_ALERTS_WEBHOOK"),
            slack_webhook=env.secret("DATAOPS_SLACK_WEBHOOK"),
            slack_token=env.secret("DATAOPS_SLACK_TOKEN"),
            slack_channel=env.get("DATAOPS_SLACK_CHANNEL") or None,
            slack_api=f"{_url('DATAOPS_SLACK_API', env.get('DATAOPS_SLACK_API')) or SLACK_API.rstrip('/')}/",
        )
        made._check()
        return made

    def check(self) -> Iterator[str]:
        """Read the secrets that the channels need; what each channel is, in words. Nothing is sent.

        Raises:
            ConfigError: a secret can't be read, or is no URL or token.
            Unavailable: Secret Manager doesn't answer.
        """
        for name in self.channels:
            if name == "log":
                yield "log"
            elif name == "webhook" and self.webhook is not None:
                yield f"webhook: posts to {checked_host(self.webhook.where, self.webhook.reveal())}"
            elif self.slack_webhook is not None:
                yield f"slack: posts to {checked_host(self.slack_webhook.where, self.slack_webhook.reveal())}"
            elif self.slack_token is not None:
                if not self.slack_token.reveal().startswith("xox"):
                    raise ConfigError(
                        f"{self.slack_token.where} is no token of Slack: write one that begins with xoxb-, from the"
                        " app's page `OAuth & Permissions`"
                    )
                yield f"slack: channel {self.slack_channel}, by token"
        yield f"links lead to {self.ui_url}" if self.ui_url else "no links: DATAOPS_UI_URL isn't set"

    def _check(self) -> None:
        if "webhook" in self.channels and self.webhook is None:
            raise ConfigError("DATAOPS_ALERTS names webhook: set DATAOPS_ALERTS_WEBHOOK to its URL too")
        if "slack" not in self.channels:
            return
        if self.slack_webhook is None and self.slack_token is None:
            raise ConfigError(
                "DATAOPS_ALERTS names slack: set DATAOPS_SLACK_WEBHOOK too, or DATAOPS_SLACK_TOKEN and"
                " DATAOPS_SLACK_CHANNEL"
            )
        if self.slack_webhook is not None and self.slack_token is not None:
            raise ConfigError("DATAOPS_SLACK_WEBHOOK and DATAOPS_SLACK_TOKEN are both set: remove one of them")
        if self.slack_token is not None and self.slack_channel is None:
            raise ConfigError("DATAOPS_SLACK_TOKEN is set: set DATAOPS_SLACK_CHANNEL too, like C0123456789 or #data")


def _url(variable: str, text: str | None) -> str | None:
    """A URL without a slash at its end, or None for an empty text."""
    if not text:
        return None
    try:
        parts = urlsplit(text)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and not any(c.isspace() for c in text)
        _ = parts.port, (parts.hostname or "").encode("idna")  # a number, and a name that can be one
    except ValueError:
        good = False
    if not good or "@" in parts.netloc or parts.query or parts.fragment:
        raise ConfigError(f"{variable} is {text!r}: write a URL, like https://dagster.acme.com")
    return text.rstrip("/")
