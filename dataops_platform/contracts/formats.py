"""Formats of texts: each a regular expression (RE2) for the whole text, the same on every engine.

They are what a warehouse can check without a library, and stricter than the standards where those allow what nobody
means: an e-mail address has no quoted local part (RFC 5321 allows one), a URI has a scheme (RFC 3986).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

DATE = "date"
"""The one format that its pattern doesn't decide alone: the day must be there in the calendar."""

_BYTE = "(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_LABEL = "[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"

FORMATS: Mapping[str, str] = MappingProxyType(
    {
        DATE: r"^(?:[1-9][0-9]{3}|0[1-9][0-9]{2}|00[1-9][0-9]|000[1-9])-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])$",
        "email": rf"^[A-Za-z0-9.!#$%&'*+/=?^_`{{|}}~-]{{1,64}}@(?:{_LABEL}\.)+{_LABEL}$",
        "ipv4": rf"^(?:{_BYTE}\.){{3}}{_BYTE}$",
        "uri": r"^[A-Za-z][A-Za-z0-9+.-]*:[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=%-]+$",
        "uuid": "^[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$",
    }
)
"""Format → pattern."""

WITHOUT_EFFECT = ("password", "byte", "binary", "hostname", "ipv6")
"""What ODCS names besides; it says something to people."""
