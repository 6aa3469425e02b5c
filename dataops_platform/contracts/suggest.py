"""Turns a misspelled word into a useful hint."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def closest(word: object, known: Iterable[str]) -> str | None:
    """The word of `known` that is spelled most like `word`, if any is near."""
    by_lower = {str(name).lower(): str(name) for name in known}
    close = get_close_matches(str(word).lower(), by_lower, n=1, cutoff=0.6)
    return by_lower[close[0]] if close else None


def did_you_mean(word: object, known: Iterable[str]) -> str:
    """A question with the nearest of `known`, or an empty text."""
    meant = closest(word, known)
    return f"did you mean `{meant}`?" if meant else ""


def one_of(word: object, known: Iterable[str]) -> str:
    """The nearest of `known` if there is one, and all that is possible."""
    names = list(map(str, known))
    choice = f"use one of {', '.join(names)}" if names else ""
    return "; ".join(filter(None, (did_you_mean(word, names), choice)))
