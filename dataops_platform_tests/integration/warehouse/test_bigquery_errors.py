"""What BigQuery refuses, in words: whichever call it refuses, one message that a user can act on."""

from __future__ import annotations

import pytest
from google.api_core.client_options import ClientOptions
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery

from dataops_platform.contracts.problems import ConfigError, DataOpsError, Unavailable
from dataops_platform.contracts.types import Kind
from dataops_platform.google_errors import RETRY
from dataops_platform.warehouse import ledger
from dataops_platform.warehouse.bigquery import BigQueryWarehouse
from dataops_platform.warehouse.bigquery.tables import shape_of, staging_table
from dataops_platform.warehouse.names import PRODUCTION, staging
from dataops_platform.warehouse.shapes import differences
from dataops_platform_tests.refusing import refusing
from dataops_platform_tests.support import daily, table

T = table("orders", {"day": Kind.DATE, "id": Kind.INTEGER}, partitioning=daily())


class _Token(AnonymousCredentials):
    """Credentials that can be refreshed, though it doesn't help."""

    def refresh(self, request: object) -> None:
        pass


def asked(url: str, seconds: float = 0.5) -> BigQueryWarehouse:
    """A warehouse of that service, which is asked for that long."""
    client = bigquery.Client("acme", _Token(), client_options=ClientOptions(api_endpoint=url))
    made = BigQueryWarehouse(client, "EU", pause=0.001)
    made.jobs.retry = RETRY.with_delay(initial=0.01, maximum=0.02, multiplier=1.1).with_timeout(seconds)
    return made


ACTIONS = {
    "ensure": lambda warehouse: warehouse.ensure([T]),
    "exists": lambda warehouse: warehouse.exists(staging("orders")),
    "reset": lambda warehouse: warehouse.reset(T),
    "query": lambda warehouse: warehouse.query("SELECT 1"),
    "statement": lambda warehouse: warehouse.statement("test", "SELECT 1", {}),
    "append": lambda warehouse: warehouse.append("costs", ledger.schema("costs").empty_table()),
}


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize(
    ("refusal", "kind", "says"),
    [
        ((403, "Access Denied: who knows", "accessDenied"), ConfigError, r"permission .+ is missing \(.*who knows"),
        ((401, "Invalid Credentials", "authError"), ConfigError, r"rejects the credentials \(.*They may have expired"),
        ((403, "Quota exceeded: too many", "quotaExceeded"), Unavailable, r"a quota is used up: .*too many"),
        ((400, "acme has not enabled BigQuery", "invalid"), DataOpsError, "acme has not enabled BigQuery"),
    ],
    ids=["permission", "credentials", "quota", "api"],
)
def test_every_call_says_what_is_refused(action, refusal, kind, says):
    with refusing(*refusal) as url, pytest.raises(kind, match=says) as error:
        ACTIONS[action](asked(url))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("action", ["ensure", "exists", "reset", "statement", "append", "query"])
def test_a_rate_limit_is_waited_for_but_not_for_ever(action):
    refusal = (403, "Exceeded rate limits", "rateLimitExceeded")
    with (
        refusing(*refusal) as url,
        pytest.raises(Unavailable, match=r"no good answer after several tries: .*rate limit"),
    ):
        ACTIONS[action](asked(url, seconds=0.1))


@pytest.mark.parametrize(
    ("action", "permission"),
    [
        ("ensure", r"to make and change datasets and tables \(roles/bigquery\.dataEditor\)"),
        ("exists", r"bigquery\.tables\.get"),
        ("query", r"bigquery\.jobs\.create"),
    ],
)
def test_the_permission_is_named(action, permission):
    with refusing(403, "no") as url, pytest.raises(ConfigError, match=f"permission {permission} is missing"):
        ACTIONS[action](asked(url))


@pytest.mark.parametrize(
    ("production", "setting"), [(None, "DATAOPS_WAREHOUSE"), ("acme-live", "DATAOPS_PRODUCTION_PROJECT")]
)
def test_a_project_that_is_not_there(production, setting, monkeypatch):
    """Of the two, the one that is missing is named."""
    with refusing(404, "Not found: Project", "notFound") as url:
        warehouse = BigQueryWarehouse(asked(url).jobs.client, production_project=production)
        if production:
            monkeypatch.setattr("dataops_platform.warehouse.bigquery.warehouse.DATASETS", (PRODUCTION,))
        with pytest.raises(ConfigError, match=f"there is no project {production or 'acme'}, .*: correct {setting}, or"):
            warehouse.ensure([])
        assert warehouse.exists(staging("orders")) is False
        with pytest.raises(ConfigError, match="there is no project"):
            warehouse.reset(T)


def test_a_table_that_somebody_cut_by_numbers():
    """Which no server here can show."""
    wanted = staging_table(bigquery.TableReference.from_string("acme.staging.orders"), T)
    ranges = {"field": "id", "range": {"start": "0", "end": "9", "interval": "1"}}
    other = wanted.to_api_repr() | {"rangePartitioning": ranges, "timePartitioning": None}
    found = differences(staging("orders"), shape_of(wanted), shape_of(bigquery.Table.from_api_repr(other)), ())
    assert list(map(str, found)) == ["staging.orders is partitioned by RANGE of id, the contract says DAY of day"]
