"""Anything may be said to the auth server by a process that connects: it answers, refuses or disconnects, each request
at most once and never OK without the password."""
from __future__ import annotations

import base64
import os
import socket
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hypothesis import example, given
from hypothesis import strategies as st

from mailproxy.auth import server_main
from mailproxy.auth.cache import Cache
from mailproxy.auth.client import Client
from mailproxy.auth.journal import Journal
from mailproxy.auth.master import Master
from mailproxy.auth.server import Server
from mailproxy.auth.userchain import UserPlan
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
        cache = Cache(4096, 60.0, 60.0, time.monotonic)
        user_plans = {name: UserPlan(sections, journal, pool, cache) for name, sections in setup.userdbs.items()}
        yield Server(loop, log, journal, plans, user_plans, child, pool, cache)
    finally:
        pool.close()
        loop.close()
        for fd in (log_fd, status_out, status_in):
            os.close(fd)


def converse(server: Server, chunks: list[bytes], master: bool = False) -> list[str]:
    """The server's lines behind its greeting, up to its end."""
    near, far = socket.socketpair()
    near.setblocking(False)
    far.setblocking(False)
    client = Master(server, near, 1, "/", True) if master else Client(server, near, True, 1)
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
    lines = answers.decode("utf-8", "surrogateescape")
    return (lines.partition("\nSPID\t")[2].partition("\n") if master else lines.partition("DONE\n"))[2].split("\n")[:-1]


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


MASTER_HELLO = b"VERSION\t1\t1\n"
MASTER_WORDS = st.sampled_from([
    MASTER_HELLO, b"VERSION\t2\t1\n", b"CPID\t1\n", b"PASS\t", b"USER\t", b"LIST\t", b"REQUEST\t", b"CACHE-FLUSH\t",
    b"1\t",
    b"PASS\t1\talice\tservice=imap\n", b"PASS\t2\tnobody\tservice=x\trip=::1\n", b"USER\t3\talice\tservice=lmtp\n",
    b"USER\t4\ta*b\tservice=\n", b"LIST\t5\tservice=x\n", b"LIST\t6\n", b"CACHE-FLUSH\t7\n",
    b"CACHE-FLUSH\t8\talice\t\n", b"REQUEST\t9\t7\t1\tabc\tsession_pid=1\n", b"REQUEST\t10\t7\t1\n", b"alice", b"\t",
    b"\n",
    b"service=imap", b"\0", b"\xff", b"\x01t", b"forward_fields=a\x01tb=c", b"9" * 5000, b"x" * 9000, b"4294967296",
    b"-1", b"\xc2\xb2"])


@given(st.lists(st.lists(MASTER_WORDS | st.binary(max_size=6), max_size=6).map(b"".join), max_size=6))
@example([MASTER_HELLO, b"PASS\t1\talice\tservice=imap\nUSER\t2\talice\tservice=x\nLIST\t3\n"])
@examples(100)
def test_auth_master(chunks: list[bytes]) -> None:
    """Answers to what was asked, and never a password."""
    with tempfile.TemporaryDirectory() as directory, running(directory) as server:
        replies = converse(server, chunks, master=True)
    for line in replies:
        words = line.split("\t")
        assert words[0] in ("PASS", "USER", "NOTFOUND", "FAIL", "DONE", "OK"), line
        assert words[1].isdecimal(), line
        assert "secret" not in line


def test_the_master_examples_are_answered() -> None:
    with tempfile.TemporaryDirectory() as directory, running(directory) as server:
        replies = converse(server, [MASTER_HELLO, b"PASS\t1\talice\tservice=imap\nUSER\t2\talice\tservice=x\n"
                                    b"LIST\t3\nCACHE-FLUSH\t4\n"], master=True)
    assert replies == ["PASS\t1\tuser=alice\tproxy\thost=10.0.0.9", "USER\t2\talice\t", "DONE\t3\tfail", "OK\t4\t0"]


def test_the_examples_do_log_in() -> None:
    """The properties above would hold for a server that refuses everybody."""
    with tempfile.TemporaryDirectory() as directory, running(directory) as server:
        replies = converse(server, [HELLO, b"AUTH\t1\tPLAIN\tservice=imap\tresp=" + plain("alice", "secret") + b"\n"])
    assert replies[0].startswith("OK\t1\tuser=alice")
    assert "proxy" in replies[0].split("\t")
