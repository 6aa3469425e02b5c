"""What it takes to make the warehouse's tables what the contracts say: asked by every run, by `plan` and by `apply`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dataops_platform.contracts.model import LoadMode, Rule, SchemaPolicy, Table
from dataops_platform.contracts.problems import ConfigError
from dataops_platform.contracts.versions import Step, Version
from dataops_platform.warehouse.definitions import Definition, History
from dataops_platform.warehouse.names import addable, quarantine, staging
from dataops_platform.warehouse.shapes import Difference, Remedy, Shape, differences


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that is, or becomes, another.

    Attributes:
        sign: `+` is new, `-` goes, `~` changes.
        consequence: what doing it means, where that isn't plain.
        step: which number of the contract's version has to grow for it.
        remedy: what has to be done in the warehouse; None: nothing.
        breaking: whether it is done only where that is said.
    """

    sign: str
    text: str
    step: Step
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
        judged: rules that are new or others than before.
    """

    table: Table
    exists: bool
    items: Sequence[Change]
    differences: Sequence[Difference] = ()
    found: Sequence[tuple[str, str]] = ()
    judged: Sequence[Rule] = ()
    applied: Definition | None = None

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
    def recorded(self) -> bool:
        """Whether the ledger has the definition as it reads now."""
        return self.applied == Definition.of(self.table)

    def version_wanted(self) -> Version | None:
        """The lowest version that says what has changed; None where the contract's is high enough, or can't be told."""
        if self.applied is None or not self.items:
            return None
        try:
            before, now = Version.parse(self.applied.version), Version.parse(self.table.contract_version)
        except ValueError:
            return None
        wanted = before.next(max(item.step for item in self.items))
        return wanted if now < wanted else None

    def refusal(self) -> ConfigError | None:
        """What to say where something would break; None where nothing would."""
        if not self.breaking:
            return None
        what = "; ".join(item.text for item in self.breaking)
        return ConfigError(
            f"{self.table.file}:{self.table.line}: the warehouse differs from the contract: {what}. Undo the change, in"
            f" the contract or in the warehouse, or look at `dataops plan`, then run"
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
) -> TableChanges:
    """Compare a table's contract with what there is.

    Args:
        wanted: staging and quarantine, as the contract says.
        actual: as they are; None where there is none.
    """
    applied = history.applied
    if actual[0] is None:
        cut = f", by {Definition.of(table).partitioning}" if table.partitioning else ""
        text = f"table {staging(table.name)}: {len(table.columns)} columns{cut}, {len(table.rules)} rules"
        return TableChanges(table, False, [Change("+", text, Step.PATCH)], judged=(), applied=applied)
    brought = _brought(table, applied, wanted[0], actual[0])
    found: list[Difference] = []
    for relation, want, have in zip((staging(table.name), quarantine(table.name)), wanted, actual, strict=True):
        if have is not None:
            found += differences(relation, want, have, addable(table), brought)
    # What is so of staging is so of quarantine; it is said once.
    seen = {item.column for item in found if item.relation == staging(table.name)}
    items = [_physical(table, x) for x in found if x.relation == staging(table.name) or x.column not in seen]
    rules: list[Rule] = []
    if applied is not None:
        items += _declared(table, applied, any(not item.column for item in found)) + _rules(table, applied)
        rules = [rule for rule in table.rules if _is_new(rule, applied)]
    kinds = [(name, actual[0].columns[name]) for name in brought]
    return TableChanges(table, True, items, found, kinds, rules, applied)


def _brought(table: Table, applied: Definition | None, wanted: Shape, actual: Shape) -> list[str]:
    """Columns of staging that the contract never had, where deliveries may bring such."""
    if table.schema_policy is not SchemaPolicy.ADDITIVE:
        return []
    declared = applied.columns if applied is not None else {}
    return [name for name in actual.columns if name not in wanted.columns and name not in declared]


_ANEW = "the table is emptied, and the next run loads it anew from the lake"


def _physical(table: Table, item: Difference) -> Change:
    """What a difference means."""
    match item.remedy:
        case Remedy.ADD:
            text = f"column {item.relation}.{item.column} ({item.wanted})"
            own = item.column not in {column.name for column in table.columns}
            consequence = "null in the rows that are there"
            return Change("+", text, Step.PATCH if own else Step.MINOR, consequence, item.remedy)
        case Remedy.DROP:
            consequence = "its values go from staging and quarantine; the lake keeps them"
            return Change("-", str(item), Step.MAJOR, consequence, item.remedy, breaking=True)
        case Remedy.WIDEN | Remedy.RELAX:
            return Change("~", str(item), Step.MINOR, "", item.remedy)
        case Remedy.BY_HAND:
            consequence = f"drop {item.relation} by hand, if it isn't needed"
            return Change("~", str(item), Step.PATCH, consequence, item.remedy, breaking=True)
        case Remedy.REBUILD:
            consequence = _ANEW
            if item.column and not item.actual:
                consequence += "; it is required, so deliveries without it are refused: make it optional to keep them"
            elif item.column:
                consequence += "; deliveries of the old type are refused, unless they fit the new one"
            return Change("~" if item.actual else "+", str(item), Step.MAJOR, consequence, item.remedy, breaking=True)


def _declared(table: Table, applied: Definition, cut_differs: bool) -> list[Change]:
    """What else the contract says of the table than it said before."""
    now, target = Definition.of(table), staging(table.name)
    items = []
    if now.primary_key != applied.primary_key:
        anew = LoadMode.MERGE in (table.load_mode, applied.load_mode)
        text = f"the key of {target} is ({', '.join(now.primary_key)}), it was ({', '.join(applied.primary_key)})"
        consequence = f"rows are merged by it: {_ANEW}" if anew else "whoever joins by the old key has to follow"
        items.append(Change("~", text, Step.MAJOR, consequence, Remedy.REBUILD if anew else None, breaking=True))
    if now.partitioning != applied.partitioning and not cut_differs:
        text = f"{target} is cut by {now.partitioning or 'nothing'}, it was by {applied.partitioning or 'nothing'}"
        consequence = f"{_ANEW}; deliveries for partitions of the old kind are refused"
        items.append(Change("~", text, Step.MAJOR, consequence, Remedy.REBUILD, breaking=True))
    for name, kind in now.columns.items():
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
        text = f"{target} is clustered by {', '.join(now.clustering) or 'nothing'}"
        items.append(Change("~", text, Step.PATCH))
    return items


def _is_new(rule: Rule, applied: Definition) -> bool:
    before = applied.rules.get(rule.id)
    return before is None or before.fingerprint != rule.fingerprint


def _rules(table: Table, applied: Definition) -> list[Change]:
    now = Definition.of(table).rules
    items = []
    for rule in table.rules:
        if _is_new(rule, applied):
            sign = "~" if rule.id in applied.rules else "+"
            items.append(Change(sign, f"rule {table.name}.{rule.id} ({now[rule.id].text})", Step.MINOR))
    gone = {name: rule for name, rule in applied.rules.items() if name not in now}
    return items + [Change("-", f"rule {table.name}.{name} ({rule.text})", Step.MINOR) for name, rule in gone.items()]
