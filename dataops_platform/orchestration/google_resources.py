"""Dagster's own resources of Google Cloud, with the platform's identity: for users' assets that go beyond tables.

They give clients of the same kind as the lake and the warehouse use: with its credentials, and its emulators.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import dagster as dg
from dagster_gcp import BigQueryResource, GCSResource
from google.cloud import bigquery, storage

from dataops_platform.identity import Identity


class PlatformGCS(GCSResource):
    """`dagster_gcp.GCSResource`, with the credentials of the settings."""

    # Each run gets a copy, made of all fields: what is none would be lost on the way. Dagster looks at the annotation
    # itself, so that it can't be a text (`from __future__ import annotations`).
    identity: dg.ResourceDependency[Identity]

    def __init__(self, identity: Identity, project: str, **fields: Any) -> None:
        super().__init__(project=project, **fields | {"identity": identity})

    def get_client(self) -> storage.Client:
        """A client of Cloud Storage.

        Raises:
            ConfigError: there are no credentials.
        """
        return self.identity.storage_client(self.project)


class PlatformBigQuery(BigQueryResource):
    """`dagster_gcp.BigQueryResource`, with the credentials of the settings."""

    identity: dg.ResourceDependency[Identity]  # as above

    def __init__(self, identity: Identity, project: str, location: str | None, **fields: Any) -> None:
        super().__init__(project=project, location=location, **fields | {"identity": identity})

    @contextmanager
    def get_client(self) -> Iterator[bigquery.Client]:
        """A client of BigQuery.

        Raises:
            ConfigError: there are no credentials.
        """
        assert self.project is not None  # the constructor wants one
        yield self.identity.bigquery_client(self.project, self.location)
