"""Value types: what is accepted, what the refusal says, and the normal form."""
from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailproxy.config import units
from mailproxy.secret import Secret

KINDS = (units.BOOL, units.UINT, units.OCTAL, units.TIME, units.TIME_MS, units.SIZE, units.PORT)


@pytest.mark.parametrize(("kind", "text", "value", "shown"), [
    (units.BOOL, "YES", True, "yes"), (units.BOOL, "no", False, "no"),
    (units.UINT, "05", 5, "5"), (units.UINT, "4294967295", 2**32 - 1, "4294967295"),
    (units.OCTAL, "0600", 0o600, "0600"), (units.OCTAL, "0", 0, "00"),
    (units.TIME, "0", 0.0, "0"), (units.TIME, "90 MI", 5400.0, "90 mins"), (units.TIME, "7d", 604800.0, "1 weeks"),
    (units.TIME, "4294967295 secs", units.NEVER, "4294967295 secs"),
    (units.TIME_MS, "1500ms", 1.5, "1500 ms"), (units.TIME_MS, "2 s", 2.0, "2 secs"),
    (units.SIZE, "5kiB", 5120, "5 k"), (units.SIZE, "1025", 1025, "1025 B"), (units.SIZE, "1 G", 1 << 30, "1 G"),
    (units.PORT, "0143", 143, "143"),
])
def test_accepted(kind: int, text: str, value: object, shown: str) -> None:
    assert units.parse(kind, text) == value
    assert units.render(kind, text) == shown
    assert units.parse(kind, units.render(kind, text)) == value


def test_a_mode_that_is_not_octal_is_never_decimal() -> None:
    with pytest.raises(ValueError, match=r"begins with 0 \(0600\)"):
        units.parse(units.OCTAL, "600")


def test_words_and_secrets() -> None:
    assert units.parse(units.WORDS, "plain, login  external") == ("plain", "login", "external")
    hidden = units.parse(units.SECRET, "x")
    assert isinstance(hidden, Secret)
    assert "x" not in repr(hidden).replace("hidden", "")


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=150, deadline=None)
@given(text=st.text(alphabet="0123456789 smhdwkMGTiB-+.xYeno\u0660\u00b2", max_size=24) | st.text(max_size=8))
def test_any_text_is_a_value_or_a_clear_refusal(kind: int, text: str) -> None:
    try:
        value = units.parse(kind, text)
    except ValueError as error:
        if not str(error).startswith(("Invalid ", "Time interval ", "Milliseconds not", "Size is too large")):
            raise
        return
    assert units.parse(kind, units.render(kind, text)) == value
