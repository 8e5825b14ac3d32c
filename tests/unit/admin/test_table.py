"""Rows as text."""
from __future__ import annotations

import json

import pytest

from mailproxy.admin.table import FORMATS

TITLES = ("name", "count")
ROWS = [["auth", "1"], ["imap-login", "20"]]


@pytest.mark.parametrize(("name", "text"), [
    ("pager", "name: auth\ncount: 1\n\f\nname: imap-login\ncount: 20\n"),
    ("table", "name       count\nauth       1    \nimap-login 20   \n"),
    ("tab", "name\tcount\nauth\t1\nimap-login\t20\n"),
    ("flow", "name=auth count=1\nname=imap-login count=20\n")])
def test_format(name: str, text: str) -> None:
    assert FORMATS[name](TITLES, ROWS) == text


def test_json_is_json() -> None:
    assert json.loads(FORMATS["json"](TITLES, ROWS)) == [{"name": "auth", "count": "1"},
                                                         {"name": "imap-login", "count": "20"}]


@pytest.mark.parametrize("name", FORMATS)
def test_no_rows_are_no_error(name: str) -> None:
    assert "auth" not in FORMATS[name](TITLES, [])
