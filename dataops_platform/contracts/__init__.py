"""What tables promise: contract files (Open Data Contract Standard), read, checked, and typed.

`load_contracts` is the way in. What needs a heavy library (Arrow, sqlglot) is imported on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from dataops_platform.contracts.model import (
    BadRowAction,
    BadRows,
    Column,
    Contract,
    Contracts,
    Dimension,
    LoadMode,
    Operator,
    Rule,
    RuleKind,
    Scope,
    Severity,
    Source,
    Table,
    Threshold,
    Unit,
)
from dataops_platform.contracts.partitions import UNPARTITIONED, Granularity, NamedPartitioning, Partitioning
from dataops_platform.contracts.problems import ConfigError, ContractErrors, DataOpsError, DataRefused, Problem
from dataops_platform.contracts.types import FieldType, Kind

if TYPE_CHECKING:
    from dataops_platform.contracts.arrow import arrow_schema
    from dataops_platform.contracts.dbt_sources import sources_yaml
    from dataops_platform.contracts.reader import find_contracts, load_contracts

_LAZY = {
    "arrow_schema": "arrow",
    "find_contracts": "reader",
    "load_contracts": "reader",
    "sources_yaml": "dbt_sources",
}

__all__ = [
    "UNPARTITIONED",
    "BadRowAction",
    "BadRows",
    "Column",
    "ConfigError",
    "Contract",
    "ContractErrors",
    "Contracts",
    "DataOpsError",
    "DataRefused",
    "Dimension",
    "FieldType",
    "Granularity",
    "Kind",
    "LoadMode",
    "NamedPartitioning",
    "Operator",
    "Partitioning",
    "Problem",
    "Rule",
    "RuleKind",
    "SchemaPolicy",
    "Scope",
    "Severity",
    "Source",
    "Table",
    "Threshold",
    "Unit",
    "arrow_schema",
    "find_contracts",
    "load_contracts",
    "sources_yaml",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
