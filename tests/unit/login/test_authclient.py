"""Requests that the auth server does not answer, on a loop whose time the test turns."""
from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from mailproxy.log.pipe import Log
from mailproxy.login import authclient
from mailproxy.login.authclient import AuthClient
from mailproxy.net.loop import Loop


class Asker:
    """A session that counts what it hears."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def auth_ok(self, fields: dict[str, str]) -> None:
        self.heard.append("ok")

    def auth_failed(self, fields: dict[str, str]) -> None:
        self.heard.append("failed")

    def auth_continue(self, challenge: bytes) -> None:
        self.heard.append("continue")

    def auth_lost(self) -> None:
        self.heard.append("lost")

    def auth_slow(self) -> None:
        self.heard.append("slow")

    def auth_overdue(self) -> None:
        self.heard.append("overdue")


@pytest.fixture
def client(short_dir: Path) -> Iterator[AuthClient]:
    path = str(short_dir / "login")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen(1)
        loop, null = Loop(), os.open("/dev/null", os.O_WRONLY)
        made = AuthClient(loop, Log(null), lambda: None, path)
        yield made
        made.close()
        loop.close()
        os.close(null)


def ticks(client: AuthClient, count: int) -> None:
    for _ in range(count):
        client._age()


def test_a_request_grows_old(client: AuthClient) -> None:
    first = Asker()
    client.ask(first, "PLAIN", "service=imap", b"")
    ticks(client, authclient.SLOW)
    assert first.heard == []                # it may have been asked just before the first tick
    second = Asker()
    client.ask(second, "PLAIN", "service=imap", b"")
    ticks(client, 1)
    assert (first.heard, second.heard) == (["slow"], [])
    ticks(client, authclient.SLOW)
    assert (first.heard, second.heard) == (["slow"], ["slow"])      # told once
    ticks(client, authclient.LOST - 2 * authclient.SLOW - 1)            # the first tick was that many ago
    assert "overdue" not in first.heard
    ticks(client, 1)
    assert first.heard[-1] == "overdue"
    assert "overdue" not in second.heard


def test_answered_requests_leave_nothing_to_look_at(client: AuthClient) -> None:
    asker = Asker()
    request = client.ask(asker, "PLAIN", "service=imap", b"")
    client.cancel(request)
    ticks(client, 1)
    assert not client._marks
    assert asker.heard == []
