"""Whatever is done to a Secret, its text does not show."""
from __future__ import annotations

import copy
import json
import pickle
import traceback

import pytest

from mailproxy.secret import Secret

TEXT = "open sesame"


@pytest.mark.parametrize("shown", [
    repr, str, lambda s: f"{s}", lambda s: f"{s!r:>30}", lambda s: format(s, "s"), lambda s: f"{[s]} {({'p': s})}",
    lambda s: f"{s:>40}",
])
def test_no_text_shows_it(shown: object) -> None:
    assert TEXT not in shown(Secret(TEXT))  # type: ignore[operator]


@pytest.mark.parametrize("leak", [pickle.dumps, copy.copy, copy.deepcopy, json.dumps])
def test_cannot_be_carried_off(leak: object) -> None:
    with pytest.raises(TypeError) as raised:
        leak(Secret(TEXT))  # type: ignore[operator]
    assert TEXT not in str(raised.value)


def test_no_attribute_dictionary() -> None:
    assert not hasattr(Secret(TEXT), "__dict__")


def test_traceback_of_a_failure_does_not_show_it() -> None:
    try:
        raise ValueError(Secret(TEXT))
    except ValueError:
        assert TEXT not in traceback.format_exc()


@pytest.mark.parametrize(("one", "other", "equal"), [
    ("a", "a", True), ("a", "b", False), ("", "", True), ("ä", "ä", True), ("\udcff", "\udcff", True), ("a", "aa",
                                                                                                        False),
])
def test_equality(one: str, other: str, equal: bool) -> None:
    assert (Secret(one) == Secret(other)) is equal
    if equal:
        assert hash(Secret(one)) == hash(Secret(other))


def test_is_no_str_and_equals_none() -> None:
    assert Secret("a") != "a"
    assert Secret("")._text != Secret
    assert bool(Secret("x"))
    assert not Secret("")
    assert Secret(TEXT).reveal() == TEXT
