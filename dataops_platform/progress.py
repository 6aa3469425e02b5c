"""How far a step over many partitions is."""

from collections.abc import Callable

Progress = Callable[[int, int], None]
"""Told how many pieces of work are done, of how many."""


def silent(done: int, total: int) -> None:
    """Tell nobody."""


def by_tenths(tell: Callable[[str], None], what: str) -> Progress:
    """A line when another tenth is done: ten lines at most, however much there is to do. Few pieces are not worth it.

    Args:
        tell: takes a line, like `120 of 365 deliveries processed`.
        what: what was done to what, like `deliveries processed`.
    """
    told = 0

    def progress(done: int, total: int) -> None:
        nonlocal told
        tenth = 10 * done // total if total else 0
        if total >= _MANY and tenth > told:
            told = tenth
            tell(f"{done} of {total} {what}")

    return progress


_MANY = 20
