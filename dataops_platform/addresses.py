"""What settings say about places, sizes and times: read, and checked before anything is opened.

Every function raises ConfigError for a text that can't be used, naming the variable it comes from.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote, urlparse

from dataops_platform.contracts.problems import ConfigError


def address(variable: str, env: Mapping[str, str], environment: str, embedded: Path) -> str:
    """What a variable says, or the embedded default; on Google Cloud there is none to guess."""
    given = env.get(variable)
    scheme = "duckdb" if variable == "DATAOPS_WAREHOUSE" else "file"
    if environment == "local":
        url = given or f"{scheme}://{quote(str(embedded))}"
        if urlparse(url).scheme != scheme:
            raise ConfigError(
                f"{variable} is {url!r}: without DATAOPS_ENV everything is embedded; use {scheme}:///path,"
                " or set DATAOPS_ENV to staging or production for Google Cloud"
            )
        return url
    like = _CLOUD_EXAMPLES[scheme]
    if not given:
        raise ConfigError(f"DATAOPS_ENV is {environment}: set {variable} too, like {like}")
    if urlparse(given).scheme != urlparse(like).scheme:
        raise ConfigError(f"{variable} is {given!r}: with DATAOPS_ENV={environment} write it like {like}")
    return given


_CLOUD_EXAMPLES = {"file": "gs://bucket/prefix", "duckdb": "bigquery://project/location"}


def local_path(variable: str, text: str) -> Path:
    """The folder or file of a `scheme:///path`."""
    url = urlparse(text)
    path = unquote(url.netloc + url.path)
    if not path.startswith("/"):
        raise ConfigError(f"{variable} is {text!r}: write an absolute path, like {url.scheme}:///data/{url.scheme}")
    return Path(path)


@dataclass(frozen=True, slots=True)
class BigQueryPlace:
    """A project, and the location of its datasets where it is named (else the service's default: US)."""

    project: str
    location: str | None


_PROJECT = re.compile(r"(?:[a-z][a-z0-9.-]*\.[a-z]+:)?[a-z][a-z0-9-]{4,28}[a-z0-9]")
"""Project ids as Google Cloud has them: 6 to 30 characters, perhaps after an organisation's domain."""
_LOCATION = re.compile(r"[A-Za-z]+(-[A-Za-z]+\d+)?")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")


def project_id(variable: str, text: str | None) -> str | None:
    """A Google Cloud project id, or None for an empty text."""
    if text and not _PROJECT.fullmatch(text):
        raise ConfigError(f"{variable} is {text!r}: {text!r} is no Google Cloud project id (not its name nor number)")
    return text or None


def bigquery_place(variable: str, text: str) -> BigQueryPlace:
    """Project and location of `bigquery://project[/location]`."""
    project, _, location = text.removeprefix("bigquery://").rstrip("/").partition("/")
    if not _PROJECT.fullmatch(project):
        raise ConfigError(
            f"{variable} is {text!r}: {project!r} is no Google Cloud project id; write bigquery://project/location"
        )
    if location and not _LOCATION.fullmatch(location):
        raise ConfigError(
            f"{variable} is {text!r}: {location!r} is no location of BigQuery; write one like EU or europe-west3"
        )
    return BigQueryPlace(project, location or None)


def bucket_and_prefix(variable: str, text: str) -> tuple[str, str]:
    """Bucket and prefix (perhaps empty) of `gs://bucket/prefix`."""
    bucket, _, prefix = text.removeprefix("gs://").partition("/")
    if not _BUCKET.fullmatch(bucket):
        raise ConfigError(f"{variable} is {text!r}: {bucket!r} is no bucket's name; write gs://bucket/prefix")
    prefix = prefix.strip("/")
    if prefix and ({"", ".", ".."} & set(prefix.split("/")) or re.search(r"[\x00-\x1f*?#\[\]]", prefix)):
        raise ConfigError(f"{variable} is {text!r}: the prefix must be names separated by /, without * ? # [ ]")
    return bucket, prefix


_UNITS = {"": 1, "KB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30, "TB": 1 << 40}


def number_of_bytes(variable: str, text: str | None) -> int | None:
    """Bytes of a text like `500GB` (1 GB is 2^30 bytes); None for an empty one."""
    if not text:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]B)?", text.strip().upper())
    size = int(float(match[1]) * _UNITS[match[2] or ""]) if match else 0
    if size <= 0:
        raise ConfigError(f"{variable} is {text!r}: write a number of bytes, like 500GB")
    return size


_POLICY_TAG = re.compile(r"projects/[^/]+/locations/[^/]+/taxonomies/\d+/policyTags/\d+")


_SUBSCRIPTION = re.compile(r"projects/([^/]+)/subscriptions/([A-Za-z][A-Za-z0-9._~+%-]{2,254})")


def subscription(variable: str, text: str | None) -> str | None:
    """The resource name of a Pub/Sub subscription, or None for an empty text."""
    match = _SUBSCRIPTION.fullmatch(text) if text else None
    if text and (match is None or not _PROJECT.fullmatch(match[1])):
        raise ConfigError(f"{variable} is {text!r}: write projects/<project>/subscriptions/<name>")
    return text or None


_TOPIC = re.compile(r"pubsub://([^/]+)/([A-Za-z][A-Za-z0-9._~+%-]{2,254})")


def topic(variable: str, text: str | None) -> str | None:
    """The resource name of the Pub/Sub topic of an address, or None for an empty text."""
    if not text:
        return None
    match = _TOPIC.fullmatch(text)
    if match is None or not _PROJECT.fullmatch(match[1]) or match[2].startswith("goog"):
        raise ConfigError(f"{variable} is {text!r}: write pubsub://<project>/<topic>")
    return f"projects/{match[1]}/topics/{match[2]}"


def policy_tags(variable: str, text: str | None) -> dict[str, str]:
    """Classification → policy tag, of a text like `confidential=projects/…/policyTags/1,secret=…`."""
    found = {}
    for entry in filter(None, (part.strip() for part in (text or "").split(","))):
        name, _, tag = (part.strip() for part in entry.partition("="))
        if not name or not _POLICY_TAG.fullmatch(tag):
            raise ConfigError(
                f"{variable}: {entry!r} can't be read; write classification=projects/<project>/locations/<location>/"
                "taxonomies/<number>/policyTags/<number>, several separated by commas"
            )
        found[name] = tag
    return found


def number_of_seconds(variable: str, text: str) -> float:
    """Seconds, zero or more."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise ConfigError(f"{variable} is {text!r}: write a number of seconds, like 15")
    return seconds
