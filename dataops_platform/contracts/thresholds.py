"""ODCS operators and units as thresholds."""

from __future__ import annotations

from typing import Any

from dataops_platform.contracts.document import Place
from dataops_platform.contracts.model import Operator, RuleKind, Threshold, Unit
from dataops_platform.contracts.suggest import one_of

_TWO = (Operator.BETWEEN, Operator.NOT_BETWEEN)
_SHARES = frozenset(
    {RuleKind.DUPLICATES, RuleKind.ORPHANS, RuleKind.RECONCILE, *(kind for kind in RuleKind if kind.row_level)}
)
OPERATOR_KEYS = tuple(operator.value for operator in Operator)


def read_threshold(place: Place, kind: RuleKind, unit: Place | None = None) -> Threshold | None:
    """What the observed value must satisfy.

    Args:
        place: the mapping that holds one of the operators.
        kind: the kind of rule; only counts of rows, and differences, can be compared in percent.
        unit: where the unit is written, if anywhere.

    Returns:
        None when the threshold is wrong; the problem is recorded.
    """
    given = [operator for operator in Operator if operator in place]
    if len(given) != 1:
        what = f"more than one threshold: {', '.join(given)}" if given else "no threshold"
        hint = "keep one" if given else f"add one of {', '.join(OPERATOR_KEYS)}, for example `mustBe: 0`"
        (place.problem if given else place.absent)(f"the rule has {what}", hint)
        return None
    operator, at = given[0], place.at(given[0])
    values = tuple(at.value) if isinstance(at.value, list) else (at.value,)
    wanted = 2 if operator in _TWO else 1
    if len(values) != wanted or not all(map(_is_number, values)):
        form = "two numbers, like [1, 10]" if wanted == 2 else "a number"
        at.problem(f"{operator} isn't {form}", f"write {form}")
        return None
    if wanted == 2 and values[0] > values[1]:
        at.problem(f"{operator} runs backwards: {values[0]:g} is more than {values[1]:g}", "swap the two numbers")
        return None
    measure = _read_unit(unit, kind)
    if measure is None:
        return None
    if measure is Unit.PERCENT and not all(0 <= value <= 100 for value in values):
        at.problem(f"{operator} is outside 0 to 100 percent", "write a percentage, or `unit: rows`")
        return None
    return Threshold(operator, values, measure)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _read_unit(place: Place | None, kind: RuleKind) -> Unit | None:
    if place is None or place.value is None:
        return Unit.ROWS
    text = str(place.value).lower()
    if text not in tuple(Unit):
        place.problem(f"unit `{place.value}` isn't known", one_of(place.value, Unit))
        return None
    if text == Unit.PERCENT and kind not in _SHARES:
        place.problem(
            f"percent makes no sense for {kind.replace('_', ' ')}: it isn't a share of rows", "remove the unit"
        )
        return None
    return Unit(text)
