"""Settings: one object, read from the environment; the scheme of a URL picks the adapter."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dataops_platform import addresses
from dataops_platform.alerts.settings import AlertSettings
from dataops_platform.contracts.model import Landing, Table
from dataops_platform.contracts.object_patterns import glob, overlap
from dataops_platform.contracts.problems import ConfigError
from dataops_platform.identity import Identity
from dataops_platform.ingestion.landing import Place
from dataops_platform.lake.inbox import Inbox, LocalInbox
from dataops_platform.lake.local import LocalStore
from dataops_platform.lake.store import ObjectStore
from dataops_platform.logs import log_format
from dataops_platform.secrets import Variables
from dataops_platform.warehouse.base import Warehouse

ENVIRONMENTS = ("local", "staging", "production")
AUTOMATIONS = ("schedule", "conditions")


@dataclass(frozen=True, slots=True)
class Settings:
    """Where everything is, and who the platform is. Any value may be `sm://project/name[#version]`: see `secrets`.

    Attributes:
        environment: DATAOPS_ENV: local (default: embedded), staging or production (Google Cloud); also the dbt target.
        project: DATAOPS_PROJECT: folder with `contracts/` and `dbt_project/`; default: the working directory.
        home: DATAOPS_HOME: state of the embedded mode; default: `.dataops` in the project.
        contracts: DATAOPS_CONTRACTS: folder of contract files; default: `contracts` in the project.
        dbt_project: DATAOPS_DBT_PROJECT: folder of the dbt project; default: `dbt_project` in the project.
        lake_url: DATAOPS_LAKE: `gs://bucket/prefix`; embedded: `file://<home>/lake`.
        production_lake_url: DATAOPS_PRODUCTION_LAKE: `gs://bucket/prefix`; embedded: `file://<home>/production_lake`.
        warehouse_url: DATAOPS_WAREHOUSE: `bigquery://project[/location]`; embedded: `duckdb://<home>/warehouse.duckdb`.
        production_project: DATAOPS_PRODUCTION_PROJECT: Google Cloud project of the production dataset; default: the
            warehouse's.
        maximum_bytes_billed: DATAOPS_MAXIMUM_BYTES_BILLED: BigQuery refuses a query that would be billed for more,
            like `500GB` (1 GB is 2^30 bytes); default: no limit.
        policy_tags: DATAOPS_POLICY_TAGS: `classification=policy tag` of the columns' classifications, separated by
            commas; default: none.
        notifications: DATAOPS_NOTIFICATIONS: `projects/<project>/subscriptions/<name>`, a Pub/Sub subscription that
            tells of new objects where others write; default: none, and landing is listed more often.
        events: DATAOPS_EVENTS: `pubsub://<project>/<topic>`, the Pub/Sub topic that events are published to, as its
            resource name; default: none.
        memory_limit: DATAOPS_MEMORY_LIMIT: of the embedded warehouse, like `2GB`; default: the engine's own.
        lock_wait: DATAOPS_LOCK_WAIT: seconds to wait for another process to release the embedded warehouse;
            default: 15.
        assets: DATAOPS_ASSETS: module with the project's own Python assets, found in the project folder too;
            default: the demo's, in projects that have the models it reads.
        git_commit: DATAOPS_GIT_COMMIT: written into manifests, set by the deployment.
        automation: DATAOPS_AUTOMATION: what starts runs: `schedule` (default), everything once a partition is over; or
            `conditions`, each asset when what it is made of has changed.
        log_format: DATAOPS_LOG_FORMAT: `text` (default), or `json`: one object a line, as Cloud Logging reads them.
        alerts: DATAOPS_ALERTS, DATAOPS_UI_URL and others: where alerts go; see `AlertSettings`.
        identity: DATAOPS_CREDENTIALS, DATAOPS_IMPERSONATE: who the platform is on Google Cloud; default: Application
            Default Credentials.
    """

    environment: str
    project: Path
    home: Path
    contracts: Path
    dbt_project: Path
    lake_url: str
    production_lake_url: str
    warehouse_url: str
    production_project: str | None = None
    maximum_bytes_billed: int | None = None
    policy_tags: Mapping[str, str] = field(default_factory=dict)
    notifications: str | None = None
    events: str | None = None
    memory_limit: str | None = None
    lock_wait: float = 15.0
    assets: str | None = None
    git_commit: str | None = None
    automation: str = AUTOMATIONS[0]
    log_format: str = "text"
    alerts: AlertSettings = field(default_factory=AlertSettings)
    identity: Identity = field(default_factory=Identity)

    @classmethod
    def load(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """Read the settings.

        Raises:
            ConfigError: a value can't be used; the text names the variable.
            Unavailable: a value refers to Secret Manager, which doesn't answer.
        """
        identity = Identity.load(environ)
        env = Variables(environ, identity.google_credentials)
        environment = env.get("DATAOPS_ENV") or "local"
        if environment not in ENVIRONMENTS:
            raise ConfigError(f"DATAOPS_ENV is {environment!r}; use one of {', '.join(ENVIRONMENTS)}")
        project = Path(env.get("DATAOPS_PROJECT") or _default_project()).expanduser().absolute()
        automation = env.get("DATAOPS_AUTOMATION") or AUTOMATIONS[0]
        if automation not in AUTOMATIONS:
            raise ConfigError(f"DATAOPS_AUTOMATION is {automation!r}; use one of {', '.join(AUTOMATIONS)}")
        home = Path(env.get("DATAOPS_HOME") or project / ".dataops").expanduser().absolute()
        if home.exists() and not home.is_dir():
            raise ConfigError(f"DATAOPS_HOME is {home}, which is not a folder")
        settings = cls(
            environment=environment,
            project=project,
            home=home,
            contracts=Path(env.get("DATAOPS_CONTRACTS") or project / "contracts").expanduser().absolute(),
            dbt_project=Path(env.get("DATAOPS_DBT_PROJECT") or project / "dbt_project").expanduser().absolute(),
            lake_url=addresses.address("DATAOPS_LAKE", env, environment, home / "lake"),
            production_lake_url=addresses.address(
                "DATAOPS_PRODUCTION_LAKE", env, environment, home / "production_lake"
            ),
            warehouse_url=addresses.address("DATAOPS_WAREHOUSE", env, environment, home / "warehouse.duckdb"),
            production_project=addresses.project_id(
                "DATAOPS_PRODUCTION_PROJECT", env.get("DATAOPS_PRODUCTION_PROJECT")
            ),
            maximum_bytes_billed=addresses.number_of_bytes(
                "DATAOPS_MAXIMUM_BYTES_BILLED", env.get("DATAOPS_MAXIMUM_BYTES_BILLED")
            ),
            policy_tags=addresses.policy_tags("DATAOPS_POLICY_TAGS", env.get("DATAOPS_POLICY_TAGS")),
            notifications=addresses.subscription("DATAOPS_NOTIFICATIONS", env.get("DATAOPS_NOTIFICATIONS")),
            events=addresses.topic("DATAOPS_EVENTS", env.get("DATAOPS_EVENTS")),
            memory_limit=env.get("DATAOPS_MEMORY_LIMIT") or None,
            lock_wait=addresses.number_of_seconds("DATAOPS_LOCK_WAIT", env.get("DATAOPS_LOCK_WAIT") or "15"),
            assets=env.get("DATAOPS_ASSETS") or None,
            git_commit=env.get("DATAOPS_GIT_COMMIT") or None,
            automation=automation,
            log_format=log_format(env),
            alerts=AlertSettings.load(env),
            identity=identity,
        )
        if env.get("DATAOPS_DBT_PROJECT") and not settings.dbt_project.is_dir():
            raise ConfigError(f"DATAOPS_DBT_PROJECT is {settings.dbt_project}, which is not a folder")
        settings._check_places()
        return settings

    def _check_places(self) -> None:
        """Report a wrong address now, not in the middle of a run."""
        places = {"DATAOPS_LAKE": self.lake_url, "DATAOPS_PRODUCTION_LAKE": self.production_lake_url}
        for variable, url in places.items():
            if self.on_google_cloud:
                addresses.bucket_and_prefix(variable, url)
            else:
                addresses.local_path(variable, url)
        if self.lake_url.rstrip("/") == self.production_lake_url.rstrip("/"):
            raise ConfigError(
                f"DATAOPS_LAKE and DATAOPS_PRODUCTION_LAKE are both {self.lake_url}; give production a place of its own"
            )
        if self.on_google_cloud:
            _ = self.bigquery
        else:
            addresses.local_path("DATAOPS_WAREHOUSE", self.warehouse_url)

    @property
    def on_google_cloud(self) -> bool:
        """Whether lake and warehouse are on Google Cloud; else both are embedded."""
        return self.environment != "local"

    @property
    def bigquery(self) -> addresses.BigQueryPlace:
        """Where the warehouse on BigQuery is.

        Raises:
            ConfigError: DATAOPS_WAREHOUSE doesn't say.
        """
        return addresses.bigquery_place("DATAOPS_WAREHOUSE", self.warehouse_url)

    def lake_store(self) -> ObjectStore:
        """The object store of the lake; nothing is opened yet.

        Raises:
            ConfigError: there are no credentials for it.
        """
        return self._store("DATAOPS_LAKE", self.lake_url)

    def production_store(self) -> ObjectStore:
        """The object store of the production lake; nothing is opened yet.

        Raises:
            ConfigError: there are no credentials for it.
        """
        return self._store("DATAOPS_PRODUCTION_LAKE", self.production_lake_url)

    def place(self, table: Table, others: Iterable[Table] = ()) -> Place | None:
        """Where others write a table's objects in this environment, if anywhere; nothing is opened yet.

        Args:
            others: tables whose objects may land nearby.

        Raises:
            ConfigError: there are no credentials for it, or the place is one that the platform writes to itself.
        """
        landing = self._landing(table)
        if landing is None:
            return None
        where = f"{table.file}:{landing.line}"
        near = [(other, found) for other in others if other.name != table.name and (found := self._landing(other))]
        neighbours = [(self._base(found), found.pattern) for _, found in near]
        base = self._base(landing)
        for other, found in near:
            # Contracts that are read alone don't tell where the project is: of two paths, they know one kind at a time.
            one_kind = os.path.isabs(found.location) is os.path.isabs(landing.location)
            if not one_kind and overlap(self._landed(landing), self._landed(found)):
                raise ConfigError(
                    f"{where}: an object could be of table {table.name} and of table {other.name}"
                    f" ({other.file}:{found.line}): both are about the same folder. Make one of the patterns narrower"
                )
        if self.on_google_cloud:
            # Imported here: slow, and needless where landing is a folder.
            from dataops_platform.lake.gcs_inbox import GcsInbox

            self._check_apart(where, landing, self.lake_url.rstrip("/"))
            bucket, prefix = addresses.bucket_and_prefix(where, landing.location)
            inbox: Inbox = GcsInbox(self.identity.storage_client(self.bigquery.project), bucket, prefix)
        else:
            self._check_apart(where, landing, str(addresses.local_path("DATAOPS_LAKE", self.lake_url)))
            inbox = LocalInbox(Path(base))
        return Place.open(landing, inbox, base, neighbours)

    def _landing(self, table: Table) -> Landing | None:
        return table.landing(self.environment, self.on_google_cloud)

    def _base(self, landing: Landing) -> str:
        """The address that names are relative to."""
        return landing.location if landing.in_bucket else os.path.normpath(self.project / landing.location)

    def _landed(self, landing: Landing) -> tuple[Any, ...]:
        """The pattern with its place in front."""
        return (f"{self._base(landing)}/", *landing.pattern.tokens)

    def _check_apart(self, where: str, landing: Landing, lake: str) -> None:
        """What the platform writes itself must not look like something new."""
        for own in ("raw_*/*/*", "_*/*/*", "_*/*/*/*", "_*/*/*/*/*"):
            if overlap(self._landed(landing), (f"{lake}/", *glob(own))):
                raise ConfigError(
                    f"{where}: objects of the lake {self.lake_url} itself would match the pattern;"
                    " name a place apart from it"
                )

    def places(self, tables: Iterable[Table]) -> dict[str, Place]:
        """Where others write, of the tables that have such a place in this environment.

        Raises:
            ConfigError: see `place`.
        """
        known = list(tables)
        return {table.name: place for table in known if (place := self.place(table, known)) is not None}

    def _store(self, variable: str, url: str) -> ObjectStore:
        if not self.on_google_cloud:
            return LocalStore(addresses.local_path(variable, url))
        # Imported here: slow, and needless where the lake is a folder.
        from dataops_platform.lake.gcs import GcsStore

        bucket, prefix = addresses.bucket_and_prefix(variable, url)
        return GcsStore(self.identity.storage_client(self.bigquery.project), bucket, prefix)

    def warehouse(self) -> Warehouse:
        """A new handle on the warehouse; nothing is opened yet.

        Raises:
            ConfigError: there are no credentials for it.
        """
        # Imported here: the library of an engine that isn't used needn't be loaded.
        if self.on_google_cloud:
            from dataops_platform.warehouse.bigquery import BigQueryWarehouse

            place = self.bigquery
            return BigQueryWarehouse(
                self.identity.bigquery_client(place.project, place.location),
                place.location,
                self.production_project,
                self.maximum_bytes_billed,
                labels={"dataops_environment": self.environment},
                policy_tags=self.policy_tags,
                read_client=self.identity.read_client,
            )
        from dataops_platform.warehouse.duckdb import DuckDBWarehouse

        return DuckDBWarehouse(
            addresses.local_path("DATAOPS_WAREHOUSE", self.warehouse_url), self.memory_limit, self.lock_wait
        )

    @property
    def dagster_home(self) -> Path:
        """Where Dagster keeps runs and events in embedded mode."""
        return self.home / "dagster"

    @property
    def dbt_home(self) -> Path:
        """Where dbt's generated sources, target and logs go."""
        return self.home / "dbt"


def _default_project() -> Path:
    """The working directory when it holds a project, else the checkout that this package lies in."""
    here = Path.cwd()
    if (here / "contracts").is_dir() or (here / "dbt_project").is_dir():
        return here
    checkout = Path(__file__).resolve().parent.parent
    return checkout if (checkout / "contracts").is_dir() else here
