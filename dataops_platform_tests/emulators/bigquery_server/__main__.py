"""Start the patched server: `python -m bigquery_server`, with the options of local-bigquery and `--without PATCH`."""

from __future__ import annotations

import argparse
import functools
import importlib

import grpc
from local_bigquery import cli

from bigquery_server import PATCHES, projects


def main() -> None:
    parser = argparse.ArgumentParser("bigquery_server", add_help=False)
    parser.add_argument("--without", action="append", default=[], choices=PATCHES, metavar="PATCH")
    options, others = parser.parse_known_args()
    # By default gRPC shares a port with another process that has it: then two servers would answer by turns.
    grpc.server = functools.partial(grpc.server, options=[("grpc.so_reuseport", 0)])
    for name in PATCHES:
        if name not in options.without:
            importlib.import_module(f"bigquery_server.{name}").apply()
    projects.apply()
    cli.main(["serve", *others])


if __name__ == "__main__":
    main()
