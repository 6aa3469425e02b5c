"""What it takes to make the warehouse's tables what the contracts say: asked by every run, by `plan` and by `apply`."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from dataops_platform.contracts.model import LoadMode, Rule, SchemaPolicy, Table
from dataops_platform.contracts.problems import ConfigError
from dataops_platform.contracts.versions import Step, Version, is_older
from dataops_platform.warehouse.definitions import EXPIRATION, FILTER, Definition, History
from dataops_platform.warehouse.names import addable, quarantine, staging
from dataops_platform.warehouse.shapes import Difference, Remedy, Shape, differences
from dataops_platform.words import counted


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that is, or becomes, another.

    Attributes:
        sign: `+` is new, `-` goes, `~` changes.
        consequence: what doing it means, where that isn't plain.
        step: which number of the contract's version has to grow for it; None: it isn't the contract that changed.
        remedy: what has to be done in the warehouse; None: nothing.
        breaking: whether it is done only where that is said.
    """

    sign: str
    text: str
    step: Step | None
    consequence: str = ""
    remedy: Remedy | None = None
    breaking: bool = False


@dataclass(frozen=True, slots=True)
class TableChanges:
    """How one table's contract and the warehouse differ.

    Attributes:
        exists: whether there are tables of it yet.
        differences: what statements have to mend, in staging and quarantine.
        found: columns that deliveries brought, with the engine's types.
        unheld: whether there is a staging table, and no quarantine.
        judged: rules that are new or others than before.
    """

    table: Table
    exists: bool
    items: Sequence[Change]
    differences: Sequence[Difference] = ()
    found: Sequence[tuple[str, str]] = ()
    judged: Sequence[Rule] = ()
    applied: Definition | None = None
    unheld: bool = False

    @property
    def breaking(self) -> list[Change]:
        """Those that are done only where that is said."""
        return [item for item in self.items if item.breaking]

    @property
    def lines(self) -> list[str]:
        """How the staging table differs from the contract, as sentences."""
        relation = staging(self.table.name)
        if not self.exists:
            return [f"{relation} doesn't exist"]
        return [str(item) for item in self.differences if item.relation == relation]

    @property
    def rebuild(self) -> bool:
        """Whether the table has to be loaded anew."""
        return any(item.remedy is Remedy.REBUILD for item in self.items)

    @property
    def told(self) -> list[str]:
        """What to tell where it was done unasked; nothing of a table that is merely new."""
        if not self.exists and not self.rebuild:
            return []
        what = "; ".join(f"{item.sign} {item.text}" for item in self.items)
        changed = [f"{self.table.name} follows its contract: {what}"] if what else []
        return changed + ([self.version_problem] if self.version_problem else [])

    @property
    def gone(self) -> bool:
        """Whether the staging table was dropped by somebody: loads that the ledger has are to be forgotten."""
        return not self.exists and self.rebuild

    @property
    def goes_back(self) -> bool:
        """Whether the contract's version is older than the one that applies."""
        return self.applied is not None and is_older(self.table.contract_version, self.applied.version)

    @property
    def recorded(self) -> bool:
        """Whether the ledger has the definition as it reads now, or one of a later version: versions only grow."""
        return self.goes_back or self.applied == Definition.of(self.table)

    def version_wanted(self) -> Version | None:
        """The lowest version that says what has changed; None where the contract's is high enough, or can't be told.

        Before 1.0.0 anything may change at any time (Semantic Versioning, item 4).
        """
        if self.applied is None:
            return None
        try:
            before, now = Version.parse(self.applied.version), Version.parse(self.table.contract_version)
        except ValueError:
            return None
        steps = [item.step for item in self.items if item.step is not None]
        wanted = before.next(max(steps)) if steps and before.major else before
        return wanted if now < wanted else None

    @property
    def version_problem(self) -> str:
        """What is wrong with the contract's version, where, and what to write; empty where nothing is."""
        wanted = self.version_wanted()
        if wanted is None or self.applied is None:
            return ""
        return (
            f"{self.table.file}:{self.table.version_line}: version {self.table.contract_version} has to be at least"
            f" {wanted}: that of {self.table.name} in the warehouse is {self.applied.version}. Write"
            f" `version: {wanted}`"
        )

    @property
    def version_refused(self) -> bool:
        """Whether the version has to be another before anything is changed.

        What is merely new goes on under any version that isn't older: runs follow it by themselves, and a contract that
        is being written changes often. What breaks harms others, and they see it by the version.
        """
        breaks = any(item.step is not None for item in self.breaking)
        return bool(self.version_problem) and (breaks or self.goes_back)

    def refusal(self) -> ConfigError | None:
        """What to say where something would break; None where nothing would."""
        if not self.breaking:
            return None
        what = "; ".join(item.text for item in self.breaking)
        wanted = self.version_wanted() if self.version_refused and not self.goes_back else None
        write = f" write `version: {wanted}` on line {self.table.version_line}," if wanted is not None else ""
        return ConfigError(
            f"{self.table.file}:{self.table.line}: the warehouse differs from the contract: {what}. Undo the change, in"
            f" the contract or in the warehouse, or look at `dataops plan`,{write} then run"
            f" `dataops apply --allow-breaking {self.table.name}`."
        )

    def refuse_by_hand(self) -> None:
        """Don't touch what isn't the platform's.

        Raises:
            ConfigError: there is something.
        """
        items = [item for item in self.items if item.remedy is Remedy.BY_HAND]
        if items:
            what = "; ".join(f"{item.text}: {item.consequence}" for item in items)
            raise ConfigError(f"{self.table.file}:{self.table.line}: {what}")


def compare(
    table: Table,
    history: History,
    wanted: tuple[Shape, Shape],
    actual: tuple[Shape | None, Shape | None],
    filled: bool = False,
) -> TableChanges:
    """Compare a table's contract with what there is.

    Args:
        wanted: staging and quarantine, as the contract says.
        actual: as they are; None where there is none.
        filled: whether one of them has rows; it matters where the ledger has no loads.
    """
    applied = history.applied
    if actual[0] is None:
        gone = table.delivered and (history.loaded or filled)
        return TableChanges(table, False, [_missing(table, gone)], applied=applied)
    brought = _brought(table, applied, wanted[0], actual[0])
    found: list[Difference] = []
    for relation, want, have in zip((staging(table.name), quarantine(table.name)), wanted, actual, strict=True):
        if have is not None:
            found += differences(relation, want, have, addable(table), _brought(table, applied, want, have))
    # What is so of staging is so of quarantine; it is said once.
    seen = {item.column for item in found if item.relation == staging(table.name)}
    items = [_physical(table, history, x) for x in found if x.relation == staging(table.name) or x.column not in seen]
    rules: list[Rule] = []
    if applied is not None:
        items += _declared(table, applied, any(not item.column for item in found), {item.column for item in found})
        items += _rules(table, applied)
        rules = [rule for rule in table.rules if _is_new(rule, applied)]
    if table.delivered and filled and not history.loaded:
        text = f"{table.name} has rows in the warehouse, and the ledger has no loads of it"
        consequence = f"the next run would double them: {_anew(table)}"
        items.append(Change("~", text, None, consequence, Remedy.REBUILD, breaking=True))
    if table.delivered and actual[1] is None and history.quarantined:
        text = f"table {quarantine(table.name)} is gone, and its rows with it"
        items.append(Change("+", text, None, _anew(table), Remedy.REBUILD, breaking=True))
    kinds = [(name, actual[0].columns[name]) for name in brought]
    return TableChanges(table, True, items, found, kinds, rules, applied, actual[1] is None)


def same_but_for_case(table: Table, other: str, history: History) -> TableChanges:
    """The changes of a table that the engine has under a name of other upper and lower case letters."""
    text = f"{staging(table.name)} is there as {staging(other)}, and the engine doesn't tell them apart"
    consequence = f"name it {other} in the contract, or rename {staging(other)} and {quarantine(other)} by hand"
    item = Change("~", text, None, consequence, Remedy.BY_HAND, breaking=True)
    return TableChanges(table, True, [item], applied=history.applied)


def _missing(table: Table, gone: bool) -> Change:
    """What it means that there is no staging table.

    Args:
        gone: whether there was one: the ledger has loads of it, or its quarantine has rows.
    """
    if gone:
        text = f"table {staging(table.name)} is gone"
        return Change("+", text, None, "it is made, and the next run loads it anew from the lake", Remedy.REBUILD)
    cut = f", by {Definition.of(table).partitioning}" if table.partitioning else ""
    columns, rules = counted(len(table.columns), "column"), counted(len(table.rules), "rule")
    return Change("+", f"table {staging(table.name)}: {columns}{cut}, {rules}", None)


def _brought(table: Table, applied: Definition | None, wanted: Shape, actual: Shape) -> list[str]:
    """Columns of staging that the contract never had, where deliveries may bring such."""
    if table.schema_policy is not SchemaPolicy.ADDITIVE:
        return []
    declared = applied.columns if applied is not None else {}
    known = {name.lower() for name in wanted.columns}
    return [name for name in actual.columns if name.lower() not in known and name not in declared]


def _narrowed(table: Table, applied: Definition) -> bool:
    """Whether deliveries could bring columns, and what they brought may not stay now."""
    return applied.schema_policy == SchemaPolicy.ADDITIVE and table.schema_policy is not SchemaPolicy.ADDITIVE


def _anew(table: Table) -> str:
    """What happens to a table that has to be built anew."""
    if table.delivered:
        return "the table is emptied, and the next run loads it anew from the lake"
    return "its quarantine is emptied: the asset that writes the table fills it when it is materialised again"


def _physical(table: Table, history: History, item: Difference) -> Change:
    """What a difference means."""
    applied = history.applied
    now = Definition.of(table).columns.get(item.column)
    same = applied is not None and now is not None and applied.columns.get(item.column) == now
    if not item.column:
        cut = Definition.of(table).partitioning
        same = item.remedy is Remedy.REBUILD and applied is not None and applied.partitioning == cut
    elif now is None and item.wanted:  # a column of the platform's own
        same = True
    # What runs for long, or began before the contract changed, must not bring back what another one has changed.
    undoes = ""
    if applied is not None and is_older(table.contract_version, applied.version):
        undoes = f"; version {table.contract_version} of the contract is older than {applied.version}, which is applied"
    by_hand = "; not by the contract: it was changed in the warehouse" if same else ""
    text = f"{item}{by_hand}"
    match item.remedy:
        case Remedy.ADD if same and now is not None:  # made anew, it would be null where the lake has values
            text = f"column {item.relation}.{item.column} ({item.wanted}) was dropped in the warehouse"
            return Change("+", text, None, _anew(table), Remedy.REBUILD, breaking=True)
        case Remedy.ADD:
            text = f"column {item.relation}.{item.column} ({item.wanted}){undoes}"
            had = any(item.column in before.columns for before in history.versions.values())
            again = (
                f"; it was there before, and `dataops reload {table.name}` loads what the lake has of it" if had else ""
            )
            consequence = f"null in the rows that are there{again}"
            step = None if now is None else Step.MINOR
            return Change("+", text, step, consequence, item.remedy, breaking=bool(undoes))
        case Remedy.DROP:
            consequence = "its values go from staging and quarantine; the lake keeps what was delivered of them"
            had = applied is None or item.column in applied.columns or _narrowed(table, applied)
            return Change("-", text, Step.MAJOR if had else None, consequence, item.remedy, breaking=True)
        case Remedy.WIDEN | Remedy.RELAX:
            step = None if same else Step.MINOR
            return Change("~", f"{text}{undoes}", step, "", item.remedy, breaking=bool(undoes))
        case Remedy.BY_HAND:
            consequence = f"drop {item.relation} by hand, if it isn't needed"
            return Change("~", text, None, consequence, item.remedy, breaking=True)
        case Remedy.REBUILD:
            if same and not item.actual:
                text = f"column {item.relation}.{item.column} ({item.wanted}) was dropped in the warehouse"
            consequence = _anew(table) + (_refused_then(table, item) if table.delivered and not same else "")
            step = None if same else Step.MAJOR
            return Change("~" if item.actual else "+", text, step, consequence, item.remedy, breaking=True)


def _refused_then(table: Table, item: Difference) -> str:
    """Which deliveries of before a table that is built anew refuses."""
    if item.spelled:
        return "; deliveries that spell it otherwise are refused"
    if item.column and not item.actual:
        cut = table.partitioning.field if table.partitioning else ""
        hint = "" if item.column in (*table.primary_key, cut) else ": make it optional to keep them"
        return f"; it is required, so deliveries without it are refused{hint}"
    return "; deliveries of the old type are refused, unless they fit the new one" if item.column else ""


def _declared(table: Table, applied: Definition, cut_differs: bool, differ: Collection[str]) -> list[Change]:
    """What else the contract says of the table than it said before.

    Args:
        differ: columns of which the warehouse's tables differ.
    """
    now, target = Definition.of(table), staging(table.name)
    items = []
    if now.primary_key != applied.primary_key:
        anew = LoadMode.MERGE in (table.load_mode, applied.load_mode)
        text = f"the key of {target} is ({', '.join(now.primary_key)}), it was ({', '.join(applied.primary_key)})"
        consequence = f"rows are merged by it: {_anew(table)}" if anew else "whoever joins by the old key has to follow"
        items.append(Change("~", text, Step.MAJOR, consequence, Remedy.REBUILD if anew else None, breaking=True))
    if now.partitioning != applied.partitioning and not cut_differs:
        text = f"{target} is cut by {now.partitioning or 'nothing'}, it was by {applied.partitioning or 'nothing'}"
        consequence = f"{_anew(table)}; deliveries for partitions of the old kind are refused"
        items.append(Change("~", text, Step.MAJOR, consequence, Remedy.REBUILD, breaking=True))
    for name, kind in now.columns.items():
        if name not in applied.columns and name not in differ:  # a delivery brought it before
            items.append(Change("+", f"column {target}.{name} is in the contract now", Step.MINOR))
        before = applied.columns.get(name, kind)
        if before != kind and before.removesuffix(" required") == kind.removesuffix(" required"):
            text = f"column {target}.{name} is {'required' if kind.endswith('required') else 'optional'} now"
            items.append(Change("~", text, Step.MINOR))
    if now.load_mode != applied.load_mode:
        consequence = f"rows that are there stay as they are; `dataops reload {table.name}` builds the table anew"
        text = f"{target} is loaded by {now.load_mode}, it was by {applied.load_mode}"
        items.append(Change("~", text, Step.MINOR, consequence))
    if now.schema_policy != applied.schema_policy:
        text = f"schemaPolicy of {table.name} is {now.schema_policy}, it was {applied.schema_policy}"
        items.append(Change("~", text, Step.PATCH))
    if now.clustering != applied.clustering:
        by, before = (", ".join(of.clustering) or "nothing" for of in (now, applied))
        text = f"{target} is clustered by {by}, it was by {before}"
        items.append(Change("~", text, Step.PATCH))
    return items + _options(table, now, applied)


def _options(table: Table, now: Definition, applied: Definition) -> list[Change]:
    items = []
    for name, value in now.options.items():
        before = applied.options.get(name, value)
        if value == before:
            continue
        harm = ""
        if name == EXPIRATION and table.expiration_days and (before == "never" or table.expiration_days < int(before)):
            harm = "BigQuery drops the partitions that are older, at once; the lake keeps their deliveries"
        elif name == FILTER and table.partition_filter:
            harm = "BigQuery refuses queries that don't name partitions"
        text = f"{name} of {table.name} is {value}, it was {before}"
        items.append(Change("~", text, Step.MAJOR if harm else Step.PATCH, harm, breaking=bool(harm)))
    return items


def _is_new(rule: Rule, applied: Definition) -> bool:
    before = applied.rules.get(rule.id)
    return before is None or before.fingerprint != rule.fingerprint


def _rules(table: Table, applied: Definition) -> list[Change]:
    now = Definition.of(table).rules
    items = []
    for rule in table.rules:
        if _is_new(rule, applied):
            before = applied.rules.get(rule.id)
            was = f", it was ({before.text})" if before is not None and before.text != now[rule.id].text else ""
            sign = "+" if before is None else "~"
            items.append(Change(sign, f"rule {table.name}.{rule.id} ({now[rule.id].text}){was}", Step.MINOR))
    gone = {name: rule for name, rule in applied.rules.items() if name not in now}
    return items + [Change("-", f"rule {table.name}.{name} ({rule.text})", Step.MINOR) for name, rule in gone.items()]
