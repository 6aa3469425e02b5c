"""Secrets for tests to plant: how they may be written, and a process that knows of no others."""

from __future__ import annotations

import base64
import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import quote, quote_plus

from hypothesis import strategies as st

from dataops_platform.secrets import install_redaction, redaction

PLANTED = "pl4nted/s3cret+of the=test"

values = st.text(st.characters(exclude_categories=["Cs"]), min_size=4, max_size=40).filter(
    lambda value: len(value.strip()) >= 4
)
around = st.text(st.characters(exclude_categories=["Cs"]), max_size=20) | st.text("*sec ", max_size=8)


@contextmanager
def nothing_known() -> Iterator[None]:
    """A process that knows of no secrets; those it learns are forgotten afterwards."""
    known = redaction._hidden
    redaction._hidden = ()
    try:
        yield
    finally:
        redaction._hidden = known


@contextmanager
def installed() -> Iterator[None]:
    """A process whose log and output are redacted, twice at that, as long as this lasts."""
    factory, streams = logging.getLogRecordFactory(), (sys.stdout, sys.stderr)
    loggers = [logging.getLogger(name) for name in (None, "dagster", "dbt")]
    places = [place for logger in loggers for place in (logger, *logger.handlers)]
    before = [list(place.filters) for place in places]
    install_redaction()
    install_redaction()
    try:
        yield
    finally:
        logging.setLogRecordFactory(factory)
        sys.stdout, sys.stderr = streams
        for place, filters in zip(places, before, strict=True):
            place.filters[:] = filters


def written(value: str) -> list[str]:
    """How a value may turn up in a text."""
    raw = value.encode()
    return [
        value,
        repr(value)[1:-1],
        json.dumps(value)[1:-1],
        base64.b64encode(raw).decode(),
        base64.urlsafe_b64encode(raw).decode(),
        base64.urlsafe_b64encode(raw).decode().rstrip("="),
        quote(value),
        quote(value, safe=""),
        quote_plus(value),
    ]
