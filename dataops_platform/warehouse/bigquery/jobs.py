"""Jobs: started under names of our own, so that a repeated call finds the first instead of doing the work twice."""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from google.api_core import exceptions as api
from google.cloud import bigquery

from dataops_platform.contracts.problems import DataOpsError, Unavailable
from dataops_platform.google_errors import google_errors
from dataops_platform.warehouse.base import NoSuchTable

_Job = TypeVar("_Job", bigquery.QueryJob, bigquery.LoadJob, bigquery.ExtractJob, bigquery.CopyJob)

ATTEMPTS = 8
"""How often a job is started anew, when another transaction got in its way or the service failed it."""

_AGAIN = {
    "backendError",
    "internalError",
    "rateLimitExceeded",
    "jobBackendError",
    "jobInternalError",
    "tableUnavailable",
}
_CONFLICT = ("concurrent update", "due to concurrent", "could not serialize access", "transaction conflict")


class JobFailed(DataOpsError):
    """A job ended with an error that is neither the service's nor a conflict: `reason` and `text` as BigQuery says."""

    def __init__(self, reason: str, text: str) -> None:
        self.reason, self.text = reason, text
        super().__init__(f"BigQuery: {text}")


@dataclass(frozen=True, slots=True)
class Cost:
    """What queries cost.

    Attributes:
        bytes_billed: bytes that BigQuery charges for (on demand).
        slot_milliseconds: compute time.
    """

    bytes_billed: int = 0
    slot_milliseconds: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.bytes_billed + other.bytes_billed, self.slot_milliseconds + other.slot_milliseconds)


def job_name(kind: str, *identity: object) -> str:
    """A job id that is the same for the same work."""
    digest = hashlib.sha256("\0".join(map(str, identity)).encode()).hexdigest()[:24]
    return f"dataops-{kind}-{digest}"


def label(text: str) -> str:
    """Text as a label's value: lower case, letters, digits, dashes and underscores, 63 characters at most."""
    return "".join(c if c.isalnum() or c in "-_" else "_" for c in text.lower())[:63]


class Jobs:
    """Runs jobs in one project and location."""

    def __init__(
        self,
        client: bigquery.Client,
        location: str | None,
        maximum_bytes_billed: int | None = None,
        labels: Mapping[str, str] | None = None,
        pause: float = 0.5,
    ) -> None:
        """Args:
        maximum_bytes_billed: a query that would cost more is refused by BigQuery before it runs.
        labels: on every job.
        pause: seconds before the second attempt; doubled for each further one.
        """
        self.client = client
        self.location = location
        self._maximum = maximum_bytes_billed
        self._labels = dict(labels or {})
        self._pause = pause
        self.cost = Cost()

    def labels(self, **more: str | None) -> dict[str, str]:
        """The labels of every job and more."""
        return self._labels | {name: label(value) for name, value in more.items() if value}

    def words(self, what: str) -> AbstractContextManager[None]:
        """Google's errors in words; see `google_errors`."""
        return google_errors(what, f"BigQuery project {self.client.project}", "bigquery.jobs.create")

    def query_config(self, labels: Mapping[str, str] | None = None, **more: Any) -> bigquery.QueryJobConfig:
        """Configuration of a query: limits, labels, and parameters in `more`."""
        config = bigquery.QueryJobConfig(labels=dict(labels or self._labels), **more)
        if self._maximum is not None:
            config.maximum_bytes_billed = self._maximum
        return config

    def run(self, name: str, start: Callable[[str], _Job], done: Callable[[], bool] | None = None) -> _Job:
        """Run a job to its end, under a name that says what it does.

        A job of that name that is there already (a call whose answer was lost, or a run that was killed) is waited
        for. One that had failed before, or that succeeded without its work being there any more, is not taken for
        ours: the job is started under the next name.

        Args:
            start: starts the job under the id given.
            done: whether the work of a job that was found is there; by default a job that succeeded has done it.

        Raises:
            JobFailed: the job failed for a reason of its own.
            Unavailable: it could not be run, however often it was tried.
        """
        last = ""
        for attempt in range(ATTEMPTS):
            if attempt:
                time.sleep(self._pause * 2 ** min(attempt - 1, 5) * (0.5 + random.random()))
            job_id, found = f"{name}-{attempt}", False
            try:
                with self.words("run a job in"):
                    try:
                        job = start(job_id)
                    except api.Conflict:
                        found = True
                        job = cast(_Job, self.client.get_job(job_id, location=self.location))
                    job.result()
            except api.NotFound as error:
                raise NoSuchTable(_text(error)) from error
            except api.GoogleAPICallError as error:
                reason, last = _reason(error), _text(error)
                if found or _may_go_better(reason, last):
                    continue
                raise JobFailed(reason, last) from error
            if found and done is not None and not done():
                continue
            self._count(job)
            return job
        raise Unavailable(f"BigQuery could not finish a job in {ATTEMPTS} attempts: {last}")

    def _count(self, job: Any) -> None:
        billed, slots = getattr(job, "total_bytes_billed", None), getattr(job, "slot_millis", None)
        self.cost += Cost(billed or 0, slots or 0)


def _may_go_better(reason: str, text: str) -> bool:
    return reason in _AGAIN or any(words in text.lower() for words in _CONFLICT)


def _reason(error: api.GoogleAPICallError) -> str:
    for item in error.errors or ():
        if isinstance(item, Mapping) and item.get("reason"):
            return str(item["reason"])
    return ""


def _text(error: api.GoogleAPICallError) -> str:
    return " ".join(str(error.message).split("\n")[0].split())
