"""Channels over real HTTP: a webhook, Slack's incoming webhook, and Slack's API through dagster-slack."""

from __future__ import annotations

import logging
import socket

import pytest

from dataops_platform.alerts import channels as module
from dataops_platform.alerts.channels import ATTEMPTS, SlackWebhook, WebhookChannel
from dataops_platform.alerts.settings import AlertSettings
from dataops_platform.contracts.problems import ConfigError, Unavailable
from dataops_platform.orchestration.alerting import channels
from dataops_platform.secrets import Secret, Variables
from dataops_platform_tests.receiver import receiving
from dataops_platform_tests.secret_manager import serving, version
from dataops_platform_tests.unit.alerts.test_message import FAILED, message

TOKEN = "xoxb-0123456789-abcdefghij"
PATH = "/services/T0000000/B0000000/abcdefghijklmnop"


@pytest.fixture
def server():
    with receiving() as made:
        yield made


def webhook(server, pauses=None):
    return WebhookChannel(
        Secret("DATAOPS_ALERTS_WEBHOOK", server.url + PATH), (pauses if pauses is not None else []).append
    )


def slack(server, **env):
    given = {"DATAOPS_ALERTS": "slack", "DATAOPS_SLACK_TOKEN": TOKEN, "DATAOPS_SLACK_CHANNEL": "#data"}
    (channel,) = channels(AlertSettings.load(Variables(given | {"DATAOPS_SLACK_API": f"{server.url}/api"} | env)))
    return channel


def test_a_webhook_gets_json(server):
    webhook(server).send(message(FAILED))
    ((path, headers, body),) = server.requests
    assert path == PATH
    assert headers["content-type"] == "application/json; charset=utf-8"
    assert body["alerts"][0]["rule"] == "amounts"


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_server_that_recovers_is_asked_again(server, status):
    pauses = []
    server.answers = [status, (status, {}, {"Retry-After": "3"}), 204]
    webhook(server, pauses).send(message(FAILED))
    assert len(server.requests) == 3
    assert 0 < pauses[0] < 3 <= pauses[1]
    assert len({body["id"] for body in server.bodies}) == 1


def test_a_server_that_does_not_recover_is_given_up(server):
    pauses = []
    server.answers = [(500, {"secret": "of the server"}, {"Retry-After": "86400"})]
    with pytest.raises(Unavailable) as caught:
        webhook(server, pauses).send(message(FAILED))
    assert len(server.requests) == ATTEMPTS
    assert max(pauses) <= 8
    assert str(caught.value) == (
        f"DATAOPS_ALERTS_WEBHOOK ({server.url.removeprefix('http://')}): no good answer in 3 attempts;"
        " the last one: 500 Internal Server Error"
    )


@pytest.mark.parametrize("status", [302, 400, 404])
def test_a_server_that_refuses_is_not_asked_again(server, status):
    server.answers = [(status, {}, {"Location": f"{server.url}/elsewhere"})]
    with pytest.raises(ConfigError, match=f"answers {status} .*correct the setting") as caught:
        webhook(server).send(message(FAILED))
    assert len(server.requests) == 1
    assert "services" not in str(caught.value)


def test_nobody_there():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    channel = SlackWebhook(Secret("DATAOPS_SLACK_WEBHOOK", f"http://127.0.0.1:{port}{PATH}"), [].append)
    with pytest.raises(Unavailable, match="no connection") as caught:
        channel.send(message(FAILED))
    assert "services" not in str(caught.value)


def test_a_server_that_does_not_answer(monkeypatch):
    monkeypatch.setattr(module, "TIMEOUT", (0.2, 0.2))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}{PATH}"
        with pytest.raises(Unavailable, match="no answer in time"):
            WebhookChannel(Secret("DATAOPS_ALERTS_WEBHOOK", url), [].append).send(message(FAILED))


@pytest.mark.parametrize("text", ["not a url", "ftp://example.com/x", "https:///abcd", "https://exa mple.com/abcd"])
def test_no_url(text):
    with pytest.raises(ConfigError, match="DATAOPS_ALERTS_WEBHOOK is no URL") as caught:
        WebhookChannel(Secret("DATAOPS_ALERTS_WEBHOOK", text)).send(message(FAILED))
    assert text not in str(caught.value)


def test_a_url_is_a_secret_in_logs_too(server, caplog):
    from dataops_platform.secrets.output import RedactingFilter

    with caplog.at_level(logging.DEBUG):
        webhook(server).send(message(FAILED))
    assert any("POST" in record.getMessage() for record in caplog.records)  # urllib3 logs the path
    for record in caplog.records:
        RedactingFilter().filter(record)
        assert PATH not in record.getMessage()


def test_slacks_incoming_webhook(server):
    SlackWebhook(Secret("DATAOPS_SLACK_WEBHOOK", server.url + PATH)).send(message(FAILED))
    ((path, _, body),) = server.requests
    assert path == PATH
    assert body["text"].splitlines()[1].startswith(":x: staging.orders amounts failed for 2024-01-01")


def test_slacks_api(server):
    slack(server).send(message(FAILED))
    ((path, headers, body),) = server.requests
    assert (path, headers["authorization"]) == ("/api/chat.postMessage", f"Bearer {TOKEN}")
    assert body["channel"] == "#data"
    assert "amounts failed" in body["text"]


def test_slacks_api_refuses(server):
    server.answers = [(200, {"ok": False, "error": "not_in_channel"}, {})]
    with pytest.raises(ConfigError, match=r"Slack refuses: not_in_channel\. Invite the app to the channel\."):
        slack(server).send(message(FAILED))
    server.answers = [(200, {"ok": False, "error": "something_new"}, {})]
    with pytest.raises(ConfigError, match=r"something_new\. Correct DATAOPS_SLACK_TOKEN or"):
        slack(server).send(message(FAILED))


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ((500, {}, {}), "Slack answers 500"),
        pytest.param((503, "not a document", {}), "Slack answers 503", marks=pytest.mark.long),
        ((429, {"ok": False, "error": "ratelimited"}, {"Retry-After": "1"}), "Slack answers 429 ratelimited"),
    ],
)
def test_slacks_api_is_away(server, answer, says):
    server.answers = [answer]
    with pytest.raises(Unavailable, match=says):
        slack(server).send(message(FAILED))


def test_nobody_is_slack():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with receiving() as server:
        channel = slack(server, DATAOPS_SLACK_API=f"http://127.0.0.1:{port}/api")
    with pytest.raises(Unavailable, match="Slack doesn't answer"):
        channel.send(message(FAILED))


def test_a_token_of_secret_manager(server):
    with serving() as manager:
        manager.answers = [version(TOKEN)]
        slack(server, DATAOPS_SLACK_TOKEN="sm://acme-data/slack", DATAOPS_SECRET_MANAGER_ENDPOINT=manager.url).send(
            message(FAILED)
        )
    assert server.requests[0][1]["authorization"] == f"Bearer {TOKEN}"
