"""`dataops doctor`: everything that a deployment needs, checked in order, each with what to do about it.

Nothing is changed: permissions are asked for, and statements are only planned (dry runs).
"""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

import requests
from packaging.requirements import Requirement
from rich.console import Console
from rich.markup import escape

from dataops_platform import addresses
from dataops_platform.contracts import load_contracts
from dataops_platform.contracts.model import AfterLanding, Contracts
from dataops_platform.contracts.problems import ConfigError, ContractErrors, DataOpsError
from dataops_platform.google_errors import google_errors
from dataops_platform.lake.keys import DEAD_LETTERS
from dataops_platform.orchestration.resources import dbt_project
from dataops_platform.pubsub import no_subscription, no_topic
from dataops_platform.settings import Settings
from dataops_platform.warehouse.names import LEDGER, PRODUCTION, QUARANTINE, STAGING

if TYPE_CHECKING:
    from google.cloud import storage

DISTRIBUTION = "dataops-platform"
MAX_SKEW_SECONDS = 60
"""Google refuses tokens of clocks that are minutes wrong; deliveries are ordered by this machine's time."""
LAKE_PERMISSIONS = ("storage.buckets.get", "storage.objects.create", "storage.objects.get", "storage.objects.list")
"""What the platform does with a bucket of its own: it never deletes, nor overwrites."""
LANDING_PERMISSIONS = ("storage.objects.get", "storage.objects.list")
"""What it does with a bucket that others write to."""
REMOVING = "storage.objects.delete"
"""What it needs there for `afterLanding: remove`."""


@dataclass
class Doctor:
    """Checks of one deployment."""

    settings: Settings
    _contracts: Contracts | None = field(default=None, init=False)

    def checks(self) -> Sequence[tuple[str, Callable[[], Iterator[str]]]]:
        """Names and checks, in order. A check yields what it found, and raises DataOpsError for what must be mended."""
        always = [("versions", self.versions), ("contracts", self.contracts)]
        pubsub = [
            *([("notifications", self.notifications)] if self.settings.notifications else []),
            *([("events", self.events)] if self.settings.events else []),
        ]
        if not self.settings.on_google_cloud:
            return [
                *always,
                ("lake", self.folders),
                ("warehouse", self.embedded_warehouse),
                ("dbt", self.dbt),
                ("alerts", self.settings.alerts.check),
                *pubsub,
            ]
        return [
            *always,
            ("credentials", self.credentials),
            ("clock", self.clock),
            ("lake", lambda: self.bucket("DATAOPS_LAKE", self.settings.lake_url)),
            ("production lake", lambda: self.bucket("DATAOPS_PRODUCTION_LAKE", self.settings.production_lake_url)),
            ("landing", self.landing),
            ("warehouse", self.datasets),
            ("dbt", self.dbt),
            ("alerts", self.settings.alerts.check),
            *pubsub,
        ]

    def versions(self) -> Iterator[str]:
        """Installed packages are those that the platform was made for."""
        yield f"Python {platform.python_version()}, dataops {importlib.metadata.version(DISTRIBUTION)}"
        wrong = []
        for text in importlib.metadata.requires(DISTRIBUTION) or ():
            wanted = Requirement(text)
            if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
                continue
            try:
                found = importlib.metadata.version(wanted.name)
            except importlib.metadata.PackageNotFoundError:
                wrong.append(f"{wanted.name} is missing")
                continue
            if not wanted.specifier.contains(found, prereleases=True):
                wrong.append(f"{wanted.name} is {found}, not {wanted.specifier}")
        if wrong:
            raise ConfigError(f"{'; '.join(wrong)}. Install again: `pip install --constraint constraints.txt .`")

    def contracts(self) -> Iterator[str]:
        """All contracts can be read."""
        self._contracts = load_contracts(self.settings.contracts)
        yield f"{len(self._contracts.tables)} tables in {self.settings.contracts}"

    # -- embedded -----------------------------------------------------------------------------------------------------

    def folders(self) -> Iterator[str]:
        """Lake and production lake can be written."""
        for store in (self.settings.lake_store(), self.settings.production_store()):
            try:
                store.scratch().rmdir()
            except OSError as error:
                raise ConfigError(f"{store.url} can't be written: {error.strerror}. Check the folder.") from error
            yield f"{store.url} can be written"

    def embedded_warehouse(self) -> Iterator[str]:
        """The warehouse can be opened, and what is in it fits the contracts."""
        warehouse = self.settings.warehouse()
        for item in warehouse.ensure(list(self._known.tables.values())):
            yield from item.told
        yield f"{warehouse.url} fits the contracts"

    # -- Google Cloud -------------------------------------------------------------------------------------------------

    def credentials(self) -> Iterator[str]:
        """There are credentials, and Google gives tokens for them."""
        yield str(self.settings.identity.describe())
        self.settings.identity.verify()

    def clock(self) -> Iterator[str]:
        """This machine's clock agrees with the service's."""
        url = self.settings.identity.storage_emulator or "https://storage.googleapis.com"
        with google_errors("ask the time of", url, "network access"):
            answer = requests.get(url, timeout=15)
        if "Date" not in answer.headers:
            yield f"{url} doesn't tell the time"
            return
        skew = (datetime.now(UTC) - parsedate_to_datetime(answer.headers["Date"])).total_seconds()
        if abs(skew) > MAX_SKEW_SECONDS:
            word = "ahead of" if skew > 0 else "behind"
            raise ConfigError(
                f"this machine's clock is {abs(skew):.0f} s {word} Google's. Set it by NTP"
                " (`timedatectl set-ntp true`): tokens are refused, and deliveries would be put in a wrong order."
            )
        yield f"{abs(skew):.0f} s off"

    def bucket(self, variable: str, url: str) -> Iterator[str]:
        """The bucket is there, and this identity may do with it what the platform does."""
        name, _ = addresses.bucket_and_prefix(variable, url)
        roles = "roles/storage.objectCreator, roles/storage.objectViewer and roles/storage.legacyBucketReader"
        bucket = self._permitted(variable, name, LAKE_PERMISSIONS, roles)
        with google_errors("look at", f"gs://{name}", f"storage.buckets.get on bucket {name}"):
            bucket.reload()
        place, wanted = str(bucket.location or ""), self.settings.bigquery.location
        yield f"gs://{name} in {place}"
        if wanted and not _near(place, wanted):
            raise ConfigError(
                f"{variable}: bucket {name} is in {place}, BigQuery's datasets in {wanted}: load and extract jobs need"
                " both in one place. Use a bucket there."
            )

    def landing(self) -> Iterator[str]:
        """What others write can be listed and read, and removed where the contract says so."""
        for name, (where, removes) in self._landing_buckets().items():
            asked = (*LANDING_PERMISSIONS, REMOVING) if removes else LANDING_PERMISSIONS
            self._permitted(where, name, asked, f"roles/storage.object{'User' if removes else 'Viewer'}")
            yield f"gs://{name} can be read{', and objects removed' if removes else ''}"

    def _landing_buckets(self) -> dict[str, tuple[str, bool]]:
        """Buckets that others write to: the place in a contract that names each, and whether objects are removed."""
        wanted: dict[str, tuple[str, bool]] = {}
        for table in self._known.tables.values():
            landing = table.landing(self.settings.environment, True)
            if landing is not None:
                where = f"{table.file}:{landing.line}"
                name, _ = addresses.bucket_and_prefix(where, landing.location)
                said, removes = wanted.get(name, (where, False))
                wanted[name] = said, removes or landing.after is AfterLanding.REMOVE
        return wanted

    def _permitted(self, where: str, name: str, wanted: Sequence[str], roles: str) -> storage.Bucket:
        """A bucket that is there, with these permissions.

        Args:
            where: the setting, or the place in a contract, that names it.
            roles: what has the permissions.
        """
        from google.api_core import exceptions as api

        bucket = self.settings.identity.storage_client(self.settings.bigquery.project).bucket(name)
        with google_errors("look at", f"gs://{name}", f"storage.buckets.get on bucket {name}"):
            try:
                granted = bucket.test_iam_permissions(list(wanted))
            except api.NotFound:  # of the bucket, or of the method, which not every server has
                granted = wanted if bucket.exists() else None
        if granted is None:
            raise ConfigError(
                f"{where}: there is no bucket {name}. Create it (`gcloud storage buckets create gs://{name}`), or"
                " correct what names it."
            )
        missing = [permission for permission in wanted if permission not in granted]
        if missing:
            raise ConfigError(
                f"{where}: on bucket {name} these permissions are missing: {', '.join(missing)}. Grant {roles} on it;"
                " docs/google-cloud.md lists the roles."
            )
        return bucket

    def datasets(self) -> Iterator[str]:
        """Datasets are in the right place, and tables may be made in them: by planning such statements."""
        # Imported here: it takes a second, needlessly in embedded mode.
        from google.api_core import exceptions as api
        from google.cloud import bigquery

        place = self.settings.bigquery
        client = self.settings.identity.bigquery_client(place.project, place.location)
        dry = bigquery.QueryJobConfig(dry_run=True, use_query_cache=False)
        with google_errors("query", f"project {place.project}", f"bigquery.jobs.create on project {place.project}"):
            client.query("SELECT 1", job_config=dry, location=place.location)
        yield f"queries run in project {place.project}"
        production = self.settings.production_project or place.project
        for name in (LEDGER, STAGING, QUARANTINE, PRODUCTION):
            project = production if name == PRODUCTION else place.project
            where = f"dataset {project}.{name}"
            try:
                with google_errors("look at", where, f"bigquery.datasets.get on {where}"):
                    found = client.get_dataset(f"{project}.{name}")
            except api.NotFound:
                yield f"{where} doesn't exist yet; the first run makes it, which needs bigquery.datasets.create"
                continue
            if place.location and str(found.location).lower() != place.location.lower():
                raise ConfigError(
                    f"{where} is in {found.location}, DATAOPS_WAREHOUSE says {place.location}. Correct the setting, or"
                    " use another project."
                )
            with google_errors("make tables in", where, f"bigquery.tables.create on {where}"):
                client.query(f"CREATE TABLE `{project}`.`{name}`._doctor (x INT64)", job_config=dry)
            yield f"{where} in {found.location}: tables may be made"

    def notifications(self) -> Iterator[str]:
        """The subscription is there and may be read, and landing buckets send their new objects to its topic."""
        # Imported here: slow, and only where notifications are used.
        from google.api_core import exceptions as api

        name = self.settings.notifications or ""
        variable, short = "DATAOPS_NOTIFICATIONS", name.rsplit("/", 1)[1]
        client = self.settings.identity.subscriber_client()
        try:
            with google_errors("look at", name, f"pubsub.subscriptions.get on {name}"):
                found = client.get_subscription(subscription=name, timeout=15)
        except api.NotFound as error:
            raise no_subscription(variable, name) from error
        if found.topic == "_deleted-topic_" or found.detached:
            raise ConfigError(
                f"{variable}: {name} has no topic any more, so nothing arrives. Delete it, and create it anew"
                f" (`gcloud pubsub subscriptions create {short} --topic <topic>`)."
            )
        if found.push_config.push_endpoint or found.bigquery_config.table or found.cloud_storage_config.bucket:
            raise ConfigError(
                f"{variable}: {name} delivers by itself, and can't be pulled from. Create one of type pull"
                f" (`gcloud pubsub subscriptions create {short}-pull --topic {found.topic}`)."
            )
        if found.dead_letter_policy.dead_letter_topic:
            raise ConfigError(
                f"{variable}: {name} gives up messages that come again, as they do while the lake doesn't answer. Let"
                f" it keep them (`gcloud pubsub subscriptions update {short} --clear-dead-letter-policy`); those that"
                " can't be read are put into the lake."
            )
        self._granted(client, name, "pubsub.subscriptions.consume", variable, "roles/pubsub.subscriber")
        kept: Any = found.message_retention_duration  # a timedelta, whatever its type says
        yield (
            f"{name}: {found.ack_deadline_seconds} s to acknowledge, unread messages are kept for"
            f" {kept.total_seconds() / 86400:g} days"
        )
        if self.settings.on_google_cloud:
            buckets = self._landing_buckets()
            for bucket, (where, _) in buckets.items():
                self._check_sent(where, bucket, found.topic)
                yield f"new objects of gs://{bucket} are told to {found.topic}"
            if not buckets:
                yield "no contract names a bucket that others write to: nothing is told of"
        lake = self.settings.lake_store()
        if letters := sum(1 for _ in lake.list(DEAD_LETTERS)):
            yield f"{letters} message(s) could not be read: look at {lake.uri(DEAD_LETTERS.rstrip('/'))}"

    def _check_sent(self, where: str, bucket_name: str, topic: str) -> None:
        """Raises ConfigError where a landing bucket doesn't tell a topic of its new objects.

        Args:
            where: the place in a contract that names the bucket.
        """
        bucket = self.settings.identity.storage_client(self.settings.bigquery.project).bucket(bucket_name)
        with google_errors("look at", f"gs://{bucket_name}", f"storage.buckets.get on bucket {bucket_name}"):
            sent = list(bucket.list_notifications())
        wanted = topic.removeprefix("projects/").split("/topics/")
        if not any(
            [item.topic_project, item.topic_name] == wanted
            and (not item.event_types or "OBJECT_FINALIZE" in item.event_types)
            for item in sent
        ):
            raise ConfigError(
                f"{where}: bucket {bucket_name} doesn't tell {topic} of new objects. Let it (`gcloud storage"
                f" buckets notifications create gs://{bucket_name} --topic {topic} --event-types OBJECT_FINALIZE`)."
            )

    def events(self) -> Iterator[str]:
        """The topic is there, and may be published to. Nothing is published."""
        # Imported here: slow, and only where events are published.
        from google.api_core import exceptions as api

        name = self.settings.events or ""
        client = self.settings.identity.publisher_client()
        try:
            with google_errors("look at", name, f"pubsub.topics.get on {name}"):
                client.get_topic(topic=name, timeout=15)
        except api.NotFound as error:
            raise no_topic("DATAOPS_EVENTS", name) from error
        self._granted(client, name, "pubsub.topics.publish", "DATAOPS_EVENTS", "roles/pubsub.publisher")
        yield f"{name} can be published to"

    @staticmethod
    def _granted(client: Any, name: str, permission: str, variable: str, role: str) -> None:
        """Raises ConfigError where a topic or subscription doesn't give a permission.

        Args:
            client: of topics, or of subscriptions.
        """
        from google.api_core import exceptions as api

        with google_errors("look at", name, permission):
            try:
                request = {"resource": name, "permissions": [permission]}
                granted = permission in client.test_iam_permissions(request=request, timeout=15).permissions
            except api.MethodNotImplemented:  # not every server has it
                granted = True
        if not granted:
            raise ConfigError(f"{variable}: permission {permission} on {name} is missing. Grant {role}.")

    # -- dbt ----------------------------------------------------------------------------------------------------------

    def dbt(self) -> Iterator[str]:
        """The project parses, and its target can be reached."""
        if not self.settings.dbt_project.exists():
            yield "there is no dbt project"
            return
        project = dbt_project(self.settings, self._known)
        models = sum(1 for uid in project.manifest()["nodes"] if uid.startswith("model."))
        project.debug()
        yield f"{models} models in {self.settings.dbt_project}; target {self.settings.environment} can be reached"

    @property
    def _known(self) -> Contracts:
        if self._contracts is None:
            raise ConfigError("not checked, because the contracts can't be read")
        return self._contracts


def _near(bucket: str, dataset: str) -> bool:
    """Whether BigQuery loads from a bucket there into a dataset there; see its documentation of locations.

    A dataset in the US multi-region takes buckets from anywhere.
    """
    bucket, dataset = bucket.lower(), dataset.lower()
    outside = ("europe-west2", "europe-west6")  # London and Zurich are no part of the multi-region EU
    return dataset in ("us", bucket) or (dataset == "eu" and bucket.startswith("eur") and bucket not in outside)


def doctor(console: Console) -> int:
    """Print all checks; the exit code: 0, or 2 where something must be mended."""
    settings = Settings.load()
    console.print(f"[bold]{'Google Cloud' if settings.on_google_cloud else 'Embedded'}[/] ({settings.environment})\n")
    code = 0
    for name, check in Doctor(settings).checks():
        try:
            for line in check():
                console.print(f"[green]✓[/] {name}: {escape(line)}")
        except ContractErrors as error:
            code = 2
            console.print(f"[red]✗[/] {name}: `dataops contract check` lists {len(error.problems)} problem(s)")
        except DataOpsError as error:
            code = 2
            console.print(f"[red]✗[/] {name}: {escape(str(error))}")
    console.print("\n[bold green]All well[/]" if code == 0 else "\n[bold red]Mend the lines marked ✗[/]")
    return code
