"""Whatever arrives, in whatever order, and whoever is killed when: each row is loaded once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from dataops_platform_tests.integration.exactly_once.machine import Machine
from dataops_platform_tests.integration.exactly_once.processes import Processes

PHASES = (Phase.explicit, Phase.reuse, Phase.generate)
"""Every step is a process: making a failing history shorter would take longer than a test may."""
QUIET = settings(deadline=None, suppress_health_check=list(HealthCheck), print_blob=True, phases=PHASES)
MODES = ("append", "merge", "replace")


@pytest.fixture(scope="module")
def processes() -> Iterator[Processes]:
    made = Processes()
    yield made
    made.close()


def carry_out(processes: Processes, mode: str, histories: int, steps: int) -> Counter[str]:
    """Random histories; what they met."""
    made = type("Of", (Machine,), {"mode": mode, "processes": processes, "met": Counter()})
    run_state_machine_as_test(made, settings=settings(QUIET, max_examples=histories, stateful_step_count=steps))
    return made.met


LONG = pytest.mark.long


@pytest.mark.parametrize("mode", ["merge", pytest.param("append", marks=LONG), pytest.param("replace", marks=LONG)])
def test_some_histories(processes, mode):
    met = carry_out(processes, mode, 2, 8)
    assert met["rows staged"]


def history(processes: Processes, mode: str) -> Machine:
    """The beginning of one: something of the source, and something in landing that is to be removed."""
    made = type("Of", (Machine,), {"mode": mode, "processes": processes, "met": Counter()})()
    made.first("2024-01-01", [(0, 1, "a", 1), (0, 2, "a", -1)], True)
    made.objects_land([("2024-01-01", 3, [(0, 1, "b", 2)]), ("2024-01-02", 4, [(0, 1, "c", 2), (1, 2, "c", 2)])])
    return made


def runs_meet(processes: Processes, mode: str, hold: int | str) -> bool:
    """One run is held at a boundary while another one sees more than it; whether it came to that boundary."""
    made = history(processes, mode)
    made.run_at_once(None, None, 1000, hold, "2024-01-01", [(0, 3, "a", 1)], (30, [(0, 3, "b", 1)]), None, None)
    made.teardown()
    return bool(made.met["held in the lake"] + made.met["held in the warehouse"])


@pytest.mark.parametrize(
    "hold", ["before create _landings", pytest.param("after create _landings", marks=LONG), "before remove landed"]
)
def test_runs_meet_where_it_is_decided(processes, hold):
    assert runs_meet(processes, "append", hold)


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("mode", MODES)
def test_runs_meet_at_every_boundary(processes, mode):
    boundaries = 0
    while runs_meet(processes, mode, boundaries):
        boundaries += 1
    assert boundaries > 30


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("mode", MODES)
def test_killed_at_every_boundary(processes, mode):
    """One after the other: first a table's first run, then its second."""
    met: Counter[str] = Counter()
    for earlier in (False, True):
        boundaries = killed = 0
        while killed == boundaries:
            made = history(processes, mode)
            if earlier:
                made.runs(None, 1000)
                made.objects_land([("2024-01-01", 5, [(0, 1, "d", 2), (0, 4, None, 2)])])
                made.source_has_more([("2024-01-02", 6, [[(0, 2, "d", 2)]])])
            made.runs_and_is_killed(None, 1000, [boundaries])
            killed += made.met["not killed"] == int(earlier)
            boundaries += 1
            made.teardown()
            met += made.met
        assert killed > 30
    wanted = [
        f"killed {when} {what}"
        for when in ("before", "after")
        for what in ("create raw_t", "create _deliveries", "create _landings", "remove landed", "COMMIT")
    ]
    written = ['INSERT INTO "staging"."t"', 'INSERT INTO "quarantine"."t"', 'INSERT INTO dataops."loads"']
    wanted += [f"killed before {what}" for what in written]
    wanted += [] if mode == "append" else ['killed before DELETE FROM "staging"."t"']
    assert not [name for name in wanted if not met[name]]


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("mode", MODES)
def test_many_histories(processes, mode):
    """What is to happen happens; that processes die at every boundary is for the test before."""
    met = carry_out(processes, mode, 50, 25)
    wanted = ["refused deliveries", "rows held", "rows dropped", "held in the warehouse", "killed before COMMIT"]
    wanted += ["landed by hand before"]
    wanted += [] if mode == "append" else ["rows lost to later ones"]
    assert not [name for name in wanted if not met[name]]
