"""Leases: for a while, one run at a time may build a model, and one process empty a table.

A lease is a row of the ledger's `leases`. Its holder writes a token of its own into it, and renews it while the work
goes on; when the holder dies it runs out, and the next may have it. Whoever still finds his token in the row at the end
has held it all the time: nobody else can have had it in between without leaving another. Only BigQuery's clock counts.
"""

from __future__ import annotations

import random
import threading
import time
import uuid
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from itertools import count

from google.cloud import bigquery

from dataops_platform.contracts.problems import DataOpsError, Unavailable
from dataops_platform.google_errors import ONCE
from dataops_platform.warehouse.base import EXCLUSIVE_WAIT_SECONDS, busy
from dataops_platform.warehouse.bigquery.jobs import Jobs, job_name
from dataops_platform.warehouse.bigquery.naming import Naming
from dataops_platform.warehouse.names import LEDGER, Relation, literal

SECONDS = 180
"""How long a lease lasts that isn't renewed."""
RENEWAL_SECONDS = 60.0
POLL_SECONDS = 5.0


class Leases:
    """Takes leases in one project."""

    def __init__(self, jobs: Jobs, naming: Naming, wait: float = EXCLUSIVE_WAIT_SECONDS) -> None:
        self._jobs = jobs
        self._table = naming.sql(Relation(LEDGER, "leases"))
        self._wait = wait
        self.poll = POLL_SECONDS

    @contextmanager
    def held(self, names: Collection[str], holder: str) -> Iterator[Callable[[], bool]]:
        """All leases of these names, or none; waits for them. Gives a function that returns them, and tells whether
        they were held all the time.

        Args:
            holder: who that is, for those who wait in vain.

        Raises:
            Unavailable: somebody else holds one of them, for longer than the time to wait.
        """
        lease = _Lease(self._jobs, self._table, sorted(names), holder)
        deadline = time.monotonic() + self._wait
        while (taken := lease.take()) is not None:
            if time.monotonic() > deadline:
                raise Unavailable(busy(taken))
            time.sleep(self.poll * (0.5 + random.random()))  # of two that want each other's, one comes first
        stop = threading.Event()
        renewal = threading.Thread(target=lease.keep, args=(stop,), daemon=True, name="lease")
        renewal.start()
        returned = False

        def give_back() -> bool:
            nonlocal returned
            stop.set()
            renewal.join()
            returned = True
            return lease.give_back()

        try:
            yield give_back
        finally:
            if not returned:
                with suppress(DataOpsError):  # it runs out by itself; what went wrong inside matters more
                    give_back()


class _Lease:
    """One holder's rows."""

    def __init__(self, jobs: Jobs, table: str, names: Collection[str], holder: str) -> None:
        self._jobs = jobs
        self._table = table
        self._names = names
        self._holder = holder
        self._token = str(uuid.uuid4())
        self._numbers = count()
        self._rows = 0

    def _run(self, kind: str, sql: str) -> bigquery.QueryJob:
        config = self._jobs.query_config(
            query_parameters=[
                bigquery.ScalarQueryParameter("token", "STRING", self._token),
                bigquery.ScalarQueryParameter("holder", "STRING", self._holder),
            ]
        )
        return self._jobs.run(
            job_name(kind, self._token, next(self._numbers)),
            lambda job_id: self._jobs.client.query(
                sql, job_config=config, job_id=job_id, location=self._jobs.location, retry=ONCE, job_retry=None
            ),
        )

    def take(self) -> str | None:
        """Take the leases; who has which of them, if not all can be had: then those that could be are given back.

        A row that is missing is inserted first. Two runs may both do that; a lease is then all rows of its name, which
        one statement takes together. Statements that update the same rows follow each other on BigQuery.
        """
        names = ", ".join(literal(name, "bigquery") for name in self._names)
        self._run(
            "lease",
            f"INSERT INTO {self._table} (name, holder, token, taken_at, until)"
            f" SELECT n, '', '', CURRENT_TIMESTAMP(), CURRENT_TIMESTAMP() FROM UNNEST([{names}]) AS n"
            f" WHERE n NOT IN (SELECT name FROM {self._table});\n"
            f"UPDATE {self._table} SET token = @token, holder = @holder, taken_at = CURRENT_TIMESTAMP(),"
            f" until = {_later()} WHERE name IN ({names}) AND (token IN ('', @token) OR until < CURRENT_TIMESTAMP());",
        )
        rows = self._jobs.select(
            f"SELECT name, holder, token, CAST(taken_at AS STRING) AS since FROM {self._table} WHERE name IN ({names})",
            self._jobs.query_config(),
        )
        self._rows = sum(row["token"] == self._token for row in rows)
        others = sorted({f"{r['name']} by {r['holder']} since {r['since']}" for r in rows if r["token"] != self._token})
        if others:
            self.give_back()
        return "; ".join(others) or None

    def keep(self, stop: threading.Event) -> None:
        """Renew the leases until told to stop."""
        sql = f"UPDATE {self._table} SET until = {_later()} WHERE token = @token"
        while not stop.wait(RENEWAL_SECONDS):
            with suppress(DataOpsError):  # the next renewal may succeed; the end tells whether it was enough
                self._run("renew", sql)

    def give_back(self) -> bool:
        """Return the leases; whether they were all still held."""
        sql = f"UPDATE {self._table} SET token = '', until = CURRENT_TIMESTAMP() WHERE token = @token"
        return self._run("return", sql).num_dml_affected_rows == self._rows


def _later() -> str:
    return f"TIMESTAMP_ADD(CURRENT_TIMESTAMP(), INTERVAL {SECONDS} SECOND)"
