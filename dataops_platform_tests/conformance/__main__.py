"""`python -m dataops_platform_tests.conformance FOLDER`: the rule engine against Great Expectations' definitions.

Exit codes: 0 all agree, but for documented differences; 1 some don't; 2 there are no definitions in the folder.
"""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table as Grid

from dataops_platform_tests.conformance.cases import Unreadable, read
from dataops_platform_tests.conformance.compare import Comparison, Outcome
from dataops_platform_tests.conformance.differences import documented
from dataops_platform_tests.support import Home


def outcomes(folder: Path, unreadable: list[str]) -> list[Outcome]:
    """What comes of all cases below a folder.

    Args:
        unreadable: gets a line for what isn't in the format.

    Raises:
        Unreadable: there are no definitions.
    """
    with tempfile.TemporaryDirectory() as name:
        home = Home(Path(name))
        comparison = Comparison(home, Path(name))
        with home.kept_open():
            return [
                outcome
                for dataset, cases in read(folder, unreadable)
                for outcome in comparison.outcomes(dataset, cases)
            ]


def show(console: Console, found: Sequence[Outcome]) -> bool:
    """Print a table by expectation, and what disagrees; whether everything agrees."""
    grid = Grid(title="Conformance", title_justify="left", header_style="bold")
    grid.add_column("expectation")
    for word in ("agree", "differ as documented", "disagree", "unsupported"):
        grid.add_column(word, justify="right")
    grid.add_column("why unsupported", overflow="fold")
    undocumented = [o for o in found if o.word == "disagree" and documented(o.case) is None]
    for expectation in sorted({outcome.case.expectation for outcome in found}):
        mine = [outcome for outcome in found if outcome.case.expectation == expectation]
        words = Counter(outcome.word for outcome in mine)
        wrong = sum(outcome in undocumented for outcome in mine)
        reasons = Counter(outcome.reason for outcome in mine if outcome.word == "unsupported")
        why = "; ".join(f"{count}× {reason}" for reason, count in reasons.most_common(3))
        grid.add_row(
            expectation, str(words["agree"]), str(words["disagree"] - wrong), str(wrong), str(words["unsupported"]), why
        )
    console.print(grid)
    for outcome in undocumented:
        console.print(f"✗ {outcome.case.expectation}: {outcome.case.title}: {outcome.reason}", markup=False)
    total = Counter(outcome.word for outcome in found)
    console.print(
        f"{len(found)} cases: {total['agree']} agree, {total['disagree'] - len(undocumented)} differ as documented,"
        f" {len(undocumented)} disagree, {total['unsupported']} unsupported"
    )
    return not undocumented


def main(arguments: Sequence[str]) -> int:
    """Run the command."""
    if len(arguments) != 1:
        print("usage: python -m dataops_platform_tests.conformance FOLDER", file=sys.stderr)
        return 2
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=170)
    unreadable: list[str] = []
    try:
        found = outcomes(Path(arguments[0]), unreadable)
    except Unreadable as error:
        print(error, file=sys.stderr)
        return 2
    for line in unreadable:
        console.print(f"left out: {line}", markup=False)
    if not found:
        print(f"{arguments[0]}: there is no definition in it", file=sys.stderr)
        return 2
    return 0 if show(console, found) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
