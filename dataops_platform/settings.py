"""Settings: one object, read from the environment; the scheme of a URL picks the adapter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, unquote, urlparse

from dataops_platform.contracts.problems import ConfigError
from dataops_platform.identity import Identity
from dataops_platform.lake.local import LocalStore
from dataops_platform.lake.store import ObjectStore
from dataops_platform.secrets import Variables
from dataops_platform.warehouse.base import Warehouse

ENVIRONMENTS = ("local", "staging", "production")


@dataclass(frozen=True, slots=True)
class Settings:
    """Where everything is, and who the platform is. Any value may be `sm://project/name[#version]`: see `secrets`.

    Attributes:
        environment: DATAOPS_ENV: local (default), staging or production; also the dbt target.
        project: DATAOPS_PROJECT: folder with `contracts/` and `dbt_project/`; default: the working directory.
        home: DATAOPS_HOME: state of the embedded mode; default: `.dataops` in the project.
        contracts: DATAOPS_CONTRACTS: folder of contract files; default: `contracts` in the project.
        dbt_project: DATAOPS_DBT_PROJECT: folder of the dbt project; default: `dbt_project` in the project.
        lake_url: DATAOPS_LAKE: default `file://<home>/lake`.
        production_lake_url: DATAOPS_PRODUCTION_LAKE: default `file://<home>/production_lake`.
        warehouse_url: DATAOPS_WAREHOUSE: default `duckdb://<home>/warehouse.duckdb`.
        memory_limit: DATAOPS_MEMORY_LIMIT: of the embedded warehouse, like `2GB`; default: the engine's own.
        lock_wait: DATAOPS_LOCK_WAIT: seconds to wait for another process to release the embedded warehouse;
            default: 15.
        assets: DATAOPS_ASSETS: module with the project's own Python assets, found in the project folder too;
            default: the demo's, in projects that have the models it reads.
        git_commit: DATAOPS_GIT_COMMIT: written into manifests, set by the deployment.
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
    memory_limit: str | None = None
    lock_wait: float = 15.0
    assets: str | None = None
    git_commit: str | None = None
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
        home = Path(env.get("DATAOPS_HOME") or project / ".dataops").expanduser().absolute()
        if home.exists() and not home.is_dir():
            raise ConfigError(f"DATAOPS_HOME is {home}, which is not a folder")
        settings = cls(
            environment=environment,
            project=project,
            home=home,
            contracts=Path(env.get("DATAOPS_CONTRACTS") or project / "contracts").expanduser().absolute(),
            dbt_project=Path(env.get("DATAOPS_DBT_PROJECT") or project / "dbt_project").expanduser().absolute(),
            lake_url=env.get("DATAOPS_LAKE") or f"file://{quote(str(home / 'lake'))}",
            production_lake_url=env.get("DATAOPS_PRODUCTION_LAKE") or f"file://{quote(str(home / 'production_lake'))}",
            warehouse_url=env.get("DATAOPS_WAREHOUSE") or f"duckdb://{quote(str(home / 'warehouse.duckdb'))}",
            memory_limit=env.get("DATAOPS_MEMORY_LIMIT") or None,
            lock_wait=_seconds("DATAOPS_LOCK_WAIT", env.get("DATAOPS_LOCK_WAIT") or "15"),
            assets=env.get("DATAOPS_ASSETS") or None,
            git_commit=env.get("DATAOPS_GIT_COMMIT") or None,
            identity=identity,
        )
        if env.get("DATAOPS_DBT_PROJECT") and not settings.dbt_project.is_dir():
            raise ConfigError(f"DATAOPS_DBT_PROJECT is {settings.dbt_project}, which is not a folder")
        # A wrong URL is reported now, not in the middle of a run.
        settings.lake_store()
        settings.production_store()
        settings.warehouse()
        return settings

    def lake_store(self) -> ObjectStore:
        """The object store of the lake."""
        return _store("DATAOPS_LAKE", self.lake_url)

    def production_store(self) -> ObjectStore:
        """The object store of the production lake."""
        return _store("DATAOPS_PRODUCTION_LAKE", self.production_lake_url)

    def warehouse(self) -> Warehouse:
        """A new handle on the warehouse; nothing is opened yet.

        Raises:
            ConfigError: no adapter for the URL.
        """
        # Imported here: the library of an engine that isn't used needn't be installed.
        url = urlparse(self.warehouse_url)
        if url.scheme == "duckdb":
            from dataops_platform.warehouse.duckdb import DuckDBWarehouse

            return DuckDBWarehouse(
                _local_path("DATAOPS_WAREHOUSE", self.warehouse_url), self.memory_limit, self.lock_wait
            )
        raise ConfigError(
            f"DATAOPS_WAREHOUSE is {self.warehouse_url!r}: no adapter for {url.scheme!r}; use duckdb:///path"
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


def _local_path(variable: str, text: str) -> Path:
    url = urlparse(text)
    path = unquote(url.netloc + url.path)
    if not path.startswith("/"):
        raise ConfigError(f"{variable} is {text!r}: write an absolute path, like {url.scheme}:///data/{url.scheme}")
    return Path(path)


def _seconds(variable: str, text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise ConfigError(f"{variable} is {text!r}: write a number of seconds, like 15")
    return seconds


def _store(variable: str, text: str) -> ObjectStore:
    scheme = urlparse(text).scheme
    if scheme == "file":
        return LocalStore(_local_path(variable, text))
    raise ConfigError(f"{variable} is {text!r}: no adapter for {scheme!r}; use file:///path")
