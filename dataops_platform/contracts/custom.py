"""Our customProperties (`vendor: dataops`): what ODCS has no field for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from types import MappingProxyType
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from dataops_platform.contracts.document import Place
from dataops_platform.contracts.file_formats import OPTIONS
from dataops_platform.contracts.model import (
    BadRowAction,
    BadRows,
    Column,
    LoadMode,
    SchemaPolicy,
    Scope,
    Severity,
    Source,
)
from dataops_platform.contracts.partitions import Cut, Granularity, NamedPartitioning, Partitioning, misnamed
from dataops_platform.contracts.suggest import closest, did_you_mean, one_of
from dataops_platform.contracts.types import Kind

VENDOR = "dataops"

# Where each of our properties may stand.
LEVELS: Mapping[str, Sequence[str]] = {
    "contract": (),
    "server": (
        "objectPattern",
        *OPTIONS,
        "afterLanding",
        "table",
        "stream",
        "namespace",
        "lateWindow",
    ),
    "schema object": (
        "loadMode",
        "onBadRow",
        "schemaPolicy",
        "partitioning",
        "clustering",
        "requirePartitionFilter",
        "partitionExpirationDays",
        "maxPartitionsPerRun",
        "source",
    ),
    "property": (),
    "quality entry": ("scope",),
    "relationship": ("severity",),
    "SLA property": ("severity",),
}
_SEVERITIES = {"error": Severity.ERROR, "warning": Severity.WARNING, "warn": Severity.WARNING, "info": Severity.WARNING}


def custom_properties(owner: Place, level: str) -> dict[str, Place]:
    """The values of our customProperties of a node, by name. Those of other vendors are ignored."""
    known = LEVELS[level]
    found: dict[str, Place] = {}
    for entry in owner.at("customProperties").items():
        if entry.get("vendor") != VENDOR:
            continue
        name = entry.get("property")
        if name not in known:
            at = entry.at("property")
            levels = [other for other, names in LEVELS.items() if name in names]
            hint = f"it belongs to a {' or '.join(levels)}" if levels else one_of(name, known) or "remove it"
            at.problem(f"no customProperty `{name}` of vendor {VENDOR} on a {level}", hint)
        elif name in found:
            entry.at("property").problem(f"customProperty `{name}` is given twice", "keep one of them")
        else:
            found[name] = entry.at("value")
    return found


def read_severity(place: Place, default: Severity) -> Severity:
    """`error` blocks; `warning`, `warn` and `info` are only reported."""
    if place.value is None:
        return default
    severity = _SEVERITIES.get(str(place.value).lower())
    if severity is None:
        place.problem(f"severity `{place.value}` isn't known", one_of(place.value, ("error", "warning", "info")))
        return default
    return severity


def read_scope(place: Place | None) -> Scope:
    """Whether a rule judges each partition by itself (the default) or the whole table."""
    if place is None:
        return Scope.PARTITION
    if place.value not in tuple(Scope):
        place.problem(f"scope `{place.value}` isn't known", one_of(place.value, Scope))
        return Scope.PARTITION
    return Scope(place.value)


def read_load_mode(place: Place | None, primary_key: Sequence[str]) -> LoadMode:
    """How deliveries become the staging table; append unless said otherwise."""
    if place is None:
        return LoadMode.APPEND
    if place.value not in tuple(LoadMode):
        place.problem(f"loadMode `{place.value}` isn't known", one_of(place.value, LoadMode))
        return LoadMode.APPEND
    mode = LoadMode(place.value)
    if mode is LoadMode.MERGE and not primary_key:
        place.absent("loadMode merge needs a primary key", "set `primaryKey: true` on the columns that identify a row")
    return mode


def read_schema_policy(place: Place | None) -> SchemaPolicy:
    """What becomes of columns that deliveries have beyond the contract: they are refused unless said otherwise."""
    if place is None:
        return SchemaPolicy.STRICT
    if place.value not in tuple(SchemaPolicy):
        place.problem(f"schemaPolicy `{place.value}` isn't known", one_of(place.value, SchemaPolicy))
        return SchemaPolicy.STRICT
    return SchemaPolicy(place.value)


def read_bad_rows(place: Place | None) -> BadRows:
    """What happens to rows that break a row-level rule of severity error."""
    if place is None or not _mapping(place, ("action", "maxPercent", "maxRows"), "{action: quarantine, maxPercent: 1}"):
        return BadRows()
    action, percent = place.get("action", BadRowAction.QUARANTINE.value), place.get("maxPercent", 100)
    if action not in tuple(BadRowAction):
        place.at("action").problem(f"action `{action}` isn't known", one_of(action, BadRowAction))
        return BadRows()
    if isinstance(percent, bool) or not isinstance(percent, int | float) or not 0 <= percent <= 100:
        place.at("maxPercent").problem(f"maxPercent `{percent}` isn't a percentage", "write a number from 0 to 100")
        return BadRows()
    rows = place.get("maxRows")
    if rows is not None and (isinstance(rows, bool) or not isinstance(rows, int) or rows < 0):
        place.at("maxRows").problem(f"maxRows `{rows}` isn't a number of rows", "write a whole number from 0")
        return BadRows()
    return BadRows(BadRowAction(action), float(percent), rows)


def read_source(place: Place | None) -> Source | None:
    """The extractor that brings the table's deliveries, with its options."""
    if place is None:
        return None
    example = "write `{extractor: name}` and the extractor's options beside it"
    if not isinstance(place.value, dict) or "extractor" not in place:
        typo = closest("extractor", place.value) if isinstance(place.value, dict) else None
        hint = f"did you mean `extractor` where it says `{typo}`?" if typo else example
        place.problem("source names no extractor", hint)
        return None
    extractor = place.value["extractor"]
    if not isinstance(extractor, str) or not extractor:
        place.at("extractor").problem(f"extractor {extractor!r} isn't a name", example)
        return None
    options = {key: value for key, value in place.value.items() if key != "extractor"}
    return Source(extractor, MappingProxyType(options))


def read_clustering(place: Place | None, columns: Mapping[str, Column]) -> tuple[str, ...]:
    """The columns that the table is clustered by, in order."""
    if place is None:
        return ()
    names = place.value
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        place.problem("clustering isn't a list of columns", "write `[column, …]`")
        return ()
    if len(names) > 4:
        place.problem(f"clustering has {len(names)} columns", "BigQuery clusters by at most 4: keep the first ones")
    for entry in place.items():
        if entry.value not in columns:
            entry.absent(f"clustering column `{entry.value}` isn't in the table", one_of(entry.value, columns))
        elif columns[entry.value].type.kind in (Kind.JSON, Kind.NUMBER, Kind.TIME):
            entry.problem(
                f"a table can't be clustered by `{entry.value}` ({columns[entry.value].type.kind})",
                "cluster by a string, integer, decimal, boolean, date, timestamp or datetime column",
            )
        elif names.index(entry.value) != entry.path[-1]:
            entry.problem(f"clustering names `{entry.value}` twice", "name each column once")
    return tuple(dict.fromkeys(names))


def read_partition_filter(place: Place | None, partitioning: Cut | None) -> bool:
    """Whether BigQuery refuses queries of the table that don't say which partitions they are about."""
    if place is None:
        return False
    if not isinstance(place.value, bool):
        place.problem(f"requirePartitionFilter `{place.value}` isn't true or false", "write `true` or `false`")
        return False
    if place.value and partitioning is None:
        place.absent("requirePartitionFilter is set on a table without partitions", "add `partitioning`, or remove it")
    if place.value and isinstance(partitioning, NamedPartitioning):
        place.problem("requirePartitionFilter is set on a table that is cut by name", f"{_NO_NAMES}: remove it")
        return False
    return place.value


_NO_NAMES = "BigQuery has partitions by time only"


def read_expiration(place: Place | None, partitioning: Cut | None) -> int | None:
    """Days after which BigQuery drops a partition; None: never."""
    if place is not None and isinstance(partitioning, NamedPartitioning):
        place.problem("partitionExpirationDays is set on a table that is cut by name", f"{_NO_NAMES}: remove it")
        return None
    return _number(place, partitioning, "partitionExpirationDays", "days", 1095)


def read_partitions_per_run(place: Place | None, partitioning: Cut | None) -> int | None:
    """How many partitions one run takes on at most; None: all that are asked."""
    return _number(place, partitioning, "maxPartitionsPerRun", "partitions", 31)


def _number(place: Place | None, partitioning: Cut | None, name: str, of: str, example: int) -> int | None:
    """A number, from 1, of what only a table with partitions has."""
    if place is None:
        return None
    number: Any = place.value
    if isinstance(number, bool) or not isinstance(number, int) or number < 1:
        place.problem(f"{name} `{number}` isn't a number of {of}", f"write a whole number, like {example}")
        return None
    if partitioning is None:
        place.absent(f"{name} is set on a table without partitions", "add `partitioning`, or remove it")
    return int(number)


@dataclass(frozen=True, slots=True)
class _Days:
    """First and last day with a partition."""

    start: date
    end: date | None


def read_partitioning(place: Place | None, columns: Mapping[str, Column]) -> Cut | None:
    """How the table is cut, by time or by name; None: not at all."""
    if place is not None and isinstance(place.value, dict) and "names" in place:
        return _by_name(place, columns)
    known = ("field", "granularity", "start", "end", "timezone", "names")
    example = "{field: column, granularity: day, start: 2013-01-01, timezone: Europe/Paris}"
    if place is None or not _mapping(place, known, example):
        return None
    missing = [key for key in ("field", "granularity", "start") if key not in place]
    for key in missing:
        place.absent(f"partitioning has no `{key}`", f"write it like {example}")
    if missing:
        return None
    granularity, zone = place.get("granularity"), place.get("timezone", "UTC")
    if granularity not in tuple(Granularity):
        place.at("granularity").problem(f"granularity `{granularity}` isn't known", one_of(granularity, Granularity))
        return None
    granularity = Granularity(granularity)
    _check_field(place.at("field"), columns, granularity)
    zone_fits = _zone_exists(zone)
    if not zone_fits:
        place.at("timezone").problem(f"timezone `{zone}` isn't known", _zone_hint(zone))
    days = _days(place, granularity)
    if days is None or not zone_fits:
        return None
    return Partitioning(str(place.get("field")), granularity, days.start, days.end, zone)


def _by_name(place: Place, columns: Mapping[str, Column]) -> NamedPartitioning | None:
    """How the table is cut by name; None (reported) when that is wrong."""
    example = "{field: region, names: [emea, apac]}"
    for key in ("granularity", "start", "end", "timezone"):
        if key in place:
            place.at(key).problem(f"partitioning by `names` has no `{key}`", f"remove one of the two, like {example}")
            return None
    if not _mapping(place, ("field", "names"), example):
        return None
    if "field" not in place:
        place.absent("partitioning has no `field`", f"write it like {example}")
        return None
    names = place.at("names")
    if not isinstance(names.value, list) or not names.value or None in names.value:
        names.problem("names isn't a list of partitions", f"write it like {example}")
        return None
    wrong = False
    for entry in names.items():
        why = misnamed(entry.value) if isinstance(entry.value, str) else f"`{entry.value}` isn't a text"
        hint = "name it otherwise" if isinstance(entry.value, str) else "write it in quotes"
        if why is None and names.value.index(entry.value) != entry.path[-1]:
            why, hint = f"`{entry.value}` is there twice", "name each partition once"
        if why is not None:
            entry.problem(f"partition name {why}", hint)
            wrong = True
    _check_named_field(place.at("field"), columns)
    return None if wrong else NamedPartitioning(str(place.get("field")), tuple(sorted(names.value)))


def _check_named_field(place: Place, columns: Mapping[str, Column]) -> None:
    column = columns.get(str(place.value))
    if column is None:
        place.absent(f"partitioning field `{place.value}` isn't a column", one_of(place.value, columns))
        return
    if column.type.kind is not Kind.STRING:
        message = f"partitioning field `{column.name}` has type {column.type.kind}, and partitions have names"
        place.problem(message, "name a string column, or cut the table by time: `granularity` and `start`")
    if not column.required:
        _optional(place, column)


def _optional(place: Place, column: Column) -> None:
    message = f"partitioning field `{column.name}` isn't required: a row without it belongs to no partition"
    place.absent(message, f"set `required: true` on `{column.name}`")


def _check_field(place: Place, columns: Mapping[str, Column], granularity: Granularity) -> None:
    column = columns.get(str(place.value))
    if column is None:
        place.absent(f"partitioning field `{place.value}` isn't a column", one_of(place.value, columns))
        return
    if column.type.kind not in (Kind.DATE, Kind.TIMESTAMP, Kind.DATETIME):
        message = f"partitioning field `{column.name}` has type {column.type.kind}"
        hint = "partition by a date, timestamp or datetime column"
        if column.type.kind is Kind.STRING:
            hint += ", or by name: {field: …, names: [emea, apac]}"
        place.problem(message, hint)
    elif granularity is Granularity.HOUR and column.type.kind is Kind.DATE:
        message = f"partitioning by hour, but `{column.name}` is a date"
        place.problem(message, "use granularity day, or a timestamp or datetime column")
    if not column.required:
        _optional(place, column)


def _days(place: Place, granularity: Granularity) -> _Days | None:
    days: dict[str, date] = {}
    for key in ("start", "end"):
        if key not in place:
            continue
        try:
            days[key] = date.fromisoformat(place.get(key))
        except (TypeError, ValueError):
            place.at(key).problem(f"{key} `{place.get(key)}` isn't a date", "write a day like 2013-01-31")
            return None
    start, end = days["start"], days.get("end")
    if end is not None and end < start:
        place.at("end").problem(f"end {end} is before start {start}", "swap them")
        return None
    if granularity is Granularity.WEEK:
        if start.weekday() != 0:
            monday = start - timedelta(days=start.weekday())
            place.at("start").problem(f"start {start} isn't a Monday", f"weeks begin on Mondays: write {monday}")
        if end is not None and end.weekday() != 6:
            sunday = end + timedelta(days=6 - end.weekday())
            place.at("end").problem(f"end {end} isn't a Sunday", f"weeks end on Sundays: write {sunday}")
    if granularity is Granularity.MONTH:
        if start.day != 1:
            place.at("start").problem(f"start {start} isn't the first of a month", f"write {start.replace(day=1)}")
        if end is not None and (end + timedelta(days=1)).day != 1:
            last = (end.replace(day=1) + timedelta(days=32)).replace(day=1) - timedelta(days=1)
            place.at("end").problem(f"end {end} isn't the last day of a month", f"write {last}")
    return _Days(start, end)


def _zone_exists(name: Any) -> bool:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, TypeError, OSError):  # OSError: the name of a folder, like `Europe`
        return False
    return True


def _zone_hint(name: Any) -> str:
    from zoneinfo import available_timezones  # reads some folders: only for the message

    return did_you_mean(name, sorted(available_timezones())) or "use an IANA name like Europe/Paris or UTC"


def _mapping(place: Place, known: Sequence[str], example: str) -> bool:
    """Whether the value is a mapping with known keys only; if not, it is reported."""
    if not isinstance(place.value, dict):
        place.problem("the value isn't a mapping", f"write it like {example}")
        return False
    for key in place.value:
        if key not in known:
            place.at(key).problem(f"unknown key `{key}`", one_of(key, known))
    return True
