"""Regular expressions in contracts are RE2's, as both DuckDB and BigQuery run them."""

from __future__ import annotations

import re
from functools import lru_cache

_LOOKAROUND = re.compile(r"\(\?<?[=!]")
_BACKREFERENCE = re.compile(r"(?<!\\)(?:\\\\)*\\[1-9]|\(\?P=")


@lru_cache(maxsize=4096)
def pattern_error(pattern: str) -> tuple[str, str] | None:
    """What is wrong with a regular expression, and what to do; None when RE2 accepts it."""
    # pyarrow brings the RE2 library itself. Imported here: only contracts with patterns pay for it.
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        pc.match_substring_regex(pa.array([""]), pattern)
    except pa.ArrowInvalid as error:
        reason = str(error).removeprefix("Invalid regular expression: ")
    else:
        return None
    if _LOOKAROUND.search(pattern):
        return f"lookaround isn't supported by RE2 ({reason})", "write two patterns, or a rule of type sql"
    if _BACKREFERENCE.search(pattern):
        return f"backreferences aren't supported by RE2 ({reason})", "write a rule of type sql"
    return f"isn't a valid RE2 regular expression ({reason})", "see https://github.com/google/re2/wiki/Syntax"
