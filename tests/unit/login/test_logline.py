"""login_log_format and its elements."""
from __future__ import annotations

from pathlib import Path

import pytest

from mailproxy.login.logline import Format
from tests.unit.login.world import World, at, make_setup


@pytest.fixture
def world(tmp_path: Path) -> World:
    return at(World(make_setup(tmp_path)), 2)


@pytest.mark.parametrize(("elements", "expected"), [
    ("user=<%u>", "user=<alice@example.com>"), ("user=<%n> d=%d", "user=<alice>, d=example.com"),
    ("rip=%r, lip=%l", "rip=192.0.2.7,, lip=192.0.2.1"), ("%b %a", "40000, 143"), ("method=%m", "method=PLAIN"),
    ("%c", ""), ("x=%c y=%r", "y=192.0.2.7"), ("%s", "imap"), ("service=%{service}", "service=imap"),
    ("%{real_rip} %{real_lport}", "192.0.2.7, 143"), ("%{remote_ip}:%{remote_port}", "192.0.2.7:40000"),
    ("  %r   %l  ", "192.0.2.7, 192.0.2.1"), ("", ""), ("plain words", "plain, words"), ("%%", "%"),
    ("local=%{local_name}", ""), ("%{auth_user} %{orig_user}", "alice@example.com, alice@example.com"),
    ("e=%e u=%u", "u=alice@example.com"),
])
def test_elements(world: World, elements: str, expected: str) -> None:
    world.session.user = "alice@example.com"
    assert Format("%$: %s", elements).elements(world.session) == expected


def test_user_is_shown_even_if_there_is_none(world: World) -> None:
    world.session.user = ""
    assert Format("%$: %s", "user=<%u> %n method=%m").elements(world.session).startswith("user=<>")


def test_session_id_is_short_and_stays(world: World) -> None:
    form = Format("%$: %s", "session=<%{session}>")
    first = form.elements(world.session)
    assert first == form.elements(world.session)
    assert 10 < len(first) < 40


def test_passdb_fields(world: World) -> None:
    world.session.fields = {"host": "10.0.0.9", "pass": "sesame"}
    assert Format("%$: %s", "h=%{passdb:host}").elements(world.session) == "h=10.0.0.9"


@pytest.mark.parametrize(("log_format", "expected"), [
    ("%$: %s", "Login: user=<a>"), ("%s - %$", "user=<a> - Login"), ("[%$]", "[Login]"), ("%%%$", "%Login"),
])
def test_lines(log_format: str, expected: str) -> None:
    assert Format(log_format, "").line("Login", "user=<a>") == expected


def test_percent_signs_of_users_are_not_expanded(world: World) -> None:
    world.session.user = "%r%{real_rip}%$%s"
    form = Format("%$: %s", "user=<%u>")
    assert form.elements(world.session) == "user=<%r%{real_rip}%$%s>"
    assert Format("x %$: %s", "").line("text", form.elements(world.session)) == "x text: user=<%r%{real_rip}%$%s>"
