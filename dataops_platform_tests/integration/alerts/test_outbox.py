"""Alerts from a real ledger, embedded and on BigQuery: told once, until it changes, whoever fails or dies when."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest

from dataops_platform.alerts import facts as facts_module
from dataops_platform.alerts import looking, outbox
from dataops_platform.alerts.events import Kind as Problem
from dataops_platform.alerts.events import Status
from dataops_platform.alerts.outbox import send
from dataops_platform.alerts.subjects import Subjects
from dataops_platform.contracts.model import BadRows, Dimension, RuleKind, Severity
from dataops_platform.contracts.problems import Unavailable
from dataops_platform.contracts.types import Kind as Type
from dataops_platform.warehouse import ledger as ledger_module
from dataops_platform.warehouse.ledger import TABLES, Refused, RunEnd, RunStatus, Verdict, now, schema
from dataops_platform_tests.cloud import ENGINES, engine_home, on_both
from dataops_platform_tests.support import DAY1, DAY2, daily, rule, table

pytestmark = pytest.mark.usefixtures("open_files")

ORDERS = replace(
    table(
        "orders",
        {"id": Type.INTEGER, "day": Type.DATE, "amount": Type.INTEGER},
        partitioning=daily(),
        rules=[
            rule("small", RuleKind.RANGE, "amount", severity=Severity.WARNING, maximum=100),
            rule("enough", RuleKind.ROW_COUNT, threshold=None, severity=Severity.ERROR),
        ],
        bad_rows=BadRows(max_rows=0),
    ),
    owner="shop",
)
ABOUT = Subjects({"orders": ORDERS}, {})


class Kept:
    """A channel that keeps what it is told; or fails."""

    def __init__(self, name="webhook"):
        self.name = name
        self.messages = []
        self.fails = None

    def send(self, message):
        if self.fails:
            raise self.fails
        self.messages.append(message)

    @property
    def last(self):
        """(status, rule, partition) of what it was told last."""
        return [(str(a.status), a.rule, a.partition) for a in self.messages[-1].alerts]


ALL_ENGINES = pytest.mark.parametrize("home", ENGINES, indirect=True)


@pytest.fixture
def home(request, tmp_path):
    made = engine_home(request, tmp_path)
    made.warehouse.ensure([ORDERS])
    return made


def tell(home, *channels):
    return send(home.warehouse, channels, ABOUT, "local")


def rows(*amounts, day=DAY1):
    return [{"id": n, "day": day, "amount": amount} for n, amount in enumerate(amounts)]


def load(home, *amounts, day=DAY1, run_id="run1"):
    home.load(ORDERS, [home.deliver(ORDERS, rows(*amounts, day=day), partition=day)], run_id)
    home.judge(ORDERS, "small", run_id=run_id)


def judge(home, **changes):
    """A verdict as the ledger has them."""
    verdict = Verdict(
        "staging.orders", "2024-01-01", "small", "hash", Dimension.VALIDITY, Severity.WARNING, False, 1.0, "mustBe 0",
        1, 2, "v1", "1.0.0", "orders.scan", "run1", now(),
    )  # fmt: skip
    home.ledger.record_verdicts([replace(verdict, **changes)])


@on_both
def test_told_once_until_it_changes_and_when_it_is_well_again(home):
    channel = Kept()
    judge(home)
    judge(home, partition_key="2024-01-02", passed=True)
    assert tell(home, channel).alerts == {"webhook": 1}
    assert channel.last == [("open", "small", "2024-01-01")]
    judge(home, run_id="run2")  # the same again
    assert tell(home, channel).alerts == {"webhook": 0}
    judge(home, run_id="run3", observed=2.0)
    assert tell(home, channel).alerts == {"webhook": 1}
    assert channel.messages[-1].alerts[0].observed == "2"
    judge(home, run_id="run4", passed=True, observed=0.0)
    assert tell(home, channel).alerts == {"webhook": 1}
    assert channel.last == [("recovered", "small", "2024-01-01")]
    assert tell(home, channel).alerts == {"webhook": 0}
    judge(home, run_id="run5", observed=2.0)  # as before it was well
    assert tell(home, channel).alerts == {"webhook": 1}
    assert len({message.id for message in channel.messages}) == len(channel.messages) == 4


@ALL_ENGINES
def test_what_is_loaded_and_judged(home):
    channel = Kept()
    load(home, 5, 500)
    load(home, 5, day=DAY2)
    assert tell(home, channel).alerts == {"webhook": 1}
    load(home, 600, run_id="run2")  # a second row
    assert tell(home, channel).alerts == {"webhook": 1}
    assert channel.messages[-1].alerts[0].observed == "2"
    home.warehouse.reset(ORDERS)
    load(home, 5, run_id="run3")
    assert tell(home, channel).alerts == {"webhook": 1}
    assert channel.last == [("recovered", "small", "2024-01-01")]


@pytest.mark.parametrize("home", ["duckdb"], indirect=True)
def test_a_file_that_was_left_out(home):
    """Open until a later run loads something for its partition; the same delivery, loaded anew, doesn't mend it."""
    channel, many = Kept(), range(1000)
    names = ["a.parquet", "b.parquet"]
    bad = home.deliver(ORDERS, rows(*many), rows(*many), partition=DAY1, landed=names)
    same = home.deliver(ORDERS, rows(*many, day=DAY2), rows(*many, day=DAY2), partition=DAY2, landed=names)
    home.break_page(bad, 1)
    home.break_page(same, 1)  # another file of that name
    home.load(ORDERS, run_id="run1")
    assert tell(home, channel).alerts == {"webhook": 2}
    alert, other = channel.messages[-1].alerts
    assert other.partition == str(DAY2)
    assert (alert.kind, str(alert.status), alert.table, alert.partition, alert.owner, alert.run_id) == (
        Problem.DELIVERY_REFUSED, "open", "staging.orders", str(DAY1), "shop", "run1"
    )  # fmt: skip
    assert alert.observed.startswith("b.parquet: a damaged parquet file")
    assert tell(home, channel).alerts == {"webhook": 0}
    home.warehouse.reset(ORDERS)
    home.load(ORDERS, run_id="run2")
    assert tell(home, channel).alerts == {"webhook": 0}
    home.load(ORDERS, [home.deliver(ORDERS, rows(*many), partition=DAY1, landed=["b.parquet"])], run_id="run3")
    assert tell(home, channel).alerts == {"webhook": 1}
    assert channel.last == [("recovered", None, str(DAY1))]


FAILURES = [(Unavailable("nobody is there"), "nobody is there"), (KeyError("ok"), "KeyError: 'ok'")]


@pytest.mark.parametrize("home", ["duckdb"], indirect=True)
@pytest.mark.parametrize(("failure", "said"), FAILURES)
def test_a_channel_that_fails_is_told_next_time_and_keeps_no_other_waiting(home, failure, said, caplog, monkeypatch):
    """For a reason that is known, or for one that nobody thought of: that one is logged with its traceback."""
    monkeypatch.setattr(outbox.log, "propagate", True)
    good, bad = Kept("log"), Kept("slack")
    bad.fails = failure
    load(home, 500)
    sent = tell(home, bad, good)
    assert (sent.alerts, sent.failed) == ({"log": 1}, {"slack": said})
    assert ("Traceback" in caplog.text) is isinstance(failure, KeyError)
    bad.fails = None
    assert tell(home, bad, good).alerts == {"slack": 1, "log": 0}
    assert (len(bad.messages), len(good.messages)) == (1, 1)


@ALL_ENGINES
def test_a_process_that_dies_before_it_writes_down_what_it_told_tells_it_again(home, monkeypatch):
    channel = Kept()
    load(home, 500)

    def dies(*_args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(outbox, "record", dies)
        with pytest.raises(KeyboardInterrupt):
            tell(home, channel)
    home.judge(ORDERS, "small", run_id="run2")  # meanwhile it is judged again, and no better
    assert tell(home, channel).alerts == {"webhook": 1}
    first, second = channel.messages
    assert second.alerts[0].run_id == "run2"
    assert first.id == second.id  # so that the receiver can tell
    assert tell(home, channel).alerts == {"webhook": 0}


@ALL_ENGINES
def test_a_breaker_and_what_comes_after(home):
    channel = Kept()
    strict = replace(ORDERS, rules=(rule("positive", RuleKind.RANGE, "amount", minimum=0), *ORDERS.rules))
    home.load(strict, [home.deliver(strict, rows(-1, 5), partition=DAY1)], "run1")
    assert tell(home, channel).alerts == {"webhook": 1}
    (alert,) = channel.messages[-1].alerts
    assert (alert.kind, alert.observed, alert.expected) == (
        "breaker_tripped", "1 of 2 rows break blocking rules", "maxRows 0",
    )  # fmt: skip
    home.load(strict, run_id="run2")  # still there, still refused
    assert tell(home, channel).alerts == {"webhook": 0}
    home.load(strict, [home.deliver(strict, rows(1, 5), partition=DAY1)], "run3")
    assert tell(home, channel).alerts == {"webhook": 1}
    assert channel.last == [("recovered", None, "2024-01-01")]


@on_both
def test_a_delivery_that_is_loaded_after_a_newer_one(home):
    """That one was loaded by the run that refused it, and it only once more bad rows were allowed."""
    channel = Kept()
    first, newer = (f"_deliveries/raw_orders/2024-01-01/2024-02-01T00:0{n}:00.000Z.json" for n in (1, 2))

    def loaded(manifest, run_id):
        load = {"load_id": manifest, "table_name": "orders", "partition_key": "2024-01-01", "manifest": manifest}
        others = {name: "" if kind == pa.string() else 0 for name, kind in TABLES["loads"].items()}
        rows = [others | load | {"run_id": run_id, "created_at": now(), "loaded_at": now()}]
        home.warehouse.append("loads", pa.Table.from_pylist(rows, schema=schema("loads")))

    home.ledger.refuse([Refused("orders", "2024-01-01", "too many bad rows", "run1", first)])
    loaded(newer, "run1")
    assert tell(home, channel).alerts == {"webhook": 1}
    loaded(first, "run2")
    assert tell(home, channel).alerts == {"webhook": 1}
    assert channel.last == [("recovered", None, "2024-01-01")]
    assert channel.messages[-1].alerts[0].run_id == "run2"


@on_both
def test_a_file_that_is_refused_for_several_partitions(home):
    channel = Kept()
    days = ["2024-01-01", "2024-01-02"]
    home.ledger.refuse([Refused("orders", day, "no header", "by-hand-1", file="/x.csv#7") for day in days])
    assert tell(home, channel).alerts == {"webhook": 2}
    assert channel.last == [("open", None, day) for day in days]
    assert tell(home, channel).alerts == {"webhook": 0}


@ALL_ENGINES
def test_how_runs_ended(home):
    channel = Kept()
    failed = RunEnd("r1", "pipeline", "all", RunStatus.FAILURE, ("raw__orders",), {"staging__orders": "no'; x"}, now())
    home.ledger.record_run_ends([failed])
    home.ledger.record_run_ends([failed])  # by the daemon and by the terminal
    assert home.ledger.run_ends(now() - timedelta(hours=1)) == [failed]
    assert home.ledger.ended_runs(now() - timedelta(hours=1)) == {"r1": failed.ended_at}
    assert tell(home, channel).alerts == {"webhook": 1}
    done = RunEnd("r2", "pipeline", "all", RunStatus.SUCCESS, ("staging__orders",), {}, now())
    home.ledger.record_run_ends([done])
    assert tell(home, channel).alerts == {"webhook": 1}
    assert channel.last == [("recovered", None, "all")]


@ALL_ENGINES
def test_what_is_old_is_not_read_again(home, monkeypatch):
    """Costs follow what is new: a verdict from before the last look, and its overlap, isn't looked at."""
    channel = Kept()
    asked = []
    query = home.warehouse.query
    monkeypatch.setattr(home.warehouse, "query", lambda sql: asked.append(sql) or query(sql))
    load(home, 500)
    asked.clear()
    assert tell(home, channel).alerts == {"webhook": 1}
    assert len(asked) == 5
    moment = now() + looking.OVERLAP + timedelta(hours=2)
    with monkeypatch.context() as patch:
        for module in (outbox, ledger_module):
            patch.setattr(module, "now", lambda: moment)
        tell(home, channel)  # looks through the ledger up to then, and writes that down
        found = facts_module.told(home.warehouse, ["webhook"])["webhook"]
        assert found.seen == moment
        assert [a.status for a in found.open.values()] == [Status.OPEN]
        assert facts_module.facts(home.warehouse, ABOUT, found.since(moment)).verdicts == []


@ALL_ENGINES
def test_a_channel_that_is_new_hears_of_the_last_days_only(home, monkeypatch):
    load(home, 500)
    later = datetime.now(UTC) + looking.LOOK_BACK + timedelta(hours=1)
    monkeypatch.setattr(outbox, "now", lambda: later)
    assert tell(home, Kept()).alerts == {"webhook": 0}


@ALL_ENGINES
def test_a_year_of_days_is_one_message(home):
    channel = Kept()
    load(home, 500)
    (verdict,) = home.ledger.latest_verdicts(["staging.orders"])["staging.orders"]["2024-01-01"]
    days = [str(DAY1 + timedelta(days=n)) for n in range(366)]
    home.ledger.record_verdicts([replace(verdict, partition_key=day, evaluated_at=now()) for day in days])
    assert tell(home, channel).alerts == {"webhook": 366}
    assert tell(home, channel).alerts == {"webhook": 0}
    assert len(channel.messages) == 1
