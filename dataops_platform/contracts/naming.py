"""Names and dimensions that rules get when the contract gives none."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

from dataops_platform.contracts.document import Place
from dataops_platform.contracts.model import Dimension, RuleKind

DEFAULT_DIMENSIONS: Mapping[RuleKind, Dimension | None] = MappingProxyType(
    {
        RuleKind.NOT_NULL: Dimension.COMPLETENESS,
        RuleKind.MISSING: Dimension.COMPLETENESS,
        RuleKind.ROW_COUNT: Dimension.COMPLETENESS,
        RuleKind.RANGE: Dimension.VALIDITY,
        RuleKind.LENGTH: Dimension.VALIDITY,
        RuleKind.PATTERN: Dimension.VALIDITY,
        RuleKind.FORMAT: Dimension.VALIDITY,
        RuleKind.IN_SET: Dimension.VALIDITY,
        RuleKind.NOT_IN_SET: Dimension.VALIDITY,
        RuleKind.SCHEMA: Dimension.VALIDITY,
        RuleKind.DUPLICATES: Dimension.UNIQUENESS,
        RuleKind.ORPHANS: Dimension.CONSISTENCY,
        RuleKind.CONDITION: Dimension.CONSISTENCY,
        RuleKind.COMPARE: Dimension.CONSISTENCY,
        RuleKind.RECONCILE: Dimension.CONSISTENCY,
        RuleKind.AGGREGATE: Dimension.ACCURACY,
        RuleKind.ANOMALY: Dimension.ACCURACY,
        RuleKind.DRIFT: Dimension.ACCURACY,
        RuleKind.LATENCY: Dimension.TIMELINESS,
        RuleKind.EVENT_LATENCY: Dimension.TIMELINESS,
        RuleKind.FRESHNESS: Dimension.TIMELINESS,
        RuleKind.ARRIVAL: Dimension.TIMELINESS,
        RuleKind.QUERY: None,  # could be about anything: the contract has to say
    }
)
ODCS_DIMENSIONS: Mapping[str, Dimension] = MappingProxyType(
    {
        "accuracy": Dimension.ACCURACY,
        "completeness": Dimension.COMPLETENESS,
        "coverage": Dimension.COMPLETENESS,
        "conformity": Dimension.VALIDITY,
        "consistency": Dimension.CONSISTENCY,
        "timeliness": Dimension.TIMELINESS,
        "uniqueness": Dimension.UNIQUENESS,
    }
)


def slug(text: str) -> str:
    """A text as a rule id: letters, digits and underscores only."""
    return re.sub(r"[^A-Za-z0-9_]+", "_", text).strip("_")


def rule_id(entry: Place, fallback: str) -> str:
    """A rule's id: its `id`, else its `name`, else what it is about."""
    return slug(str(entry.get("id", ""))) or slug(str(entry.get("name", ""))) or slug(fallback)


def dimension_of(entry: Place, kind: RuleKind) -> Dimension | None:
    """A rule's dimension: as declared, else that of its kind; None (reported) when neither says."""
    if "dimension" in entry:
        return ODCS_DIMENSIONS[entry.get("dimension")]
    default = DEFAULT_DIMENSIONS[kind]
    if default is None:
        entry.absent(
            "a query can be about any dimension, and this one names none", "add `dimension: accuracy`, or another one"
        )
    return default
