"""The commands and files that the documentation tells its reader to run and write."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

REPO = Path(__file__).parents[1]
SHELLS = {"sh", "bash", "console", "shell"}
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_NAMED = re.compile(r"^`([^`\n]+)`:\n\n\Z", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced block; `path` is the file that it is the content of, if it is one."""

    section: str
    language: str
    text: str
    path: str | None

    @property
    def shell(self) -> bool:
        return self.language in SHELLS

    @property
    def commands(self) -> list[str]:
        lines = self.text.splitlines()
        if any(line.startswith("$ ") for line in lines):  # a transcript
            lines = [line[2:] for line in lines if line.startswith("$ ")]
        return [line for line in (line.split("  #")[0].strip() for line in lines) if line and not line.startswith("#")]


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    text = page.read_text()
    found = []
    for match in _FENCE.finditer(text):
        before = text[: match.start()]
        headings = re.findall(r"^## (.*)$", before, re.MULTILINE)
        named = _NAMED.search(before)
        found.append(Block(headings[-1] if headings else "", match[1], match[2], named[1] if named else None))
    return found


def pages() -> list[Path]:
    """The README and everything in docs."""
    return [REPO / "README.md", *sorted((REPO / "docs").glob("*.md"))]


def own_table() -> list[Block]:
    """The section about a table of one's own."""
    return [block for block in blocks(REPO / "README.md") if block.section.startswith("Bring your own table")]


def own_table_files() -> dict[str, str]:
    """Path → content of every file of that section."""
    return {block.path: block.text for block in own_table() if block.path}
