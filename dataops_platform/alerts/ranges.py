"""Partitions that a problem is left for: single keys and ranges `first..last`, as runs name them."""

from __future__ import annotations

from collections.abc import Sequence

from dataops_platform.contracts.partitions import UNPARTITIONED, Cut


def without(these: Sequence[str], those: Sequence[str], cut: Cut | None) -> list[str]:
    """What is left of some partitions without others, in their order, neighbours as ranges.

    Args:
        those: a run without partitions (`all`) takes all there are.
        cut: which keys there are between the bounds of a range. Without it (None, or the bounds aren't among its
            keys), a range is taken away only as a whole.
    """
    left = [range for range in these if not any(_covers(other, range) for other in those)]
    others = [other for other in those if any(_overlap(other, range) for range in left)]
    if not others or cut is None:
        return left
    try:
        every = cut.between(min(_span(range)[0] for range in left), max(_span(range)[1] for range in left))
    except ValueError:
        return left
    wanted = [any(_within(key, range) for range in left) for key in every]
    stays = [want and not any(_within(key, other) for other in others) for key, want in zip(every, wanted, strict=True)]
    return _ranges(every, stays)


def joined(keys: Sequence[str], cut: Cut | None) -> list[str]:
    """Keys, neighbours as ranges; as they are where it isn't known which are neighbours."""
    if cut is None or len(keys) < 2:
        return list(keys)
    try:
        every = cut.between(min(keys), max(keys))
    except ValueError:
        return list(keys)
    wanted = set(keys)
    if not wanted <= set(every):
        return list(keys)
    return _ranges(every, [key in wanted for key in every])


def clipped(these: Sequence[str], cut: Cut | None) -> list[str]:
    """Those of some partitions that there still are, by the contract."""
    if cut is None:
        return list(these)
    found = []
    for range in these:
        first, last = _span(range)
        if range == UNPARTITIONED:  # of a run that took all there were
            found.append(range)
            continue
        try:
            keys = cut.between(max(first, cut.example), last if (end := cut.last) is None else min(last, end))
        except ValueError:  # they are spelled otherwise by now
            continue
        if keys:
            found.append(keys[0] if len(keys) == 1 else f"{keys[0]}..{keys[-1]}")
    return found


def _ranges(every: Sequence[str], chosen: Sequence[bool]) -> list[str]:
    found: list[str] = []
    first: str | None = None
    for position, (key, take) in enumerate(zip(every, chosen, strict=True)):
        if take and first is None:
            first = key
        if first is not None and take and not (position + 1 < len(every) and chosen[position + 1]):
            found.append(first if first == key else f"{first}..{key}")
            first = None
    return found


def _covers(those: str, these: str) -> bool:
    first, last = _span(these)
    begins, ends = _span(those)
    return those in (these, UNPARTITIONED) or begins <= first <= last <= ends


def _overlap(left: str, right: str) -> bool:
    return _span(left)[0] <= _span(right)[1] and _span(right)[0] <= _span(left)[1]


def _within(key: str, range: str) -> bool:
    first, last = _span(range)
    return first <= key <= last


def _span(partition: str) -> tuple[str, str]:
    first, _, last = partition.partition("..")
    return first, last or first
