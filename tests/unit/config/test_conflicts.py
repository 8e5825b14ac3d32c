"""Filters that contradict each other are found when the files are loaded."""
from __future__ import annotations

from collections.abc import Callable

import pytest

from mailproxy import config

Load = Callable[..., config.Config]
Refuse = Callable[..., list[str]]


def two(first: str, second: str, key: str = "login_greeting") -> str:
    return f"protocols = imap pop3\n{first} {{\n{key} = a\n}}\n{second} {{\n{key} = a\n}}\n"


@pytest.mark.parametrize(("first", "second"), [
    ("local 10.0.0.0/8", "protocol imap"), ("remote 10.0.0.0/8", "protocol imap"), ("protocol !pop3", "remote 1.2.3.4"),
    ("local 10.0.0.0/8", "remote 11.0.0.0/8"), ("local_name a.b", "protocol imap"), ("local_name a.b", "local 1.2.3.4"),
    ("local_name *.b", "remote fe80::/10"),
])
def test_contradictions(first: str, second: str, refuse: Refuse) -> None:
    (problem,) = refuse(two(first, second))
    assert problem.startswith("Error in configuration file main.conf line 6: Conflict in setting login_greeting")
    assert problem.endswith("found from filter at main.conf:3")


@pytest.mark.parametrize(("first", "second"), [
    ("protocol imap", "protocol pop3"), ("protocol imap", "protocol !pop3"), ("local 10.0.0.0/8", "local 10.1.0.0/16"),
    ("local 10.0.0.0/8", "remote ::/0"), ("local_name a.b", "local_name *.b"), ("local_name a", "local_name b"),
    ("local 0.0.0.0/0", "protocol imap"), ("remote ::/0", "local_name a.b"),
    ("local_name a.b", "protocol lmtp"), ("local_name a.b", "protocol lda"), ("remote 1.2.3.4", "remote 1.2.3.5"),
])
def test_no_contradictions(first: str, second: str, load: Load) -> None:
    assert load(two(first, second)).warnings == ()


def test_nested_refinement_is_none(load: Load) -> None:
    load("protocol imap {\nssl = no\n}\nlocal 1.2.3.4 {\nlogin_greeting = a\nprotocol imap {\nssl = yes\n"
         "login_greeting = b\n}\n}\n")


def test_nested_filters_that_cross(refuse: Refuse) -> None:
    text = ("local 10.0.0.0/8 {\nremote 11.1.0.0/16 {\nssl = no\n}\n}\n"
            "local 10.1.0.0/16 {\nremote 11.0.0.0/8 {\nssl = no\n}\n}\n")
    assert "Conflict in setting ssl" in refuse(text)[0]


def test_settings_that_are_not_read_here_only_warn(load: Load) -> None:
    warnings = load(two("remote 10.0.0.0/8", "protocol imap", "mail_plugins")).warnings
    assert len(warnings) == 1
    assert "Conflict in setting mail_plugins" in warnings[0]
