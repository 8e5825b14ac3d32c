"""The parts of delivery that need no sockets: routes, the spool, the Received header, session ids."""
from __future__ import annotations

import os
import random
import re
from pathlib import Path

import pytest

from mailproxy.delivery import received, route
from mailproxy.delivery.connection import session_id
from mailproxy.delivery.route import Refusal, Route
from mailproxy.delivery.spool import MEMORY_MAX, Spool
from mailproxy.delivery.transaction import refusal
from mailproxy.proto.lmtp.address import Address
from mailproxy.proto.smtp.wire import Reply

HERE = ("127.0.0.1", 24)
ME = Address(b"u", b"d")
GOOD = {"user": "u@d", "proxy": "", "host": "10.0.0.1"}


def chosen(**fields: str) -> Route:
    found = route.choose({**GOOD, **fields}, ME, b"", HERE, None)
    assert isinstance(found, Route), found.reason if isinstance(found, Refusal) else ""
    return found


def test_ports() -> None:
    assert chosen().port == 24
    assert route.choose(GOOD, ME, b"", ("127.0.0.1", 2424), None).port == 2424      # type: ignore[union-attr]
    assert chosen(protocol="smtp").port == 25
    assert chosen(protocol="smtp", port="2525").port == 2525


@pytest.mark.parametrize("fields", [
    {"host": ""}, {"hostip": "zz"}, {"host": "name"}, {"port": "0"}, {"port": "65536"}, {"port": ""}, {"port": "-1"},
    {"proxy_timeout": "2s"}, {"source_ip": "zz"}, {"protocol": "imap"}, {"port": "1" * 5000},
])
def test_broken_fields_are_temporary_failures(fields: dict[str, str]) -> None:
    found = route.choose({**GOOD, **fields}, ME, b"", HERE, None)
    assert isinstance(found, Refusal)
    assert found.reply[0] == 451
    assert found.reason.startswith("proxy: ")


def test_loops() -> None:
    for fields, ttl in (({"host": "127.0.0.1"}, None), ({}, 0)):
        found = route.choose({**GOOD, **fields}, ME, b"", HERE, ttl)
        assert isinstance(found, Refusal)
        assert found.reply[0] == 554
    assert isinstance(route.choose({**GOOD, "host": "127.0.0.1", "destuser": "x"}, ME, b"", HERE, 5), Route)


def test_details() -> None:
    assert route.split_detail(Address(b"u+det+more", b"d"), "+") == (ME, b"+det+more")
    assert route.split_detail(Address(b"+det", b"d"), "+") == (Address(b"+det", b"d"), b"")
    assert route.split_detail(Address(b"u-x+y", b"d"), "+-") == (ME, b"-x+y")
    assert route.split_detail(Address(b"u+x", b"d"), "") == (Address(b"u+x", b"d"), b"")
    found = route.choose({**GOOD, "destuser": "v@e"}, Address(b"u+det", b"d"), b"+det", HERE, None)
    assert isinstance(found, Route)
    assert route.parameters(found, Address(b"u+det", b"d"), b"") == b"<v+det@e> ORCPT=rfc822;u+2Bdet@d"


def test_connections_are_shared_by_equal_destinations_only() -> None:
    assert chosen().connection == chosen().connection
    for other in ({"port": "25"}, {"host": "10.0.0.2"}, {"ssl": "yes"}, {"starttls": "yes"}, {"ssl": "any-cert"},
                  {"source_ip": "127.0.0.1"}, {"protocol": "smtp"}, {"proxy_not_trusted": ""}):
        assert chosen(**other).connection != chosen().connection


def test_forwarded_variables() -> None:
    assert route.forwarded(chosen(forward_a="own", forward_n="1"), b"a=sent\tb=2") == (
        b" XRCPTFORWARD=a+3Down+09b+3D2+09n+3D1")
    assert route.forwarded(chosen(forward_a="own", proxy_not_trusted=""), b"b=2") == b""
    assert b"\r" not in route.forwarded(chosen(forward_a="x\r\nQUIT"), b"")


@pytest.mark.parametrize("size", [0, 10, MEMORY_MAX, MEMORY_MAX + 1, 3 * MEMORY_MAX])
def test_spool_gives_back_what_went_in(size: int, tmp_path: Path) -> None:
    data = bytes(random.Random(size).choices(b"ab\r\n.", k=size))
    wanted = re.sub(rb"(?<!\r)\n", b"\r\n", data)
    spool = Spool(str(tmp_path))
    left = data
    choice = random.Random(size)
    while left:
        cut = choice.randrange(1, 7000)
        spool.add(left[:cut])
        left = left[cut:]
    found = b""
    while piece := spool.read(len(found), 5000):
        found += piece
    assert found == wanted
    assert spool.size == len(wanted)
    assert not os.listdir(tmp_path)
    spool.close()


def test_spool_says_when_there_is_no_place() -> None:
    spool = Spool("/nonexistent")
    spool.add(b"x" * MEMORY_MAX)
    with pytest.raises(OSError, match="No such file"):
        spool.add(b"x")


def test_received_header() -> None:
    text = received.header(helo=b"mx", ip="1.2.3.4", hostname=b"proxy", tls="", session="ID", sender=b"s@x",
                           recipient=b"r@y", now=0).split(b"\r\n")
    assert text[:5] == [b"Received: from mx ([1.2.3.4])", b"\tby proxy with LMTP", b"\tid ID",
                        b"\t(envelope-from <s@x>)", text[4]]
    assert text[4].startswith(b"\tfor <r@y>; Thu, 01 Jan 1970")
    assert text[5:] == [b""]


def test_session_ids_are_unique() -> None:
    found = {session_id(b"h") for _ in range(5000)}
    assert len(found) == 5000
    assert {len(each) for each in found} == {22}


def test_refusals_name_our_recipient() -> None:
    reply = Reply(550, b"5.1.1", (b"<other> one", b"two"), b"")
    assert refusal(ME, reply) == b"550-5.1.1 <u@d> one\r\n550 5.1.1 two\r\n"
    assert refusal(ME, Reply(450, b"", (b"",), b"")) == b"450 4.0.0 <u@d> \r\n"
