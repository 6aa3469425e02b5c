"""Google's own clients, for the emulators."""

from __future__ import annotations

import grpc
from google.api_core.client_options import ClientOptions
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery, bigquery_storage, storage
from google.cloud.bigquery_storage_v1.services.big_query_read.transports import BigQueryReadGrpcTransport

from dataops_platform_tests.emulators.servers import BigQueryServer, GcsServer


def storage_client(server: GcsServer, project: str = "tests") -> storage.Client:
    return storage.Client(
        project=project, credentials=AnonymousCredentials(), client_options=ClientOptions(api_endpoint=server.url)
    )


def bigquery_client(server: BigQueryServer, project: str) -> bigquery.Client:
    return bigquery.Client(
        project=project, credentials=AnonymousCredentials(), client_options=ClientOptions(api_endpoint=server.url)
    )


def read_client(server: BigQueryServer) -> bigquery_storage.BigQueryReadClient:
    """For `to_arrow(bqstorage_client=…)`. Left to itself `to_arrow` dials the real service, emulator or not."""
    channel = grpc.insecure_channel(server.grpc_address)
    return bigquery_storage.BigQueryReadClient(transport=BigQueryReadGrpcTransport(channel=channel))
