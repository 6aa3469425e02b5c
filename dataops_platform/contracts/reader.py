"""Reads contract files into the typed view, or says everything that is wrong with them at once."""

from __future__ import annotations

import gc
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from dataops_platform.contracts.custom import (
    custom_properties,
    read_bad_rows,
    read_clustering,
    read_expiration,
    read_load_mode,
    read_partition_filter,
    read_partitioning,
    read_partitions_per_run,
    read_schema_policy,
    read_source,
)
from dataops_platform.contracts.custom_rules import About
from dataops_platform.contracts.document import Document, Place, read_document
from dataops_platform.contracts.model import Contract, Contracts, Landing, Rule, Table
from dataops_platform.contracts.native import column_rules
from dataops_platform.contracts.odcs import validate
from dataops_platform.contracts.partitions import Cut
from dataops_platform.contracts.problems import ConfigError, ContractErrors
from dataops_platform.contracts.references import Catalog, relationship_rules
from dataops_platform.contracts.rules import quality_rules
from dataops_platform.contracts.servers import Claim, check_overlaps, read_landings
from dataops_platform.contracts.sla import sla_rules
from dataops_platform.contracts.tables import TableHead, read_head
from dataops_platform.contracts.versions import Version, suggestion

SUFFIXES = (".odcs.yaml", ".odcs.yml")


def find_contracts(paths: Sequence[Path] | Path) -> list[Path]:
    """The contract files among `paths`: files as given, folders searched for *.odcs.yaml and *.odcs.yml, sorted.

    Raises:
        ConfigError: a path doesn't exist, or there is no contract at all.
    """
    given = [paths] if isinstance(paths, Path) else list(paths)
    found: dict[Path, None] = {}
    for path in given:
        if path.is_dir():
            inside = (file for suffix in SUFFIXES for file in path.rglob(f"*{suffix}") if file.is_file())
            found.update(dict.fromkeys(sorted(inside)))
        elif path.exists():
            found[path] = None
        else:
            raise ConfigError(f"{path} doesn't exist → name a contract file, or a folder of *.odcs.yaml files")
    if not found:
        where = ", ".join(map(str, given)) or "no path"
        raise ConfigError(f"no contract found in {where} → add a file whose name ends with .odcs.yaml")
    return list(found)


def load_contracts(paths: Sequence[Path] | Path) -> Contracts:
    """Reads and checks contracts.

    Args:
        paths: contract files, or folders that are searched for them.

    Returns:
        The contracts in file order.

    Raises:
        ContractErrors: something is wrong in any of them; carries every problem of every file.
        ConfigError: a path doesn't exist, or there is no contract at all.
    """
    files = find_contracts(paths)
    # A thousand files make millions of small nodes that live until the end: collecting meanwhile only costs.
    collecting = gc.isenabled()
    gc.disable()
    try:
        return _load([read_document(file) for file in files])
    finally:
        if collecting:
            gc.enable()


def _load(documents: Sequence[Document]) -> Contracts:
    readable = [document for document in documents if validate(document)]
    heads: dict[str, TableHead] = {}
    own: list[tuple[Place, dict[str, TableHead]]] = []
    taken: dict[str, TableHead] = {}
    complete = len(readable) == len(documents)
    for document in readable:
        contract = Place.root(document)
        tables, all_read = _heads(contract, taken)
        own.append((contract, tables))
        heads |= tables
        complete = complete and all_read
    _check_ids(contract for contract, _ in own)
    catalog = Catalog(heads, complete)
    claims: list[Claim] = []
    contracts = tuple(_contract(contract, tables, catalog, claims) for contract, tables in own)
    check_overlaps(claims)
    problems = [problem for document in documents for problem in document.problems]
    if problems:
        raise ContractErrors(problems)
    return Contracts(contracts)


def _heads(contract: Place, taken: dict[str, TableHead]) -> tuple[dict[str, TableHead], bool]:
    """The contract's tables, and whether that is all of them.

    A name that another table has already is reported and passed over.
    """
    tables: dict[str, TableHead] = {}
    complete = None not in contract.get("schema", [None])
    for place in contract.at("schema").items():
        head = read_head(place)
        if head is None:
            contract.document.incomplete = True
            complete = False
            continue
        other = taken.setdefault(head.name.lower(), head)
        if other is not head:
            where = f"{other.place.document.file}:{other.place.line}"
            place.at("name").problem(f"table `{head.name}` is already declared in {where}", "rename one of them")
            continue
        tables[head.name] = head
    if not contract.at("schema").value:
        contract.absent("the contract has no table", "list its tables under `schema`")
    return tables, complete


def _check_ids(contracts: Iterable[Place]) -> None:
    seen: dict[Any, Place] = {}
    for contract in contracts:
        identifier = contract.get("id")
        other = seen.setdefault(identifier, contract)
        if other is not contract and identifier:
            message = f"contract id `{identifier}` is already that of {other.document.file}"
            contract.at("id").problem(message, "give each contract an id of its own")


def _contract(contract: Place, heads: dict[str, TableHead], catalog: Catalog, claims: list[Claim]) -> Contract:
    _check_version(contract)
    custom_properties(contract, "contract")  # there are none; reports those that stand here by mistake
    drafts = {name: _Draft(head, catalog) for name, head in heads.items()}
    partitionings = {name: draft.partitioning for name, draft in drafts.items()}
    for name, rule, place in sla_rules(contract, heads, partitionings):
        drafts[name].rules.append((rule, place))
    cut = {name: found for name, found in partitionings.items() if not drafts[name].miscut}
    for claim in read_landings(contract, cut):
        drafts[claim.table].landed(claim)
        claims.append(claim)
    owner = _owner(contract)
    return Contract(
        id=contract.get("id", ""),
        name=contract.get("name", contract.get("id", "")),
        version=contract.get("version", ""),
        file=contract.document.file,
        tables=tuple(draft.table(contract, owner) for draft in drafts.values()),
        description=(contract.get("description") or {}).get("purpose") or "",
        domain=contract.get("domain"),
        owner=owner,
    )


def _check_version(contract: Place) -> None:
    """A version that is missing is reported already."""
    version = contract.get("version", "")
    try:
        if version:
            Version.parse(version)
    except ValueError as error:
        contract.at("version").problem(str(error), suggestion(version))


class _Draft:
    """A table while its rules are being collected."""

    def __init__(self, head: TableHead, catalog: Catalog) -> None:
        self.head = head
        self.custom = custom_properties(head.place, "schema object")
        self.partitioning: Cut | None = read_partitioning(self.custom.get("partitioning"), head.columns)
        self.miscut = self.partitioning is None and "partitioning" in self.custom
        if self.miscut:
            head.place.document.incomplete = True  # it is wrong, not missing
        self.landings: list[Landing] = []
        self.load_mode = read_load_mode(self.custom.get("loadMode"), head.primary_key)
        about = About(head, catalog, self.partitioning, self.load_mode)
        self.rules = [*column_rules(head), *relationship_rules(head, catalog), *quality_rules(about)]
        self._check_partitioned()

    def _check_partitioned(self) -> None:
        """ODCS has `partitioned` for columns; it may not say something else than our partitioning."""
        for name, place in self.head.properties.items():
            if self.partitioning and place.get("partitioned") and name != self.partitioning.field:
                message = f"`{name}` is partitioned, but the table is partitioned by `{self.partitioning.field}`"
                place.at("partitioned").problem(message, "remove it, or change the partitioning field")

    def landed(self, claim: Claim) -> None:
        """Others write the table's objects there."""
        self.landings.append(claim.landing)
        if "source" in self.custom:
            line = self.custom["source"].line
            message = f"table `{self.head.name}` has a `source` too, on line {line}"
            claim.place.problem(message, "keep the one who brings its deliveries: the source, or whoever writes there")

    def table(self, contract: Place, owner: str | None) -> Table:
        head, place, custom = self.head, self.head.place, self.custom
        return Table(
            name=head.name,
            columns=tuple(head.columns.values()),
            primary_key=head.primary_key,
            load_mode=self.load_mode,
            bad_rows=read_bad_rows(custom.get("onBadRow")),
            schema_policy=read_schema_policy(custom.get("schemaPolicy")),
            partitioning=self.partitioning,
            clustering=read_clustering(custom.get("clustering"), head.columns),
            partition_filter=read_partition_filter(custom.get("requirePartitionFilter"), self.partitioning),
            expiration_days=read_expiration(custom.get("partitionExpirationDays"), self.partitioning),
            partitions_per_run=read_partitions_per_run(custom.get("maxPartitionsPerRun"), self.partitioning),
            rules=self._distinct_rules(),
            source=read_source(custom.get("source")),
            landings=tuple(self.landings),
            description=place.get("description", ""),
            tags=tuple(dict.fromkeys([*contract.get("tags", ()), *place.get("tags", ())])),
            owner=owner,
            contract_id=contract.get("id", ""),
            contract_version=contract.get("version", ""),
            version_line=contract.at("version").line,
            file=contract.document.file,
            line=place.line,
        )

    def _distinct_rules(self) -> tuple[Rule, ...]:
        """The rules in the order found; an id may stand for one rule only."""
        found: dict[str, Rule] = {}
        for rule, place in self.rules:
            other = found.setdefault(rule.id, rule)
            if other is not rule:
                message = f"rule id `{rule.id}` is already that of the rule on line {other.line}"
                place.problem(message, "give this rule an `id` of its own")
        return tuple(found.values())


def _owner(contract: Place) -> str | None:
    """The team's name; in the older form, a list of members, the first who is an owner."""
    team = contract.get("team")
    if isinstance(team, dict):
        name: str | None = team.get("name")
        return name
    members = [member for member in team or () if isinstance(member, dict)]
    owners = [member for member in members if "owner" in str(member.get("role", "")).lower()]
    return next((member.get("username") for member in owners), None)
