"""What alerts are about, and what may be told of it: owners, rules, and columns that aren't public."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from dataops_platform.contracts.model import MASK, Rule, RuleKind, Table
from dataops_platform.contracts.partitions import Cut
from dataops_platform.secrets import redact
from dataops_platform.warehouse.names import staging

_OBSERVES_VALUES = {
    RuleKind.AGGREGATE,
    RuleKind.QUERY,
    RuleKind.RECONCILE,
    RuleKind.FRESHNESS,
    RuleKind.EVENT_LATENCY,
}
"""What these observe is made of a column's values; the others count rows, partitions, hours or deviations."""

WITHHELD = "not shown: the table has columns that aren't public; the run has the text"
LONGEST = 300
"""Characters of a text that an engine wrote."""
_FOLDERS = ("raw", "staging", "transformed", "production")


def name_of_part(part: str) -> str:
    """The table or model that a part of a run is about; empty where its name doesn't tell."""
    step, _, name = part.partition("/")
    return name or step.removesuffix("__checks").partition("__")[2]


@dataclass(frozen=True, slots=True)
class Subjects:
    """What alerts and events may be about.

    Attributes:
        tables: contract tables by name.
        models: with the contract tables that each is made of.
        tests: names of the models' tests.
        whole: models that are built as a whole, whichever partitions a run is about.
        model_ids: dbt's unique id → the model.
        steps: what runs are made of → how it is cut, where a contract's table is cut so; empty: unknown.
        checks: asset and name of each asset check; empty: unknown.
        ancestors: model → the models that it is made of.
        read: model → the contract tables whose values it may hold, or its tests may see.
    """

    tables: Mapping[str, Table]
    models: Mapping[str, Sequence[str]]
    tests: Collection[str] = ()
    whole: Collection[str] = ()
    model_ids: Mapping[str, str] = field(default_factory=dict)
    steps: Mapping[str, Cut | None] = field(default_factory=dict)
    checks: Collection[tuple[str, str]] = ()
    ancestors: Mapping[str, Sequence[str]] = field(default_factory=dict)
    read: Mapping[str, Collection[str]] = field(default_factory=dict)

    @property
    def objects(self) -> list[str]:
        """Everything that has verdicts, as the ledger names it."""
        return [*(str(staging(name)) for name in self.tables), *self.models]

    def table_of(self, name: str) -> Table | None:
        """The contract table of `staging.<table>`; None for anything else."""
        schema, _, table = name.partition(".")
        return self.tables.get(table) if schema == "staging" else None

    def rule(self, name: str, rule_id: str) -> Rule | None:
        """The rule as the contract has it now; None where it has none, and for a model's tests."""
        table = self.table_of(name)
        return None if table is None else next((rule for rule in table.rules if rule.id == rule_id), None)

    def asks(self, name: str, rule_id: str | None) -> bool:
        """Whether there is such a table or model, and such a rule or test of it; None: whatever it is asked."""
        table = self.table_of(name)
        if table is None:
            return name in self.models and (rule_id is None or rule_id in self.tests)
        return rule_id is None or self.rule(name, rule_id) is not None

    def has(self, part: str) -> bool:
        """Whether there is such a part of a run: its step, and the table or model."""
        step, _, name = part.partition("/")
        if self.steps and step and step.partition(".")[0] not in self.steps:
            return False
        return not name or name in self.tables or name in self.model_ids.values()

    def cut(self, part: str) -> Cut | None:
        """How what a part of a run is about is cut; None where that isn't known, or it isn't."""
        name = name_of_part(part)
        for source in (name, *self.models.get(name, ())):
            if (table := self.tables.get(source)) is not None and table.partitioning is not None:
                return table.partitioning
        return self.steps.get(part.partition(".")[0])

    def is_judged_by(self, part: str, gate: str) -> bool:
        """Whether a gate, the part `production__<model>` of a run, refuses the partitions that another part fails for.

        That part: the checks of a table that the model is made of; the build and the tests of it or its ancestors.
        """
        folder, _, model = gate.partition("__")
        if folder != "production":
            return False
        step, _, built = part.partition("/")
        if step.endswith("__checks"):
            return name_of_part(step) in self.models.get(model, ())
        return built in (model, *self.ancestors.get(model, ()))

    def owner(self, name: str) -> str | None:
        """Who owns a table, by its contract; who owns what a model is made of."""
        table = self.table_of(name)
        return self._owners(self.models.get(name, ()) if table is None else [table.name])

    def is_whole(self, name: str) -> bool:
        """Whether a table or model has no partitions."""
        table = self.tables.get(name)
        return name in self.whole if table is None else table.partitioning is None

    def owner_of_parts(self, parts: Iterable[str]) -> str | None:
        """Who owns the tables and models that parts of a run are about: steps, or `<step>/<table or model>`."""
        names = set(map(name_of_part, parts))
        return self._owners(t for name in names for t in ([name] if name in self.tables else self.models.get(name, ())))

    def _owners(self, tables: Iterable[str]) -> str | None:
        owners = {self.tables[name].owner for name in tables if name in self.tables}
        return ", ".join(sorted(filter(None, owners))) or None

    def number(self, rule: Rule | None, table: Table | None, observed: float | None) -> str:
        """What a rule observed, unless that tells a value that isn't public."""
        if observed is None:
            return "no value"
        if rule is not None and table is not None and rule.kind in _OBSERVES_VALUES:
            columns = {column.name: column.public for column in table.columns}
            # A query may read any column, and a reconciliation names its column elsewhere.
            read = rule.columns or tuple(columns)
            if not all(columns.get(name, True) for name in read):
                return MASK
        return f"{observed:.15g}"

    def text(self, step: str, text: str, about: Collection[str] = ()) -> str:
        """The first line of what an engine or somebody's code said, where it can't hold values that aren't public.

        Args:
            step: empty: Dagster itself said it, of a run that no step of it told of.
            about: the tables and models that the step was about, where its name doesn't tell; empty: unknown.
        """
        concerned = self._concerned(step, about) if step else ()
        if not all(column.public for table in concerned for column in table.columns):
            return WITHHELD
        lines = [line.strip() for line in redact(text).splitlines() if line.strip()]
        # What Dagster says may be followed by what the run's process logged.
        shown = " ".join(lines[: 2 if step else 1])
        return shown if len(shown) <= LONGEST else f"{shown[: LONGEST - 1]}…"

    def _concerned(self, step: str, about: Collection[str]) -> Sequence[Table]:
        """The tables whose values a step's text may hold: its own, or, where that can't be told, all."""
        folder, _, name = step.removesuffix("__checks").replace(".", "__", 1).partition("__")
        if folder in ("raw", "staging") and name in self.tables:
            return [self.tables[name]]
        if folder in _FOLDERS and name in self.models:
            return [self.tables[source] for source in self.models[name] if source in self.tables]
        if about and all(name in self.read or name in self.tables for name in about):
            names = {source for name in about for source in self.read.get(name, [name])}
            return [self.tables[source] for source in names if source in self.tables]
        return list(self.tables.values())
