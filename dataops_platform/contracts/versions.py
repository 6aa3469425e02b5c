"""Versions of contracts (Semantic Versioning 2.0.0): the major number grows with what breaks, the minor with what is
new.

Source: https://semver.org/spec/v2.0.0.html, items 2, 4, 8, 9 and 11.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import IntEnum

_SEMANTIC = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(?:-[0-9A-Za-z.-]+)?(?:\+[0-9A-Za-z.-]+)?")


class Step(IntEnum):
    """Which number of a version grows."""

    PATCH = 0
    MINOR = 1
    MAJOR = 2


@dataclass(frozen=True, slots=True, order=True)
class Version:
    """The numbers of a version; what follows them (`-rc.1`, `+build`) is not compared."""

    major: int
    minor: int
    patch: int

    @classmethod
    def parse(cls, text: str) -> Version:
        """Read a version.

        Raises:
            ValueError: it isn't semantic.
        """
        match = _SEMANTIC.fullmatch(text)
        if match is None:
            raise ValueError(f"version `{text}` isn't semantic")
        return cls(*map(int, match.groups()))

    def next(self, step: Step) -> Version:
        """The lowest version after this one that says so much has changed."""
        match step:
            case Step.MAJOR:
                return Version(self.major + 1, 0, 0)
            case Step.MINOR:
                return Version(self.major, self.minor + 1, 0)
            case Step.PATCH:
                return Version(self.major, self.minor, self.patch + 1)

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}"


def is_older(version: str, other: str) -> bool:
    """Whether a version is before another one; not where one of them isn't semantic."""
    try:
        return Version.parse(version) < Version.parse(other)
    except ValueError:
        return False


def suggestion(text: str) -> str:
    """The semantic version that a text may have meant, or how one looks."""
    numbers = re.findall(r"\d+", text)[:3]
    meant = ".".join(str(int(number)) for number in [*numbers, "0", "0", "0"][:3]) if numbers else "1.0.0"
    return f"write MAJOR.MINOR.PATCH, like `{meant}`"
