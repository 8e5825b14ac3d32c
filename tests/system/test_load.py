"""A soak: everything that clients, backends and operators do wrong, at once, for a while.  Afterwards descriptors,
processes and memory are what they were, and honest clients have noticed only what they had to."""
from __future__ import annotations

import contextlib
import os
import random
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests import servers
from tests.certificates import Authority
from tests.fakes.attack import GREETING, PASSWORD, Load, Peer, Target, backend, dialogue, memory, settings

MEGABYTE = 1 << 20
#: Seconds of each soak; two of them make the half minute.
DURATION = 15.0
#: Attackers at work at once.
THREADS = 3


def broken(peer: Peer) -> None:
    """Some backend."""
    how = random.randrange(6)
    if how == 0:
        peer.send(os.urandom(500))
    elif how == 1:
        peer.send(GREETING[:random.randrange(len(GREETING))])
    elif how == 2:
        peer.send(GREETING)
        peer.line()
        peer.reset()
    elif how == 3:
        dialogue(peer)
        peer.send(b"* BYE\r\n")
    elif how == 4:
        dialogue(peer)
        for _ in range(100):
            peer.send(b"x" * 65536)
    else:
        for _ in range(100):
            peer.send(b"A" * 65536)


def garbage(target: Target, user: bytes) -> None:
    with Peer(target.port(random.choice(["imap", "imaps"]))) as peer:
        peer.offer(os.urandom(random.randrange(3000)) + b"\r\n")


def half_command(target: Target, user: bytes) -> None:
    peer = Peer(target.port())
    peer.offer(random.choice([b"a LOGIN {100}\r\nxx", b"a AUTHENTICATE LOGIN\r\n", b"a STARTTLS\r\n\x16", b"a NOO",
                              b"a ID (((", b"x\r\n" * 100]))
    time.sleep(random.random() / 50)
    random.choice([Peer.reset, Peer.close])(peer)


def half_handshake(target: Target, user: bytes) -> None:
    peer = Peer(target.port("imaps"))
    peer.offer(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + os.urandom(random.randrange(600)))
    random.choice([Peer.reset, Peer.close])(peer)


def to_broken_backend(target: Target, user: bytes) -> None:
    with Peer(target.port()) as peer:
        peer.line()
        peer.offer(b"a LOGIN %b %b\r\n" % (user, PASSWORD.encode()))
        peer.sock.settimeout(random.random() * 0.3 + 0.01)
        with contextlib.suppress(TimeoutError):
            peer.reply(b"a")


def wrong_password(target: Target, user: bytes) -> None:
    with Peer(target.port()) as peer:
        peer.offer(b"a LOGIN %b wrong\r\n" % user)
        peer.sock.settimeout(random.random() * 0.7 + 0.01)
        with contextlib.suppress(TimeoutError):
            peer.reply(b"a")


def deaf_session(target: Target, user: bytes) -> None:
    with target.login(tls=random.random() < 0.5) as peer:
        peer.offer(b"n NOOP\r\n" * 2000)
        if random.random() < 0.5:
            peer.reset()


ATTACKS: list[Callable[[Target, bytes], None]] = [garbage, half_command, half_handshake, to_broken_backend,
                                                  wrong_password,
                                                  deaf_session]


def total(target: Target) -> int:
    """Private memory of the whole daemon."""
    found = 0
    for process in [psutil.Process(target.server.process.pid), *target.server.children()]:
        with contextlib.suppress(psutil.Error):
            found += memory(process)
    return found


def descriptors(target: Target) -> int:
    found = 0
    for process in [psutil.Process(target.server.process.pid), *target.server.children()]:
        with contextlib.suppress(psutil.Error):
            found += process.num_fds()
    return found


@pytest.mark.parametrize("service_count", [0, 1])
def test_soak(authority: Authority, service_count: int, tmp_path: Path) -> None:
    alone = service_count == 1
    target = Target(settings(authority.issue("localhost", "127.0.0.1"), service_count=service_count,
                             client_limit=1 if alone else 1000, process_limit=100 if alone else 1))
    stop = threading.Event()
    surprises: list[str] = []
    try:
        with backend(broken) as bad:
            user = bad.user()

            def attack() -> None:
                while not stop.is_set():
                    with contextlib.suppress(OSError):
                        try:
                            random.choice(ATTACKS)(target, user)
                        except AssertionError as error:
                            surprises.append(str(error))
            for call in ATTACKS:                        # what is made on first use is not a leak
                with contextlib.suppress(OSError, AssertionError):
                    call(target, user)
            for _ in range(100):
                target.login().close()
            quiet(target)
            before_fds, before_memory = descriptors(target), total(target)
            threads = [threading.Thread(target=attack, daemon=True) for _ in range(THREADS)]
            for thread in threads:
                thread.start()
            load = Load(target, 2)
            deadline = time.monotonic() + DURATION
            while time.monotonic() < deadline:
                time.sleep(0.5)
                assert target.canary.ask(b"c NOOP") == b"c OK NOOP\r\n"
            stop.set()
            load.stop()
            for thread in threads:
                thread.join(10.0)
        quiet(target)
        assert load.done > 50
        assert not load.failures, load.failures[:5]
        assert not surprises, surprises[:5]
        assert descriptors(target) <= before_fds + 2            # a spare worker more, or a kept pipe
        assert total(target) - before_memory < 4 * MEGABYTE
        with target.login() as fresh:
            assert fresh.ask(b"d NOOP") == b"d OK NOOP\r\n"
    finally:
        problems = target.stop()
    assert not problems, "\n".join(problems)


def quiet(target: Target) -> None:
    """Until the canary's is the only session."""
    def is_quiet() -> bool:
        busy = 0
        for process in target.processes("imap-login"):
            with contextlib.suppress(psutil.Error):
                busy += len(process.net_connections("tcp")) - 2
        return busy <= 2 and len(target.processes("imap-login")) <= 2
    servers.wait_until(is_quiet, 10.0, "the end of the sessions")
