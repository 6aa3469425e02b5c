"""How files that deliveries are made of are written: what a contract may say of them, for landing and for `files`."""

from __future__ import annotations

import codecs
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from dataops_platform.contracts.suggest import one_of


class FileFormat(StrEnum):
    """A format that can be read."""

    PARQUET = "parquet"
    AVRO = "avro"
    CSV = "csv"
    JSONL = "jsonl"


_ENDINGS = {".parquet": FileFormat.PARQUET, ".avro": FileFormat.AVRO, ".csv": FileFormat.CSV}
_ENDINGS |= {".jsonl": FileFormat.JSONL, ".ndjson": FileFormat.JSONL}
_TEXTS = (FileFormat.CSV, FileFormat.JSONL)
COMPRESSED = ".gz"
READABLE = (*_ENDINGS, *(f"{ending}{COMPRESSED}" for ending, kind in _ENDINGS.items() if kind in _TEXTS))
"""Endings of names by which a file's format is known."""

UNCAST = "_uncast"
"""In a delivered file, and in quarantine: the texts of a row that aren't of their columns' types, as JSON."""

ROW_NUMBER = "file_row_number"
"""The column that DuckDB adds to a parquet file; its name can't be another, and no column of the file can have it."""

_CSV_OPTIONS = ("delimiter", "quote", "escape", "header")
OPTIONS = ("format", *_CSV_OPTIONS, "encoding")
"""What a contract may say."""


class OptionError(ValueError):
    """An option can't be used; `option` is its name, None where one is missing."""

    def __init__(self, option: str | None, what: str, hint: str) -> None:
        super().__init__(f"{what}; {hint}")
        self.option, self.what, self.hint = option, what, hint


@dataclass(frozen=True, slots=True)
class FileReading:
    """How a file is read. By default CSV is as in RFC 4180, with a header.

    Attributes:
        quote: what texts with delimiters or breaks stand between; empty: nothing does.
        escape: what stands before a quote within a text; the quote itself: it is doubled.
        header: whether the first line names the columns; else they come in the contract's order.
        encoding: a Python codec.
    """

    format: FileFormat
    delimiter: str = ","
    quote: str = '"'
    escape: str = '"'
    header: bool = True
    encoding: str = "utf-8"

    @property
    def is_text(self) -> bool:
        """Whether values are texts, to be read as the contract's types."""
        return self.format in _TEXTS


PARQUET = FileReading(FileFormat.PARQUET)


def format_of(name: str) -> FileFormat | None:
    """The format that a name's ending says, if it does."""
    plain = name.removesuffix(COMPRESSED)
    return next((kind for ending, kind in _ENDINGS.items() if plain.endswith(ending)), None)


def file_reading(options: Mapping[str, Any], name: str) -> FileReading:
    """What the options say, and the name where they don't.

    Raises:
        OptionError: an option isn't possible, or nothing says which format it is.
    """
    kind = options.get("format", format_of(name))
    if kind is None:
        raise OptionError(
            None, "nothing says which format the objects have", f"add `format`: one of {', '.join(FileFormat)}"
        )
    if kind not in tuple(FileFormat):
        raise OptionError("format", f"format `{kind}` can't be read", one_of(kind, FileFormat))
    made = FileFormat(kind)
    for option in OPTIONS[1:]:
        of = _TEXTS if option == "encoding" else (FileFormat.CSV,)
        if option in options and made not in of:
            what = f"`{option}` says nothing of {made}"
            raise OptionError(option, what, f"it is of {' and '.join(of)}: remove it, or change `format`")
    quote = _one(options, "quote", '"', "write '' for none", may_be_empty=True)
    delimiter = _one(options, "delimiter", ",", r'write it like `;`, or "\t" for tabs')
    if delimiter in (quote, "\n", "\r"):
        raise OptionError("delimiter", f"delimiter {delimiter!r} can't be told from the rest", "use another one")
    header = options.get("header", True)
    if not isinstance(header, bool):
        raise OptionError("header", f"header `{header}` is neither true nor false", "write true or false")
    return FileReading(
        made,
        delimiter,
        quote,
        _one(options, "escape", quote, "write what stands before a quote", may_be_empty=True),
        header,
        _encoding(options.get("encoding", "utf-8")),
    )


def _one(options: Mapping[str, Any], option: str, default: str, hint: str, may_be_empty: bool = False) -> str:
    """An option that is one character."""
    value = options.get(option, default)
    if not isinstance(value, str) or len(value) > 1 or (not value and not may_be_empty) or value in ("\n", "\r"):
        raise OptionError(option, f"{option} {value!r} isn't one character", hint)
    return value


def _encoding(name: Any) -> str:
    try:
        found = codecs.lookup(name)
        # Codecs are also base64, or bz2: only an encoding of texts gives a text back, piece by piece as files are read.
        if codecs.getincrementaldecoder(name)().decode("a,b\n".encode(name), final=True) == "a,b\n":
            return found.name
    except (LookupError, TypeError, ValueError):
        pass
    known = ("utf-8", "utf-16", "iso-8859-1", "windows-1252")
    raise OptionError("encoding", f"encoding `{name}` isn't known", one_of(name, known))
