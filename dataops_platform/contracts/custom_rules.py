"""Rules that ODCS has no metric for: `type: custom`, `engine: dataops`, and an `implementation` that names the rule."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from dataops_platform.contracts.constraints import check_keys
from dataops_platform.contracts.document import Place
from dataops_platform.contracts.model import AGGREGATES, Column, LoadMode, RuleKind, Scope
from dataops_platform.contracts.partitions import Cut, NamedPartitioning
from dataops_platform.contracts.references import Catalog, comparable, cut_of
from dataops_platform.contracts.suggest import one_of
from dataops_platform.contracts.tables import TableHead
from dataops_platform.contracts.thresholds import OPERATOR_KEYS
from dataops_platform.contracts.types import Kind

COMPARISONS = ("=", "!=", "<", "<=", ">", ">=")
METRICS = ("psi", "js")
MANIFEST = "manifest"
"""What a reconciliation names when it is with the deliveries' own counts."""
ROW_COUNT = "row_count"


@dataclass(frozen=True, slots=True)
class Found:
    """What an entry means, before its severity and dimension are known."""

    kind: RuleKind
    fallback_id: str
    columns: tuple[str, ...] = ()
    args: Mapping[str, Any] | None = None
    threshold_at: Place | None = None  # where the operator stands; None: at the entry itself


@dataclass(frozen=True, slots=True)
class About:
    """What the rules of a table are read with."""

    head: TableHead
    catalog: Catalog
    partitioning: Cut | None
    load_mode: LoadMode


def read_custom(entry: Place, about: About, column: Column | None, scope: Scope) -> Found | None:
    """A custom entry's rule; None (reported) when it is wrong."""
    place = entry.at("implementation")
    if not isinstance(place.value, dict):
        hint = "write {rule: aggregate, function: avg, column: …, mustBeBetween: [1, 2]}"
        place.problem("the implementation isn't a mapping", hint)
        return None
    name = place.get("rule")
    if name not in tuple(CUSTOM_RULES):  # it may be a list, which no mapping can be asked for
        what = f"rule `{name}` isn't known" if name is not None else "the implementation names no rule"
        (place.at("rule") if "rule" in place else place).problem(what, one_of(name, CUSTOM_RULES))
        return None
    keys, read = CUSTOM_RULES[name]
    article = "an" if name[0] in "aeiou" else "a"
    if not check_keys(place, ("rule", *keys, *OPERATOR_KEYS, "unit"), f"key of {article} {name} rule"):
        return None
    if "unit" in place and name != "reconcile":
        place.at("unit").problem(f"{article} {name} rule has no unit", "remove it")
        return None
    return read(place, about, column, scope)


def _column(place: Place, about: About, column: Column | None, what: str, key: str = "column") -> Column | None:
    """The column that a rule names, or stands at."""
    name = place.get(key, column.name if column else None)
    if name is None:
        place.problem(f"the {what} names no column", f"add `{key}: …`")
        return None
    if str(name) not in about.head.columns:
        at = place.at(key)
        at.absent(f"`{name}` is no column of `{about.head.name}`", one_of(name, about.head.columns))
        return None
    return about.head.columns[str(name)]


def _function(
    place: Place, about: About, column: Column | None, what: str, functions: tuple[str, ...]
) -> tuple[dict[str, Any], tuple[str, ...]] | None:
    """An aggregate function with its arguments, and the column it is of."""
    function = place.get("function")
    if function not in functions:
        at = place.at("function") if "function" in place else place
        at.problem(
            f"function `{function}` isn't known" if function else f"the {what} names no function",
            one_of(function, functions),
        )
        return None
    if ("quantile" in place) != (function == "quantile"):
        at = place.at("quantile") if "quantile" in place else place
        at.problem(
            "`quantile` goes with the function quantile, and only with it", "write `quantile: 0.95`, or remove it"
        )
        return None
    args: dict[str, Any] = {"function": function}
    if function == "quantile":
        share = place.get("quantile")
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
            place.at("quantile").problem(f"quantile `{share}` isn't a share", "write a number from 0 to 1")
            return None
        args["quantile"] = float(share)
    if function == "rowCount":
        if "column" in place:
            place.at("column").problem("rowCount is about the table", "remove the column")
            return None
        return {"function": ROW_COUNT}, ()
    found = _column(place, about, column, what)
    if found is None:
        return None
    fits = found.type.kind is not Kind.JSON if function == "distinct" else found.type.numeric
    if not fits:
        at = place.at("column") if "column" in place else place
        needs = "values that can be compared" if function == "distinct" else "numbers"
        at.problem(
            f"{function} needs {needs}, and `{found.name}` has type {found.type.kind}",
            "use another column" if function == "distinct" else "use a numeric column",
        )
        return None
    return args, (found.name,)


def _aggregate(place: Place, about: About, column: Column | None, scope: Scope) -> Found | None:
    found = _function(place, about, column, "aggregate", AGGREGATES)
    if found is None:
        return None
    args, columns = found
    return Found(RuleKind.AGGREGATE, f"{columns[0]}_{args['function']}", columns, args, place)


def _anomaly(place: Place, about: About, column: Column | None, scope: Scope) -> Found | None:
    found = _function(place, about, column, "anomaly", ("rowCount", *AGGREGATES))
    if found is None:
        return None
    if scope is Scope.TABLE and about.partitioning is not None:
        place.problem("an anomaly compares a partition with those before it", "remove `scope: table`")
        return None
    if isinstance(about.partitioning, NamedPartitioning):
        message = f"an anomaly compares a partition with those before it, and those of `{about.head.name}` are names"
        place.problem(message, "compare with a reference: `rule: drift`")
        return None
    args, columns = found
    for key, default in (("history", 30), ("minimum", 7)):
        value = place.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or value < 2:
            place.at(key).problem(f"{key} `{value}` isn't a number of values", "write a whole number from 2")
            return None
        args[key] = value
    if args["minimum"] > args["history"]:
        message = f"minimum {args['minimum']} is more than history {args['history']}: there would never be enough"
        place.at("minimum" if "minimum" in place else "history").problem(message, "lower the minimum")
        return None
    name = "_".join([*columns, str(args["function"])])
    return Found(RuleKind.ANOMALY, f"{name}_anomaly", columns, args, place)


def _drift(place: Place, about: About, column: Column | None, scope: Scope) -> Found | None:
    found = _column(place, about, column, "drift")
    if found is None:
        return None
    if not (found.type.numeric or found.type.kind in (Kind.STRING, Kind.BOOLEAN)):
        at = place.at("column") if "column" in place else place
        at.problem(
            f"drift needs numbers, texts or booleans, and `{found.name}` has type {found.type.kind}",
            "use another column",
        )
        return None
    metric = place.get("metric", "psi")
    if metric not in METRICS:
        place.at("metric").problem(f"metric `{metric}` isn't known", one_of(metric, METRICS))
        return None
    bins = place.get("bins", 10)
    if isinstance(bins, bool) or not isinstance(bins, int) or not 2 <= bins <= 100:
        place.at("bins").problem(f"bins `{bins}` isn't a number of bins", "write a whole number from 2 to 100")
        return None
    window = _reference(place, about)
    if window is None:
        return None
    args = {"metric": metric, "bins": bins, "first": window[0], "last": window[1]}
    return Found(RuleKind.DRIFT, f"{found.name}_drift", (found.name,), args, place)


def _reference(place: Place, about: About) -> tuple[str | None, str | None] | None:
    """First and last partition of the reference; both None for a table without partitions."""
    window = place.at("reference")
    if about.partitioning is None:
        if window.value is None:
            return None, None  # the rows of the first evaluation
        window.problem(f"`{about.head.name}` has no partitions to take a reference from", "remove `reference`")
        return None
    if window.value is None:
        place.absent("the drift names no reference", "add `reference: {from: 2013-01-01, to: 2013-01-31}`")
        return None
    if not isinstance(window.value, dict) or not check_keys(window, ("from", "to"), "key of a reference"):
        if not isinstance(window.value, dict):
            window.problem("the reference isn't a mapping", "write {from: 2013-01-01, to: 2013-01-31}")
        return None
    keys = []
    for name in ("from", "to"):
        if name not in window:
            window.problem(f"the reference has no `{name}`", "write {from: 2013-01-01, to: 2013-01-31}")
            return None
        try:
            about.partitioning.check(str(window.get(name)))
            outside = _outside(about.partitioning, str(window.get(name)))
        except ValueError as error:
            window.at(name).problem(str(error), "write a partition's key")
            return None
        if outside is not None:
            message = f"{name} `{window.get(name)}` is outside the table's partitions, {outside}"
            window.at(name).problem(message, "write a partition that the table has")
            return None
        keys.append(str(window.get(name)))
    if keys[0] > keys[1]:
        window.problem(f"the reference runs backwards: {keys[0]} is after {keys[1]}", "swap the two")
        return None
    return keys[0], keys[1]


def _outside(cut: Cut, key: str) -> str | None:
    """The range of a table's partitions, if `key` lies outside."""
    if isinstance(cut, NamedPartitioning):
        return None
    first, beyond = cut.example, None
    if cut.end is not None:
        beyond = cut.key(datetime.combine(cut.end, datetime.min.time()) + timedelta(days=1))
    if key < first or (beyond is not None and key >= beyond):
        return f"which begin with {first}" if cut.end is None else f"which begin with {first} and end on {cut.end}"
    return None


def _compare(place: Place, about: About, column: Column | None, scope: Scope) -> Found | None:
    left = _column(place, about, column, "comparison", "left")
    right = _column(place, about, None, "comparison", "right")
    operator = place.get("operator")
    if operator not in COMPARISONS:
        at = place.at("operator") if "operator" in place else place
        at.problem(
            f"operator `{operator}` isn't known" if operator else "the comparison has no operator",
            f"use one of {', '.join(repr(name) for name in COMPARISONS)}, in quotes",
        )
        return None
    if left is None or right is None:
        return None
    if not comparable(left.type, right.type):
        message = f"`{left.name}` has type {left.type.kind}, `{right.name}` {right.type.kind}: they can't be compared"
        place.problem(message, "give both the same type")
        return None
    return Found(RuleKind.COMPARE, f"{left.name}_{right.name}", (left.name, right.name), {"operator": operator}, place)


def _schema(place: Place, about: About, column: Column | None, scope: Scope) -> Found | None:
    if column is not None:
        place.problem("rule schema is about the table", "move it to the `quality` of the table")
        return None
    return Found(RuleKind.SCHEMA, "schema", (), {}, place)


def _reconcile(place: Place, about: About, column: Column | None, scope: Scope) -> Found | None:
    found = _function(place, about, column, "reconciliation", ("rowCount", "sum"))
    if found is None:
        return None
    args, columns = found
    target = place.get("with")
    if target is None:
        place.problem(
            "the reconciliation names nothing to agree with", "add `with: table`, `table.column` or `manifest`"
        )
        return None
    args |= {"table": None, "column": None, "cut": None, "field_kind": None}
    name = "_".join([*columns, str(args["function"])])
    if target == MANIFEST:
        if args["function"] != ROW_COUNT:
            place.at("function").problem("manifests count rows only", "use `function: rowCount`, or another table")
            return None
        if about.load_mode is LoadMode.MERGE:
            message = "rows of a merged table give way to later ones, so that no manifest tells how many there are"
            place.at("with").problem(message, "reconcile it with another table")
            return None
        if scope is Scope.TABLE and about.partitioning is not None:
            place.problem("deliveries are counted partition by partition", "remove `scope: table`")
            return None
        return Found(RuleKind.RECONCILE, f"{name}_manifest", columns, args, place)
    table_name, _, other_column = str(target).partition(".")
    other = about.catalog.table(table_name)
    if other is None:
        if about.catalog.complete:
            place.at("with").problem(
                f"table `{table_name}` isn't in any contract", one_of(table_name, [*about.catalog.heads, MANIFEST])
            )
        return None
    if args["function"] == "sum":
        other_column = other_column or columns[0]
        if other_column not in other.columns:
            place.at("with").absent(
                f"`{other_column}` is no column of `{other.name}`", one_of(other_column, other.columns)
            )
            return None
        if not other.columns[other_column].type.numeric:
            place.at("with").problem(
                f"`{other.name}.{other_column}` has type {other.columns[other_column].type.kind}",
                "use a numeric column",
            )
            return None
        args["column"] = other_column
    elif other_column:
        place.at("with").problem("rowCount is about tables", f"write `with: {other.name}`")
        return None
    args["table"] = other.name
    cut = cut_of(other)
    if cut is not None:
        args |= {"cut": cut, "field_kind": other.columns[cut.field].type.kind}
    mine = about.partitioning
    if mine is not None and scope is Scope.PARTITION and (cut is None or _way(cut) != _way(mine)):
        message = f"`{other.name}` isn't cut by {_way(mine)} as `{about.head.name}` is"
        place.at("with").problem(message, "add the customProperty `scope: table`, to compare the tables as a whole")
        return None
    return Found(RuleKind.RECONCILE, f"{name}_{other.name}", columns, args, place)


def _way(cut: Cut) -> str:
    """How a table is cut, in words: partitions of tables that are cut the same way have the same keys."""
    return "its names" if isinstance(cut, NamedPartitioning) else f"{cut.granularity}s of {cut.timezone}"


CUSTOM_RULES: Mapping[str, tuple[tuple[str, ...], Callable[[Place, About, Column | None, Scope], Found | None]]] = {
    "aggregate": (("function", "quantile", "column"), _aggregate),
    "anomaly": (("function", "quantile", "column", "history", "minimum"), _anomaly),
    "compare": (("left", "operator", "right"), _compare),
    "drift": (("column", "metric", "bins", "reference"), _drift),
    "reconcile": (("function", "column", "with"), _reconcile),
    "schema": ((), _schema),
}
"""Rule → the keys of its implementation, and how it is read."""
