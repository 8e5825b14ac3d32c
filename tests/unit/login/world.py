"""A session's world without sockets: a clock that the test turns, an auth server and a backend that
the test speaks for."""
from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mailproxy import config
from mailproxy.login import session as states
from mailproxy.login.handoff import MailService
from mailproxy.login.session import Session
from mailproxy.login.setup import Setup, prepare
from mailproxy.login.target import Target

CONF = """
protocols = imap
ssl = no
log_path = /dev/stderr
disable_plaintext_auth = no
login_greeting = hello
"""
MECHANISMS = (("PLAIN", ("plaintext",)), ("LOGIN", ("plaintext",)), ("EXTERNAL", ("private",)))
CLIENT, PROXY, BACKEND = ("192.0.2.7", 40000), ("192.0.2.1", 143), "198.51.100.9"
OK = {"user": "alice", "proxy": "", "host": BACKEND, "pass": "sesame"}
BANNER = b"* OK [CAPABILITY IMAP4rev1 ID LITERAL+] ready\r\n"


class Timer:
    def __init__(self, at: float, call: Callable[[], None]) -> None:
        self.at, self.call, self.live = at, call, True

    def cancel(self) -> None:
        self.live = False


class FakeLog:
    """Log lines as (level, text)."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []
        self.debug_enabled = True

    def __getattr__(self, level: str) -> Callable[[str], None]:
        assert level in ("debug", "info", "warning", "error")
        return lambda text: self.lines.append((level, text))

    def text(self) -> str:
        return "\n".join(f"{level}: {text}" for level, text in self.lines)


class FakeAuth:
    """`asked`: (session, mechanism, parameters, initial) by id; ids that were cancelled are gone from it."""

    def __init__(self) -> None:
        self.mechanisms = MECHANISMS
        self.asked: dict[int, tuple[Session, str, str, bytes | None]] = {}
        self.answers: list[tuple[int, bytes]] = []
        self.cancelled: list[int] = []
        self._next = 0

    def ready(self) -> bool:
        return bool(self.mechanisms)

    def mechanism(self, name: str) -> tuple[str, ...] | None:
        return dict(self.mechanisms).get(name)

    def ask(self, session: Any, mechanism: str, parameters: str, initial: bytes | None) -> int:
        self._next += 1
        self.asked[self._next] = (session, mechanism, parameters, initial)
        return self._next

    def answer(self, request: int, data: bytes) -> None:
        self.answers.append((request, data))

    def cancel(self, request: int) -> None:
        self.cancelled.append(request)
        self.asked.pop(request, None)

    def withdraw(self, request: int) -> None:
        self.cancelled.append(request)

    def identity(self) -> tuple[int, bytes]:
        return 1, bytes(16)


class Mail:
    """The way to a mail process; the test says what becomes of it."""

    def __init__(self, request: int, service: MailService, said: bytes, leftover: bytes) -> None:
        self.asked = (request, service.path, service.limit, said, leftover)
        self.pid = 0
        self.state = "made"

    def begin(self) -> None:
        self.state = "begun"

    def stop(self) -> None:
        self.state = "stopped"


class World:
    """One session; implements login.ports.Io for it.  `sent` and `to_backend` collect; take() empties the first."""

    def __init__(self, setup: Setup, *, remote: tuple[str, int] = CLIENT, local: tuple[str, int] = PROXY) -> None:
        self.setup = setup
        self.auth: FakeAuth = setup.auth  # type: ignore[assignment]
        self.log: FakeLog = setup.log  # type: ignore[assignment]
        self.time = 1000.0
        self.timers: list[Timer] = []
        self.sent = b""
        self.reading = False
        self.closed = False
        self.tls_started = False
        self.refuse_connect = ""
        self.connected: list[tuple[str, int, str | None]] = []
        self.backend_open = False
        self.to_backend = b""
        self.backend_is_tls = 0
        self.handed: tuple[str, str, bytes, bytes] | None = None
        self.mail: Mail | None = None
        self.taken_with: bytes | None = None
        self.local_known = "192.0.2.1:5555"
        self.established = False
        self.session = Session(setup, self, setup.frontend(remote[0], local[0]), remote, local)

    # --- ClientPort and BackendPort ---

    def send(self, data: bytes) -> None:
        assert not self.closed, "sent to a client who is gone"
        self.sent += data

    def start_tls(self) -> None:
        self.tls_started = True

    def close(self) -> None:
        assert not self.closed, "closed twice"
        self.closed = True

    def resume_reading(self) -> None:
        assert not self.closed
        self.reading = True

    def cipher(self) -> str:
        return ""

    def certificate(self, field: str) -> str | None:
        return None

    def now(self) -> float:
        return self.time

    def later(self, delay: float, call: Callable[[], None]) -> Timer:
        timer = Timer(self.time + delay, call)
        self.timers.append(timer)
        return timer

    def hand_over(self, label: str, elements: str, to_backend: bytes, to_client: bytes) -> None:
        assert self.handed is None
        self.handed = (label, elements, to_backend, to_client)

    def hand_off(self, request: int, service: MailService, said: bytes, leftover: bytes) -> Mail:
        self.mail = Mail(request, service, said, leftover)
        return self.mail

    def taken(self, leftover: bytes) -> None:
        self.taken_with = leftover

    def connect(self, target: Target, source: str | None) -> str:
        assert not self.backend_open
        self.connected.append((target.ip, target.port, source))
        self.backend_open = not self.refuse_connect
        return self.refuse_connect

    def backend_send(self, data: bytes) -> None:
        assert self.backend_open, "sent to a backend that is closed"
        self.to_backend += data

    def backend_tls(self, target: Target) -> None:
        self.backend_is_tls += 1

    def backend_close(self) -> None:
        self.backend_open = False

    def backend_local(self) -> str:
        return self.local_known

    def backend_connected(self) -> bool:
        return self.established

    # --- what the test does ---

    def client(self, data: bytes) -> bytes:
        """Bytes of the client; what it sees of it."""
        if self.reading and not self.session.client_data(data):
            self.reading = False
        return self.take()

    def take(self) -> bytes:
        sent, self.sent = self.sent, b""
        return sent

    def wait(self, seconds: float) -> bytes:
        """Let time pass; what the client sees of it."""
        end = self.time + seconds
        while due := [timer for timer in self.timers if timer.live and timer.at <= end]:
            first = min(due, key=lambda timer: timer.at)
            first.live = False
            self.time = max(self.time, first.at)
            first.call()
        self.time = end
        return self.take()

    def request(self) -> tuple[int, str, str, bytes | None]:
        """The one request that waits for an answer."""
        assert len(self.auth.asked) == 1
        number, (_, mechanism, parameters, initial) = next(iter(self.auth.asked.items()))
        return number, mechanism, parameters, initial

    def ok(self, **fields: str) -> bytes:
        self.auth.asked.clear()
        self.session.auth_ok({**OK, **fields})
        return self.take()

    def fail(self, **fields: str) -> bytes:
        self.auth.asked.clear()
        self.session.auth_failed({"user": "alice", **fields})
        return self.take()

    def challenge(self, data: bytes) -> bytes:
        self.session.auth_continue(base64.b64encode(data))
        return self.take()

    def backend(self, data: bytes) -> bytes:
        self.session.proxying.data(data)
        return self.take()

    def pending(self) -> int:
        return sum(timer.live for timer in self.timers)


def make_setup(directory: Path, text: str = "") -> Setup:
    path = directory / "mailproxy.conf"
    path.write_text(CONF + text)
    conf = config.load(str(path))
    setup: Setup = prepare(conf, conf.services["imap-login"])
    setup.log = FakeLog()  # type: ignore[assignment]
    setup.auth = FakeAuth()  # type: ignore[assignment]
    return setup


def at(world: World, state: int) -> World:
    """Bring a new session into a state the ordinary way."""
    if state == states.GREET:
        world.auth.mechanisms = ()
    world.session.begin()
    if state in (states.GREET, states.COMMAND):
        return world
    if state == states.SASL:
        world.client(b"a AUTHENTICATE PLAIN\r\n")
        world.challenge(b"")
        return world
    world.client(b"a LOGIN alice sesame\r\n")
    if state == states.AUTH:
        return world
    world.ok()
    if state == states.RETRY:
        world.session.proxying.unreachable("Connection refused")
    elif state == states.RELAY:
        world.backend(BANNER)
        world.backend(b"I OK\r\nL OK [CAPABILITY IMAP4rev1] Logged in\r\n")
    assert world.session.state == state
    return world
