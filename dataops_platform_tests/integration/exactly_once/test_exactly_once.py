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


@pytest.mark.parametrize("mode", MODES)
def test_some_histories(processes, mode):
    met = carry_out(processes, mode, 2, 12)
    assert met["rows staged"]


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("mode", MODES)
def test_many_histories(processes, mode):
    """Runs are killed at every kind of boundary, and what is to happen happens."""
    met = carry_out(processes, mode, 50, 25)
    boundaries = [
        f"killed {when} {what}"
        for when in ("before", "after")
        for what in ("create raw_t", "create _deliveries", "create _landings", "remove landed", "COMMIT")
    ]
    written = ['INSERT INTO "staging"."t"', 'INSERT INTO "quarantine"."t"', 'INSERT INTO dataops."loads"']
    wanted = [
        *boundaries,
        *(f"killed before {what}" for what in written),
        "refused deliveries",
        "rows held",
        "rows dropped",
        "held in the warehouse",
    ]
    wanted += [] if mode == "append" else ["rows lost to later ones", 'killed before DELETE FROM "staging"."t"']
    assert not [name for name in wanted if not met[name]]
