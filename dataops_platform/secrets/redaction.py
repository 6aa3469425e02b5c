"""Hiding values: texts, with `***` for every secret that this process knows."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from urllib.parse import quote, quote_plus

MASK = "***"
SHORTEST = 4
"""Characters of a secret. To hide a shorter value would mask half of every text and protect nothing."""

_LINE = 16
"""Characters from which a line of a longer secret, like a private key, is hidden on its own too."""

_RESERVED_IN_URLS = "!#$%&'()*+,/:;=?@[]~"
"""Left alone by `requests` when it quotes a URL that holds a secret."""

_lock = threading.Lock()
_hidden: tuple[str, ...] = ()  # every form of every known secret, longest first; replaced, never changed


def hide(value: str) -> None:
    """Have a value replaced by `redact` from now on: as it is, and as it looks in repr, JSON, URLs and base64."""
    global _hidden
    if len(value.strip()) < SHORTEST:
        return
    forms = {form for form in (*_forms(value), *_forms(value.strip())) if form not in MASK}
    with _lock:
        _hidden = tuple(sorted(forms.union(_hidden), key=len, reverse=True))


def knows_secrets() -> bool:
    """Whether there is anything to hide."""
    return bool(_hidden)


def is_secret(value: str) -> bool:
    """Whether a value as a whole is a secret, in one of the forms that are hidden."""
    return value.strip() in _hidden


def redact(text: str) -> str:
    """The text with `***` for every secret that this process knows."""
    forms = _hidden
    while True:
        before = text
        for form in forms:
            if form in text:
                text = text.replace(form, MASK)
        # What stood around a replaced secret may, with the mask, be another one.
        if text == before:
            return text


def _forms(value: str) -> Iterator[str]:
    lines = (line for line in value.splitlines() if len(line) >= _LINE and not line.startswith("-----"))  # as in PEM
    for text in (value, *lines):
        for once in (text, *_escaped(text)):
            yield once
            yield from _escaped(once)
    raw = value.encode(errors="surrogateescape")
    for safe in ("", "/", _RESERVED_IN_URLS):
        yield quote(raw, safe=safe)
    yield quote_plus(raw)
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        yield encode(raw).decode().rstrip("=")
        # Inside a longer text that is encoded as a whole (`user:password`) it can begin at three positions; characters
        # that also hold bits of its neighbours are left out.
        for shift, mixed in ((0, 0), (1, 2), (2, 3)):
            yield encode(bytes(shift) + raw).decode()[mixed : (shift + len(raw)) * 8 // 6]


def _escaped(text: str) -> Iterator[str]:
    """The text inside what repr() and JSON make of a longer one; an error's repr is often inside another's."""
    parts = [repr(part)[1:-1] for part in text.split("'")]
    yield "'".join(parts)
    yield "\\'".join(parts)  # where the longer text has double quotes, too
    yield json.dumps(text)[1:-1]
    yield json.dumps(text, ensure_ascii=False)[1:-1]


def brief(error: Exception) -> str:
    """What an exception says, in one line without secrets and without what else it carries."""
    return one_line(str(error.args[0] if error.args else "") or type(error).__name__).rstrip(".")


def one_line(text: str) -> str:
    """The beginning of a text that others wrote, in one line without secrets."""
    return " ".join(redact(text).split())[:300]
