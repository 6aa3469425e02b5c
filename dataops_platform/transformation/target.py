"""Where dbt builds: a target of `profiles.yml`, what that target reads, and who dbt is on BigQuery."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dataops_platform.identity import Identity

if TYPE_CHECKING:
    from google.cloud.bigquery import Client


@dataclass(frozen=True, slots=True)
class DbtTarget:
    """One target of the profile.

    Attributes:
        name: its name: local, staging or production.
        dialect: its engine, which names dbt's adapter and the SQL dialect: duckdb or bigquery.
        variables: the environment variables that it reads. No secrets: dbt writes them down.
        client: makes the clients of BigQuery that dbt works with; None where dbt connects by itself.
    """

    name: str
    dialect: str
    variables: Mapping[str, str]
    client: Callable[[], Client] | None = None

    @classmethod
    def duckdb(cls, name: str, path: Path) -> DbtTarget:
        """A target in the warehouse file at `path`."""
        return cls(name, "duckdb", {"DATAOPS_WAREHOUSE_PATH": str(path)})

    @classmethod
    def bigquery(
        cls,
        name: str,
        identity: Identity,
        project: str,
        location: str | None = None,
        maximum_bytes_billed: int | None = None,
    ) -> DbtTarget:
        """A target on BigQuery.

        Args:
            name: of the target.
            identity: who dbt is.
            project: of the models and their sources; jobs run there too.
            location: of jobs, and of the dataset if dbt makes it; default: the service's.
            maximum_bytes_billed: BigQuery refuses a query that would be billed for more; None: no limit.
        """
        variables = {
            "DATAOPS_BIGQUERY_PROJECT": project,
            "DATAOPS_BIGQUERY_LOCATION": location or "",
            "DATAOPS_BIGQUERY_MAXIMUM_BYTES_BILLED": str(maximum_bytes_billed or 0),
            "BIGQUERY_EMULATOR_HOST": identity.bigquery_emulator or "",
        }
        return cls(name, "bigquery", variables, lambda: identity.bigquery_client(project, location))

    @contextmanager
    def connecting(self) -> Iterator[None]:
        """Have dbt connect as the platform does, inside; afterwards it holds nothing.

        DuckDB's file is let go: other steps write it, and those of other processes.
        dbt-bigquery works with clients of the platform.
        By itself it knows neither chains of impersonation nor most external accounts, wants a key in its profile,
        and starts `gcloud auth application-default login` where there are no credentials. So there is one way to be
        somebody on Google Cloud, `Identity`; its tokens are renewed during builds of more than an hour.
        """
        make = self.client
        if make is None:
            try:
                yield
            finally:
                _let_go()
            return
        from dbt.adapters.bigquery import clients

        before = clients._create_bigquery_client
        clients._create_bigquery_client = lambda credentials: make()
        try:
            yield
        finally:
            clients._create_bigquery_client = before


def _let_go() -> None:
    """Close the file that dbt-duckdb keeps open where the profile says so (`keep_open`)."""
    from dbt.adapters.duckdb.connections import DuckDBConnectionManager as Connections

    if Connections._ENV is not None:
        Connections._ENV.close()
