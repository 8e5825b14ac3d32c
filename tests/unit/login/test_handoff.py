"""Sessions of users who are not proxied: on the way to a mail process, and every way that this can end."""
from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from mailproxy.login.session import CLOSED, HANDOFF, RELAY
from tests.unit.login.world import Mail, World, make_setup

MAIL = """
service imap {
  executable = /bin/true
}
mail_max_userip_connections = 3
"""


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Somebody who is not proxied has logged in."""
    found = World(make_setup(tmp_path, MAIL))
    found.session.begin()
    found.take()
    found.client(b"c CAPABILITY\r\na LOGIN alice sesame\r\nb SELECT INBOX\r\n")
    found.auth.asked.clear()
    found.session.auth_ok({"user": "alice"})
    assert found.session.state == HANDOFF
    return found


def mail(world: World) -> Mail:
    assert world.mail is not None
    return world.mail


def test_what_the_mail_process_learns(world: World) -> None:
    assert mail(world).asked == (1, "imap", 3, b"1a\0", b"b SELECT INBOX\r\n")
    assert mail(world).state == "begun"


def test_taken_over(world: World) -> None:
    mail(world).pid = 42
    world.session.handed_over(b"rest")
    assert world.session.state == RELAY
    assert world.taken_with == b"rest"
    assert re.search(r"^info: Login: user=<alice>, method=PLAIN, .*, mpid=42, session=<", world.log.text(),
                     re.MULTILINE)
    assert not [timer for timer in world.timers if timer.live]


def test_not_taken_over_without_a_word(world: World) -> None:
    world.take()
    world.session.not_handed_over(7, told=False)
    assert world.take().startswith(b"a NO [UNAVAILABLE] Internal login failure. Refer to server log")
    assert world.session.state == CLOSED
    assert world.closed
    assert mail(world).state == "stopped"
    assert f"info: Disconnected: Internal login failure (pid={os.getpid()} id=7): user=<alice>, " in world.log.text()


def test_not_taken_over_and_told_so(world: World) -> None:
    world.take()
    world.session.not_handed_over(7, told=True)
    assert world.take() == b""
    assert world.taken_with == b""
    assert "Disconnected: Internal login failure" in world.log.text()
    assert "Login:" not in world.log.text()


def test_one_session_too_many(world: World) -> None:
    world.take()
    world.session.too_many(3)
    why = "Maximum number of connections from user+IP exceeded (mail_max_userip_connections=3)"
    assert world.take() == f"a NO [LIMIT] {why}\r\n".encode()
    assert f"info: Disconnected: {why}: user=<alice>, method=PLAIN, " in world.log.text()
    assert world.closed
    assert mail(world).state == "stopped"


def test_the_client_goes_meanwhile(world: World) -> None:
    world.session.client_gone()
    assert mail(world).state == "stopped"
    assert "Disconnected: Connection closed (disconnected while finishing login, waited 0 secs)" in world.log.text()


def test_the_mail_process_takes_too_long(world: World) -> None:
    world.take()
    assert world.wait(200.0) == b"* BYE Timeout while finishing login.\r\n"
    assert mail(world).state == "stopped"


def test_another_socket_and_no_login(tmp_path: Path) -> None:
    found = World(make_setup(tmp_path, MAIL))
    found.session.begin()
    found.client(b"a LOGIN alice sesame\r\n")
    found.take()
    found.session.auth_ok({"user": "alice", "nologin": ""})
    assert found.take().startswith(b"a NO [CONTACTADMIN]")
    assert found.mail is None
    found.client(b"a LOGIN alice sesame\r\n")
    found.session.auth_ok({"user": "alice", "postlogin_socket": "other"})
    assert mail(found).asked[1] == "other"
