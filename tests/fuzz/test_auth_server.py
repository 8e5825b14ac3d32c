"""Anything may be said to the auth server by a process that connects: it answers, refuses or disconnects, each request
at most once and never OK without the password."""
from __future__ import annotations

import base64
import os
import socket
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hypothesis import example, given
from hypothesis import strategies as st

from mailproxy.auth import server_main
from mailproxy.auth.client import Client
from mailproxy.auth.journal import Journal
from mailproxy.auth.server import Server
from mailproxy.auth.workers import Pool
from mailproxy.ipc.contract import Child
from mailproxy.log.pipe import Log
from mailproxy.net.loop import IN, Loop
from tests.component.auth.scenario import Passdb, Scenario, StandIn
from tests.fuzz import examples

HELLO = b"VERSION\t1\t2\nCPID\t7\n"


def plain(user: str, password: str) -> bytes:
    return base64.b64encode(f"\0{user}\0{password}".encode())


WORDS = st.sampled_from([
    HELLO, b"VERSION\t1\t2\n", b"VERSION\t2\t0\n", b"VERSION\t1\n", b"CPID\t7\n", b"CPID\t0\n", b"CPID\t-1\n",
    b"CPID\t" + b"9" * 5000,
    b"AUTH\t", b"CONT\t", b"CANCEL\t", b"AUTH\t1\tPLAIN\tservice=imap\tresp=" + plain("alice", "secret") + b"\n",
    b"AUTH\t2\tPLAIN\tservice=imap\tresp=" + plain("alice", "wrong") + b"\n", b"AUTH\t3\tLOGIN\tservice=imap\n",
    b"AUTH\t4\tPLAIN\tservice=imap\n", b"AUTH\t5\tNONE\tservice=imap\n", b"AUTH\t6\tPLAIN\n",
    b"AUTH\t1\tPLAIN\tservice=imap\tresp=\n",
    b"CONT\t3\tYWxpY2U=\n", b"CONT\t3\tc2VjcmV0\n", b"CONT\t4\t" + plain("alice", "secret") + b"\n", b"CONT\t9\tx\n",
    b"CONT\t3\t!\n",
    b"CANCEL\t3\n", b"CANCEL\t99\n", b"CANCEL\tx\n", b"1\t", b"service=imap", b"\t", b"\n", b"\tresp=", b"=",
    b"\tlip=x", b"\trip=::1",
    b"\tforward_fields=a=b\x01tc=d", b"\tsession=\x01", b"\tno-penalty", b"\tsecured=tls", b"\tcert_username=x", b"\0",
    b"\xff", b"\r\n",
    b"AUTH\t4294967295\tplain\tservice=imap\tresp==\n", b"AUTH\t4294967296\tPLAIN\tservice=imap\n",
    b"AUTH\t0\tPLAIN\tservice=imap\n",
    b"x" * 17000, b"AUTH\t8\tPLAIN\tservice=imap\tresp=" + plain("a\tb\n", "x") + b"\n", b"9" * 5000 + b"\t",
])
CHUNKS = st.lists(st.lists(WORDS | st.binary(max_size=6), max_size=6).map(b"".join), max_size=6)


@contextmanager
def running(directory: str) -> Iterator[Server]:
    """A server in this process, without a listener; one user: alice, secret."""
    path = Path(directory) / "users"
    path.write_text("alice:{PLAIN}secret::::::proxy host=10.0.0.9\n")
    setup = server_main.prepare(StandIn(Scenario([Passdb("passwd-file", args=str(path))]), directory), None)
    log_fd = os.open(os.devnull, os.O_WRONLY)
    status_out, status_in = os.pipe2(os.O_NONBLOCK)
    loop, log = Loop(), Log(log_fd)
    journal = Journal(log, setup.protocols[""][0])
    pool = Pool(loop, log, directory + "/auth-worker", 1, setup.fingerprint)
    server_main.open_drivers(setup, log)
    plans = server_main.make_plans(setup, journal, pool, None)
    child = Child("auth", "", 1, directory, (), status_in, -1, log_fd)
    try:
        yield Server(loop, log, journal, plans, plans[""], child)
    finally:
        pool.close()
        loop.close()
        for fd in (log_fd, status_out, status_in):
            os.close(fd)


def converse(server: Server, chunks: list[bytes]) -> list[str]:
    """The server's lines behind its greeting, up to its end."""
    near, far = socket.socketpair()
    near.setblocking(False)
    far.setblocking(False)
    client = Client(server, near, True, 1)
    answers = b""
    for chunk in chunks:
        if client._closed:
            break
        far.send(chunk or b"\n")
        while not client._closed:
            client._ready(IN)
            server._flush()
            if client._closed or not _waiting(near):
                break
        answers += _all(far)
    server.failures.flush()
    server._flush()
    answers += _all(far)
    client.close("")
    far.close()
    return answers.decode("utf-8", "surrogateescape").partition("DONE\n")[2].split("\n")[:-1]


def _waiting(sock: socket.socket) -> bool:
    try:
        return bool(sock.recv(1, socket.MSG_PEEK))
    except (BlockingIOError, OSError):
        return False


def _all(sock: socket.socket) -> bytes:
    found = b""
    while True:
        try:
            data = sock.recv(1 << 20)
        except OSError:
            return found
        if not data:
            return found
        found += data


@given(CHUNKS)
@example([HELLO, b"AUTH\t1\tPLAIN\tservice=imap\tresp=" + plain("alice", "secret") + b"\n"])
@example([HELLO, b"AUTH\t3\tLOGIN\tservice=imap\n", b"CONT\t3\tYWxpY2U=\n", b"CONT\t3\tc2VjcmV0\n"])
@examples(100)
def test_auth_server(chunks: list[bytes]) -> None:
    with tempfile.TemporaryDirectory() as directory, running(directory) as server:
        replies = converse(server, chunks)
    sent = b"".join(chunks)
    finals: Counter[str] = Counter()
    for line in replies:
        words = line.split("\t")
        assert words[0] in ("OK", "FAIL", "CONT"), line
        assert words[1].isdecimal(), line
        finals[words[1]] += words[0] == "OK"
        if words[0] == "OK":
            assert plain("alice", "secret") in sent or b"c2VjcmV0" in sent
            assert "user=alice" in words
    for number, count in finals.items():
        assert count <= sent.count(b"AUTH\t" + number.encode())


def test_the_examples_do_log_in() -> None:
    """The properties above would hold for a server that refuses everybody."""
    with tempfile.TemporaryDirectory() as directory, running(directory) as server:
        replies = converse(server, [HELLO, b"AUTH\t1\tPLAIN\tservice=imap\tresp=" + plain("alice", "secret") + b"\n"])
    assert replies[0].startswith("OK\t1\tuser=alice")
    assert "proxy" in replies[0].split("\t")
