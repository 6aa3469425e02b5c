"""Jobs: started under names of our own, so that a repeated call finds the first instead of doing the work twice."""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from threading import Lock
from typing import Any, TypeVar, cast

from google.api_core import exceptions as api
from google.api_core.retry import Retry
from google.cloud import bigquery

from dataops_platform.contracts.problems import DataOpsError, Unavailable
from dataops_platform.google_errors import ONCE, RETRY, google_errors, may_pass
from dataops_platform.warehouse.base import Cost, NoSuchTable

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
        self.retry: Retry = RETRY
        """For every call of the client: by themselves, some of them go on for the better part of an hour."""
        self._cost = Cost()
        self._counting = Lock()

    @contextmanager
    def work(self, **labels: str) -> Iterator[Callable[[], Cost]]:
        """Labels for every job inside; gives a function that tells what they have cost so far."""
        before, start = self._labels, self._cost
        self._labels = self.labels(**labels)
        try:
            yield lambda: self._cost - start
        finally:
            self._labels = before

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
            start: starts the job under the id given, by a call that isn't retried by itself: `retry` does it here.
            done: whether the work of a job that was found is there; by default a job that succeeded has done it.

        Raises:
            JobFailed: the job failed for a reason of its own.
            Unavailable: it could not be run, however often it was tried.
        """
        last = ""
        for attempt in range(ATTEMPTS):
            if attempt:
                time.sleep(self._pause * 2 ** min(attempt - 1, 5) * (0.5 + random.random()))
            try:
                with self.words("run a job in"):
                    job, found = self._begun(f"{name}-{attempt}", start)
                    failure = self._end(job)
            except api.GoogleAPICallError as refusal:  # there is no job
                found, failure = False, refusal
            if failure is not None:
                last = _text(failure)
                if not found and not _may_go_better(failure):
                    raise self._explained(failure) from failure
            elif not found or done is None or done():
                self._count(job)
                return job
        raise Unavailable(f"BigQuery could not finish a job in {ATTEMPTS} attempts: {last}")

    def _begun(self, job_id: str, start: Callable[[str], _Job]) -> tuple[_Job, bool]:
        """The job of that id, and whether it was there before."""
        try:
            return self.retry(start)(job_id), False
        except api.Conflict:
            # That it is there may be known in one place before it is in another.
            sure = self.retry.with_predicate(lambda error: may_pass(error) or isinstance(error, api.NotFound))
            return cast(_Job, self.client.get_job(job_id, location=self.location, retry=sure)), True

    def _end(self, job: Any) -> api.GoogleAPICallError | None:
        """Wait for the end of a job; what it failed of. An error is raised if it was the question that failed."""
        try:
            job.result(retry=self.retry)
        except (api.GoogleAPICallError, api.RetryError):
            if job.state != "DONE":
                job.reload(retry=self.retry)
            if job.error_result is None:
                raise
            return cast(api.GoogleAPICallError, job.exception())
        return None

    def _explained(self, failure: api.GoogleAPICallError) -> DataOpsError:
        try:
            with self.words("run a job in"):
                raise failure
        except api.NotFound:
            return NoSuchTable(_text(failure))
        except api.GoogleAPICallError:
            return JobFailed(_reason(failure), _text(failure))
        except DataOpsError as error:
            return error

    def ask(self, sql: str, config: bigquery.QueryJobConfig) -> tuple[bigquery.QueryJob, bigquery.table.RowIterator]:
        """Run a query that changes nothing, and so may run more than once; its job and its rows.

        Raises:
            ConfigError: it would be billed for more than the limit.
            Unavailable: no answer after all retries.
        """

        def asked() -> tuple[bigquery.QueryJob, bigquery.table.RowIterator]:
            # Once by the client, which would retry with a patience of its own; again by us.
            job = self.client.query(sql, job_config=config, location=self.location, retry=ONCE, job_retry=None)
            return job, job.result(retry=self.retry, job_retry=None)

        with self.words("query"):
            job, rows = self.retry(asked)()
        self._count(job)
        return job, rows

    def select(self, sql: str, config: bigquery.QueryJobConfig) -> list[bigquery.Row]:
        """The rows of a query; see `ask`."""
        _, rows = self.ask(sql, config)
        with self.words("read rows in"):
            return list(rows)

    def _count(self, job: Any) -> None:
        billed, slots = getattr(job, "total_bytes_billed", None), getattr(job, "slot_millis", None)
        with self._counting:
            self._cost += Cost(1, billed or 0, slots or 0)


def _may_go_better(failure: api.GoogleAPICallError) -> bool:
    text = str(failure.message).lower()
    return _reason(failure) in _AGAIN or any(words in text for words in _CONFLICT)


def _reason(error: api.GoogleAPICallError) -> str:
    for item in error.errors or ():
        if isinstance(item, Mapping) and item.get("reason"):
            return str(item["reason"])
    return ""


def _text(error: api.GoogleAPICallError) -> str:
    return " ".join(str(error.message).split("\n")[0].split())
