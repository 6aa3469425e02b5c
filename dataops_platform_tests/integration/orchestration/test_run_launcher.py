"""A run's process is known to live, or to have died, whoever began it."""

import os
import subprocess
import sys
import time

import dagster as dg
import pytest
from dagster._core.events import EngineEventData
from dagster._core.launcher import WorkerStatus

from dataops_platform.orchestration import run_launcher
from dataops_platform.orchestration.run_launcher import EmbeddedRunLauncher, fail_dead_runs, lives


@dg.op
def nothing() -> None:
    pass


@dg.job
def job() -> None:
    nothing()


@pytest.fixture
def instance(tmp_path):
    launcher = {"module": run_launcher.__name__, "class": "EmbeddedRunLauncher"}
    with dg.DagsterInstance.local_temp(str(tmp_path), overrides={"run_launcher": launcher}) as made:
        yield made


@pytest.fixture
def run(instance):
    return instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED)


def ended() -> int:
    """The id of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def health(instance: dg.DagsterInstance, run: dg.DagsterRun) -> WorkerStatus:
    assert isinstance(instance.run_launcher, EmbeddedRunLauncher)
    return instance.run_launcher.check_run_worker_health(run).status


def test_the_process_that_said_last_that_it_executes_the_run(instance, run):
    def says(pid: int) -> None:
        instance.report_engine_event("executes it", run, EngineEventData.in_process(pid))

    says(os.getpid())
    assert health(instance, run) is WorkerStatus.RUNNING
    says(ended())
    assert health(instance, run) is WorkerStatus.NOT_FOUND
    says(os.getpid())
    assert health(instance, run) is WorkerStatus.RUNNING


def test_dead_runs_are_failed_and_living_ones_are_not(instance):
    """Where no daemon does it: the terminal does, before it tells what happened."""
    runs = {pid: instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED) for pid in (os.getpid(), ended())}
    for pid, run in runs.items():
        instance.report_engine_event("executes it", run, EngineEventData.in_process(pid))
    fail_dead_runs(instance)
    alive, dead = (instance.get_run_by_id(run.run_id).status for run in runs.values())
    assert (alive, dead) == (dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.FAILURE)


def test_a_run_that_does_not_say_where_it_is(instance, run, monkeypatch):
    instance.report_dagster_event(dg.DagsterEvent("PIPELINE_START", run.job_name), run.run_id)
    instance.report_engine_event("of something else", run)
    assert health(instance, run) is WorkerStatus.RUNNING
    monkeypatch.setattr(run_launcher, "UNNAMED_SECONDS", 0)
    assert health(instance, run) is WorkerStatus.NOT_FOUND


def test_another_process_has_the_id_by_now():
    assert lives(os.getpid(), time.time())
    assert not lives(os.getpid(), time.time() - 7 * 24 * 3600)


def test_a_process_that_nobody_waited_for():
    process = subprocess.Popen([sys.executable, "-c", ""])
    deadline = time.monotonic() + 30
    while lives(process.pid, time.time()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not lives(process.pid, time.time())
    process.wait()


def test_a_run_of_the_terminal_is_known(instance):
    """It is executed in the process that began it."""
    told = []

    @dg.op
    def asks(context: dg.OpExecutionContext) -> None:
        told.append(health(instance, context.run))

    @dg.job
    def asking() -> None:
        asks()

    assert asking.execute_in_process(instance=instance).success
    assert told == [WorkerStatus.RUNNING]
