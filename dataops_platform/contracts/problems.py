"""What is wrong with user input, said once: where, what, and what to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


class DataOpsError(Exception):
    """An error that the user can mend. The text is the whole message; no traceback is shown for it."""


class ConfigError(DataOpsError):
    """Settings, contracts or arguments can't be used as they are (exit code 2)."""


class DataRefused(DataOpsError):
    """Data was refused: unreadable, not as the contract says, or stopped by a gate (exit code 1)."""


class Unavailable(DataOpsError):
    """A service did not answer, however often it was asked. The same again may succeed later."""


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing wrong with a contract.

    Attributes:
        file: the contract file.
        line: 1-based line of the offending node.
        path: where in the document, like `schema[0].properties[2].logicalType`.
        message: what is wrong.
        suggestion: what to do about it.
    """

    file: Path
    line: int
    path: str
    message: str
    suggestion: str = ""

    def __str__(self) -> str:
        hint = f" → {self.suggestion}" if self.suggestion else ""
        where = f" {self.path}:" if self.path else ""
        return f"{self.file}:{self.line}:{where} {self.message}{hint}"


class ContractErrors(ConfigError):
    """All problems found in a set of contracts, in file and line order."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = sorted(problems)
        super().__init__("\n".join(map(str, self.problems)))
