"""The gate: may a model's partition go to production? Answered from the ledger alone, for exactly the rows at hand.

A run's own checks can't answer that: another run may have built the model, the production asset may be materialised
by itself, and a check over a range has no outcome per partition. So the gate asks, for each partition:

1. Is there a recorded build whose fingerprint is that of the rows in the warehouse now?
2. Did every blocking test of the model, and of the models it was built from, pass on that version?
3. Did every blocking rule of every staging table it was built from, as the contract reads today, pass on the version
   that went in? A rule about references must have been checked since the table they point to was last loaded.

A missing verdict counts as a refusal, never as a pass.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from dataops_platform.contracts.model import Rule, Scope, Severity, Table
from dataops_platform.contracts.partitions import UNPARTITIONED
from dataops_platform.warehouse.base import ModelVersion
from dataops_platform.warehouse.ledger import NEVER_LOADED, Ledger, Verdict
from dataops_platform.warehouse.names import staging

_INPUT = re.compile(r"^(?P<kind>staging|model|code):(?P<name>[^@]+)@(?P<partition>.+)$")
WHOLE_TABLE = "*"
"""In an input's name: the version of the table as a whole, for rules of table scope."""


def input_name(kind: str, name: str, partition: str) -> str:
    """How a build's `inputs` name what went in: `staging:flights@2013-01-01`, `model:dim_carriers@all`."""
    return f"{kind}:{name}@{partition}"


@dataclass(frozen=True, slots=True)
class RequiredTest:
    """A blocking test of a model; `fingerprint` changes when the test does."""

    name: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a partition may not be published, with the rows that it has now."""

    partition_key: str
    data_version: str
    reasons: tuple[str, ...]


class Gate:
    """Reads the ledger once, then answers for any number of partitions."""

    def __init__(
        self,
        ledger: Ledger,
        tables: Mapping[str, Table],
        required_tests: Mapping[str, Sequence[RequiredTest]],
        models: Collection[str],
    ) -> None:
        """Args:
        tables: contract tables by name.
        required_tests: model → its blocking tests, for every model.
        models: the models that are to be published.
        """
        self._tables = tables
        self._tests = required_tests
        self._builds = ledger.latest_builds(models)
        others = {other for t in tables.values() for rule in t.rules if (other := rule.other_table) is not None}
        self._references = ledger.table_versions(others)
        inputs = {name for builds in self._builds.values() for b in builds.values() for name in b.inputs}
        found = [match for name in inputs if (match := _INPUT.match(name))]
        objects = set(models) | {m["name"] for m in found if m["kind"] == "model"}
        objects |= {str(staging(m["name"])) for m in found if m["kind"] == "staging"}
        self._verdicts: dict[tuple[str, str, str], Verdict] = {
            (name, key, verdict.rule_id): verdict
            for name, partitions in ledger.latest_verdicts(objects).items()
            for key, verdicts in partitions.items()
            for verdict in verdicts
        }

    def built(self, model: str) -> Collection[str]:
        """The partitions of a model that have a recorded build."""
        return self._builds[model].keys()

    def refusals(self, model: str, versions: Mapping[str, ModelVersion]) -> list[Refusal]:
        """The partitions of `versions` (key → the rows' version now) that may not be published, with all reasons."""
        result = []
        for key, version in sorted(versions.items()):
            reasons = self._reasons(model, key, version)
            if reasons:
                result.append(Refusal(key, version.data_version, tuple(reasons)))
        return result

    def _reasons(self, model: str, key: str, version: ModelVersion) -> list[str]:
        build = self._builds[model].get(key)
        if build is None:
            return [f"{model} has no recorded build of this partition; materialise the model first"]
        if build.data_version != version.data_version:
            return [f"the rows of {model} are not those of its last recorded build; materialise the model again"]
        reasons = self._test_reasons(model, key, build.data_version)
        for name, input_version in sorted(build.inputs.items()):
            match = _INPUT.match(name)
            if match is None:
                reasons.append(f"the build's record names an unknown input {name!r}")
            elif match["kind"] == "code":
                continue  # says which code built the rows; the rows themselves are judged
            elif match["kind"] == "model":
                reasons += self._test_reasons(match["name"], match["partition"], input_version)
            else:
                reasons += self._rule_reasons(match["name"], match["partition"], input_version)
        return reasons

    def _test_reasons(self, model: str, key: str, version: str) -> list[str]:
        return [
            reason
            for test in self._tests.get(model, ())
            if (reason := self._judge(model, key, test.name, test.fingerprint, version, f"test {test.name} of {model}"))
        ]

    def _rule_reasons(self, name: str, partition: str, version: str) -> list[str]:
        table = self._tables.get(name)
        if table is None:
            return [f"staging.{name} has no contract any more"]
        whole = partition == WHOLE_TABLE
        key = UNPARTITIONED if whole else partition
        unloaded, reasons = False, []
        for rule in table.rules:
            table_scope = rule.scope is Scope.TABLE and table.partitioning is not None
            if rule.severity is not Severity.ERROR or table_scope is not whole:
                continue
            what = f"rule {rule.id} of {staging(name)}"
            reason = self._judge(str(staging(name)), key, rule.id, rule.fingerprint, version, what)
            verdict = self._verdicts.get((str(staging(name)), key, rule.id))
            if version == NEVER_LOADED and (verdict is None or verdict.data_version != version):
                unloaded = True  # no rule could be checked; said once
                continue
            if reason is None and verdict is not None and outdated(rule, verdict, self._references):
                reason = f"{what} has not been checked since {staging(rule.other_table or '')} was loaded"
            if reason:
                reasons.append(reason)
        if unloaded:
            where = "" if key == UNPARTITIONED else f" for {key}"
            reasons.append(f"nothing was ever loaded into {staging(name)}{where}, and its blocking rules ask for data")
        return reasons

    def _judge(self, name: str, key: str, rule_id: str, fingerprint: str, version: str, what: str) -> str | None:
        verdict = self._verdicts.get((name, key, rule_id))
        if verdict is None or verdict.data_version != version:
            return f"{what} has not been checked on this data"
        if verdict.rule_hash != fingerprint:
            return f"{what} changed after it was checked"
        if not verdict.passed:
            observed = "no value" if verdict.observed is None else f"{verdict.observed:g}"
            return f"{what} failed: observed {observed}, {verdict.threshold}"
        return None


def outdated(rule: Rule, verdict: Verdict, references: Mapping[str, str]) -> bool:
    """Whether a verdict that looked at another table saw another version of it than there is now.

    Args:
        references: table → its data version, as `Ledger.table_versions` tells. No clocks are compared: the warehouse's
            and the worker's may differ.
    """
    return rule.other_table is not None and verdict.reference_version != references.get(rule.other_table)


def describe(model: str, refusals: Sequence[Refusal], limit: int = 5) -> str:
    """Refusals as a few readable lines."""
    lines = [f"the gate refused {len(refusals)} partition(s) of {model}:"]
    for refusal in refusals[:limit]:
        shown = "; ".join(refusal.reasons[:3])
        more = f"; and {len(refusal.reasons) - 3} more" if len(refusal.reasons) > 3 else ""
        lines.append(f"  {refusal.partition_key}: {shown}{more}")
    if len(refusals) > limit:
        lines.append(f"  … and {len(refusals) - limit} more partitions")
    return "\n".join(lines)
