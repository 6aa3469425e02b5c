"""No text that is written holds a secret."""

from __future__ import annotations

import base64
import json
from urllib.parse import quote

from hypothesis import given
from hypothesis import strategies as st

from dataops_platform.secrets import hide, redact
from dataops_platform_tests.planted import PLANTED, around, nothing_known, values, written


@given(st.lists(values | st.text("*sec", min_size=4, max_size=6), min_size=1, max_size=3), st.data())
def test_a_planted_secret_never_survives(planted, data):
    with nothing_known():
        for value in planted:
            hide(value)
        forms = [form for value in planted for form in written(value)]
        chosen = data.draw(st.lists(st.sampled_from(forms), min_size=1, max_size=4))
        text = data.draw(around) + "".join(form + data.draw(around) for form in chosen)
        clean = redact(text)
        assert not [form for form in forms if form in clean]
        assert redact(clean) == clean


@given(values, around, around)
def test_a_secret_inside_something_encoded(value, before, after):
    with nothing_known():
        hide(value)
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            clean = redact(encode(f"{before}{value}{after}".encode()).decode())
            assert "***" in clean


@given(values, around, around, st.lists(st.sampled_from([repr, json.dumps]), max_size=2))
def test_a_secret_inside_something_represented(value, before, after, wrappers):
    """As in the text of an error that holds the representation of another's arguments."""
    with nothing_known():
        hide(value)
        text = f"{before}|{value}|{after}"
        clean = f"{before}|***|{after}"
        for wrap in wrappers:
            text, clean = wrap(text), wrap(clean)
        assert redact(text).count("***") >= clean.count("***")


def test_text_without_secrets_stays():
    assert redact("nothing is known") == "nothing is known"
    hide("abc")  # too short
    hide("    ")
    assert redact("abc     def") == "abc     def"


def test_the_longest_form_goes_first():
    hide("secret")
    hide("secret-and-more")
    assert redact("a secret-and-more, a secret") == "a ***, a ***"


def test_a_private_key_is_hidden_line_by_line():
    hide("-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0B\nshort\n-----END PRIVATE KEY-----\n")
    assert redact("key: MIIEvQIBADANBgkqhkiG9w0B, short") == "key: ***, short"
    assert redact(r"-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0B\nshort\n-----END PRIVATE KEY-----") == "***"


def test_a_password_in_a_basic_header_and_in_a_url():
    hide(PLANTED)
    header = base64.b64encode(f"user:{PLANTED}".encode()).decode()
    clean = redact(f"Authorization: Basic {header}")
    assert base64.b64encode(PLANTED.encode()).decode()[2:-2] not in clean
    assert len(clean) < len(header) / 2 + 21
    assert redact(f"postgresql://user:{quote(PLANTED, safe='')}@host/db") == "postgresql://user:***@host/db"
    assert redact(f"/hook?k={quote(PLANTED, safe='/+=')}&b=1") == "/hook?k=***&b=1"  # as requests writes it
