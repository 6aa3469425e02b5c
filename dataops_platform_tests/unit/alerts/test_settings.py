"""Settings of alerts."""

from __future__ import annotations

import pytest

from dataops_platform.alerts.channels import LogChannel, SlackApi, SlackWebhook, WebhookChannel
from dataops_platform.alerts.settings import AlertSettings
from dataops_platform.contracts.problems import ConfigError
from dataops_platform.orchestration.alerting import channels
from dataops_platform.secrets import Variables

URL = "https://hooks.example.com/services/T0/B0/abcdefghijklmnop"
TOKEN = "xoxb-123456789"


def load(**env):
    return AlertSettings.load(Variables({f"DATAOPS_{name}": value for name, value in env.items()}))


def test_by_default_alerts_are_logged():
    found = load()
    assert (found.channels, found.ui_url, found.webhook) == (("log",), None, None)
    assert load(ALERTS="", UI_URL="", SLACK_TOKEN="") == found
    assert [type(channel) for channel in channels(found)] == [LogChannel]


def test_every_variable():
    found = load(
        ALERTS=" slack,log, webhook,slack",
        UI_URL="https://dagster.acme.com/",
        ALERTS_WEBHOOK=URL,
        SLACK_TOKEN=TOKEN,
        SLACK_CHANNEL="C012345",
        SLACK_API="https://slack-gov.com/api",
    )
    assert found.channels == ("slack", "log", "webhook")
    assert (found.ui_url, found.slack_api) == ("https://dagster.acme.com", "https://slack-gov.com/api/")
    assert found.webhook.reveal() == URL
    assert URL not in repr(found)
    assert TOKEN not in repr(found)
    assert [type(channel) for channel in channels(found)] == [SlackApi, LogChannel, WebhookChannel]
    assert [type(channel) for channel in channels(load(ALERTS="slack", SLACK_WEBHOOK=URL))] == [SlackWebhook]


@pytest.mark.parametrize(
    ("env", "says"),
    [
        ({"ALERTS": "slak"}, "DATAOPS_ALERTS is 'slak': write one or more of log, slack, webhook"),
        ({"ALERTS": ","}, "DATAOPS_ALERTS is ','"),
        ({"ALERTS": "webhook"}, "set DATAOPS_ALERTS_WEBHOOK to its URL too"),
        ({"ALERTS": "slack"}, "set DATAOPS_SLACK_WEBHOOK too, or DATAOPS_SLACK_TOKEN and DATAOPS_SLACK_CHANNEL"),
        ({"ALERTS": "slack", "SLACK_TOKEN": TOKEN}, "set DATAOPS_SLACK_CHANNEL too"),
        ({"ALERTS": "slack", "SLACK_TOKEN": TOKEN, "SLACK_WEBHOOK": URL}, "both set: remove one of them"),
        ({"UI_URL": "dagster.acme.com"}, "DATAOPS_UI_URL is 'dagster.acme.com': write a URL"),
        ({"UI_URL": "https://user:pw@acme.com"}, "write a URL"),
        ({"UI_URL": "https://acme.com/?a=b"}, "write a URL"),
        ({"UI_URL": "https://[acme"}, "write a URL"),
        ({"UI_URL": "https://acme.com:no"}, "write a URL"),
        ({"UI_URL": "https://acme..com"}, "write a URL"),
        ({"SLACK_API": "ftp://slack.com"}, "DATAOPS_SLACK_API is 'ftp://slack.com': write a URL"),
    ],
)
def test_what_cannot_be_used(env, says):
    with pytest.raises(ConfigError) as caught:
        load(**env)
    assert says in str(caught.value)


def test_what_doctor_says_of_them(tmp_path):
    assert list(load().check()) == ["log", "no links: DATAOPS_UI_URL isn't set"]
    secret = tmp_path / "url"
    secret.write_text(f"{URL}\n")
    found = load(
        ALERTS="log,webhook,slack",
        ALERTS_WEBHOOK=f"file://{secret}",
        SLACK_TOKEN=TOKEN,
        SLACK_CHANNEL="#data",
        UI_URL="http://dagster:3000",
    )
    assert list(found.check()) == [
        "log",
        "webhook: posts to hooks.example.com",
        "slack: channel #data, by token",
        "links lead to http://dagster:3000",
    ]
    assert "slack: posts to hooks.example.com" in list(load(ALERTS="slack", SLACK_WEBHOOK=URL).check())


@pytest.mark.parametrize(
    ("env", "says"),
    [
        ({"ALERTS": "webhook", "ALERTS_WEBHOOK": "hooks.example.com"}, "DATAOPS_ALERTS_WEBHOOK is no URL"),
        ({"ALERTS": "webhook", "ALERTS_WEBHOOK": "https://exa_mple..com:80/a"}, "DATAOPS_ALERTS_WEBHOOK is no URL"),
        ({"ALERTS": "webhook", "ALERTS_WEBHOOK": f"https://{'a' * 64}.com"}, "DATAOPS_ALERTS_WEBHOOK is no URL"),
        ({"ALERTS": "slack", "SLACK_WEBHOOK": "https://hooks..slack.com/x"}, "DATAOPS_SLACK_WEBHOOK is no URL"),
        ({"ALERTS": "webhook", "ALERTS_WEBHOOK": "file:///nowhere"}, "there is no such file"),
        ({"ALERTS": "slack", "SLACK_WEBHOOK": "file:///nowhere"}, "there is no such file"),
        (
            {"ALERTS": "slack", "SLACK_TOKEN": "no token", "SLACK_CHANNEL": "#data"},
            "DATAOPS_SLACK_TOKEN is no token of Slack: write one that begins with xoxb-",
        ),
    ],
)
def test_what_doctor_finds(env, says):
    with pytest.raises(ConfigError) as caught:
        list(load(**env).check())
    assert says in str(caught.value)
