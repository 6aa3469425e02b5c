"""Dagster's own resources of Google Cloud, with the platform's identity: for users' assets that go beyond tables.

They give clients of the same kind as the lake and the warehouse use: with its credentials, and its emulators.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from dagster_gcp import BigQueryResource, GCSResource
from google.cloud import bigquery, storage
from pydantic import PrivateAttr

from dataops_platform.identity import Identity


class PlatformGCS(GCSResource):
    """`dagster_gcp.GCSResource`, with the credentials of the settings."""

    _identity: Identity = PrivateAttr()

    def __init__(self, identity: Identity, project: str) -> None:
        super().__init__(project=project)
        self._identity = identity

    def get_client(self) -> storage.Client:
        """A client of Cloud Storage.

        Raises:
            ConfigError: there are no credentials.
        """
        return self._identity.storage_client(self.project)


class PlatformBigQuery(BigQueryResource):
    """`dagster_gcp.BigQueryResource`, with the credentials of the settings."""

    _identity: Identity = PrivateAttr()

    def __init__(self, identity: Identity, project: str, location: str | None) -> None:
        super().__init__(project=project, location=location)
        self._identity = identity

    @contextmanager
    def get_client(self) -> Iterator[bigquery.Client]:
        """A client of BigQuery.

        Raises:
            ConfigError: there are no credentials.
        """
        assert self.project is not None  # the constructor wants one
        yield self._identity.bigquery_client(self.project, self.location)
