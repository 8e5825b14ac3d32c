"""Run a group of LMTP scenarios against one side.

Each scenario's client comes from a loopback address of its own and is served by a process of its own
(service_count = 1), so that log lines are told apart by the process.
"""
from __future__ import annotations

import itertools
import re
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests import servers
from tests.parity.backend import Backend
from tests.parity.certs import Certs
from tests.parity.conversation import AFTERMATH, PATIENCE, Conversation, Ended
from tests.parity.harness import refusals
from tests.parity.script import fill, parse

from .scenario import Group, Scenario

DOVECOT, MAILPROXY = SIDES = ("dovecot", "mailproxy")
#: Scenarios at the same time.
PARALLEL = 24
#: Groups, that is daemons, at the same time.
GROUPS_AT_ONCE = 4
#: Seconds without a new log line after which the log is complete, and the most to wait for that.
SETTLED, SETTLE_LIMIT = 0.4, 4.0

_BASE = """
base_dir = @dir@/run
state_dir = @dir@
protocols = lmtp
listen = 127.0.0.1
log_path = @dir@/log
hostname = proxy.test
ssl_cert = <$certs/server.pem
ssl_key = <$certs/server.key
ssl_dh =
ssl_client_ca_file = $certs/ca.pem
ssl_require_crl = no
auth_verbose = no
login_greeting = Proxy ready.
lmtp_proxy = yes
mail_temp_dir = @dir@
mail_location = maildir:@dir@/mail/%u
passdb {
  driver = passwd-file
  args = @dir@/users
}
userdb {
  driver = passwd-file
  args = @dir@/locals
}
service lmtp {
  inet_listener lmtp {
    port = $lmtp
  }
  client_limit = 1
  service_count = 1
  process_limit = 100
}
stats_writer_socket_path =
"""


@dataclass(frozen=True, slots=True)
class Result:
    """What one scenario did on one side, normalised."""

    client: list[str]
    backend: list[list[str]]
    log: list[str]

    def backend_text(self) -> list[str]:
        return [line for lines in self.backend for line in lines]


@dataclass(frozen=True, slots=True)
class GroupRun:
    """The results of a group on one side, or the reason why its daemon did not start."""

    results: dict[str, Result]
    error: str = ""


@contextmanager
def _directory() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="parity-", dir="/tmp"))
    path.chmod(0o755)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


class _Stage:
    """Backends, users and names of one run."""

    def __init__(self, group: Group, directory: Path, certs: Certs, stack: ExitStack) -> None:
        self.certs = certs
        refusing = stack.enter_context(socket.socket())
        refusing.bind(("127.0.0.1", 0))             # bound and not listening: connections are refused for sure
        self.dead: int = refusing.getsockname()[1]
        self.directory = directory
        self.lmtp = servers.free_port()
        self.backends = {scenario.name: {
            letter: stack.enter_context(closing(Backend(getattr(scenario, letter), certs))) for letter in "abc"}
            for scenario in group.scenarios}
        lines = []
        for scenario in group.scenarios:
            names = self.names(scenario)
            for name, fields in ({"$u": scenario.fields} | dict(scenario.users)).items():
                if fields is not None:
                    lines.append(f"{fill(name, names)}:{{PLAIN}}pw::::::{fill(fields, names)}\n")
        (directory / "users").write_text("".join(lines), "latin-1")
        (directory / "locals").write_text("")

    def names(self, scenario: Scenario) -> dict[str, str]:
        return {"u": scenario.name, "ub": scenario.name + "b", "uc": scenario.name + "c",
                "dead": str(self.dead), "dir": str(self.directory), "lmtp": str(self.lmtp),
                **{f"port{letter}": str(backend.port) for letter, backend in self.backends[scenario.name].items()}}


def run_groups(groups: Sequence[Group], side: str, only: frozenset[str] | None = None) -> dict[str, GroupRun]:
    def run(group: Group) -> GroupRun:
        try:
            return GroupRun(_run(group, side, only))
        except AssertionError as error:
            return GroupRun({}, str(error))

    with ThreadPoolExecutor(GROUPS_AT_ONCE) as pool:
        return {group.name: found for group, found in zip(groups, pool.map(run, groups), strict=True)}


def _run(group: Group, side: str, only: frozenset[str] | None) -> dict[str, Result]:
    chosen = [(number, scenario) for number, scenario in enumerate(group.scenarios)
              if only is None or scenario.name in only]
    with _directory() as directory, ExitStack() as stack:
        certs = Certs(directory / "tls")
        stage = _Stage(group, directory, certs, stack)
        start = servers.dovecot if side == DOVECOT else servers.mailproxy
        text = (_BASE + group.conf).replace("$certs", str(certs.path)).replace("$lmtp", str(stage.lmtp))
        server = start(text, directory)
        server.port["lmtp"] = stage.lmtp
        try:
            server.wait("lmtp")
            with ThreadPoolExecutor(PARALLEL) as pool:
                played = list(pool.map(lambda item: _play(item[0], item[1], stage), chosen))
            log = _settled(server)
        finally:
            problems = server.stop()
        assert side == DOVECOT or not problems, "\n".join(problems)
        return {scenario.name: _result(number, scenario, stage, play, log)
                for (number, scenario), play in zip(chosen, played, strict=True)}


def _settled(server: servers.Server) -> str:
    until = time.monotonic() + SETTLE_LIMIT
    log = server.log_text()
    while time.monotonic() < until:
        time.sleep(SETTLED)
        before, log = log, server.log_text()
        if log == before:
            break
    return log


def address(number: int) -> str:
    """The client's address of the scenario with this number."""
    return f"127.9.{number // 100 + 1}.{number % 100 + 100}"


@dataclass(frozen=True, slots=True)
class _Played:
    client: list[str]
    backend: list[list[str]]
    ports: list[int]


def _play(number: int, scenario: Scenario, stage: _Stage) -> _Played:
    names = stage.names(scenario)
    backends = stage.backends[scenario.name]
    for backend in backends.values():
        backend.start(names)
    lines, ports = _client(address(number), scenario, names, stage)
    transcripts = []
    for letter, backend in backends.items():
        for count, transcript in enumerate(backend.stop(), 1):
            transcripts.append([f"{letter}{count}", *transcript])
    return _Played(lines, transcripts, ports)


def _client(source: str, scenario: Scenario, names: dict[str, str], stage: _Stage) -> tuple[list[str], list[int]]:
    """`connect from IP` as the first step chooses another source address."""
    steps = parse(scenario.client)
    if steps[0].verb == "connect":
        source, steps = steps[0].arg.split()[-1], steps[1:]
    try:
        sock = socket.create_connection(("127.0.0.1", stage.lmtp), PATIENCE, (source, 0))
    except OSError as error:
        return [f"! {error.strerror}"], []
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    port = sock.getsockname()[1]
    conversation = Conversation(sock, names, stage.certs, server=False)
    try:
        for step in steps:
            conversation.step(step)
        if steps[-1].verb not in ("eof", "close", "rst", "quiet"):
            conversation.quiet(AFTERMATH, eof_matters=False)
    except Ended:
        pass
    conversation.finish()
    return conversation.lines, [port]


# -- what two runs cannot have in common ------------------------------------------------------------------------------

_SESSION = re.compile(r"(?<![A-Za-z0-9+/])[A-Za-z0-9+/]{22}(?![A-Za-z0-9+/])")
_XTEXT_SESSION = re.compile(r"(SESSION=)(?:[A-Za-z0-9/]|\+2B){22}(:P\d+)")
_PORT = re.compile(r"(?<![\w.])\d{4,5}(?![\w.])")
_REPLACE = (
    (re.compile(r"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d? \w{3} \d{4} \d\d:\d\d:\d\d [+-]\d{4}"), "DATE"),
    (re.compile(r"at \d+ ms"), "at N ms"),
    (re.compile(r"\d+\.\d\d\d secs"), "N secs"),
    (re.compile(r"in \d+ msecs"), "in N msecs"),
    (re.compile(r"(?:Dovecot \(Debian\)|Dovecot) ready\."), "BANNER"),
    (re.compile(r"read\(SSL \(conn:\S+\)\) failed: "), ""),
    (re.compile(r"(expected host name \S+): .*"), r"\1: WHY"),
    (re.compile(r"(invalid SSL certificate): .* \("), r"\1: WHY ("),
    (re.compile(r"error:\w+:SSL routines::"), ""),
    # Dovecot words a failed handshake in one of two ways, whichever comes first: its call or the peer's next bytes
    (re.compile(r"(?:connect\(\S+\) failed: )?SSL handshak\w+ (?:to|with) (\S+) failed"), r"TLS with \1 failed"),
)
_LINE = re.compile(r"lmtp\((?:[^()]*, )?(\d+)\)(?:<[^>]*>)*: (\w+): (.*)")


def _result(number: int, scenario: Scenario, stage: _Stage, played: _Played, log: str) -> Result:
    ports = {stage.dead: "$dead", stage.lmtp: "$lmtp", **dict.fromkeys(played.ports, "$client"),
             **{backend.port: f"$port{letter}" for letter, backend in stage.backends[scenario.name].items()}}

    def line(text: str) -> str:
        for pattern, name in _REPLACE:
            text = pattern.sub(name, text)
        text = _XTEXT_SESSION.sub(r"\1ID\2", text)
        text = _PORT.sub(lambda m: ports.get(int(m[0]), m[0]), _SESSION.sub("ID", text))
        return text.replace(address(number), "$address").replace(str(stage.directory), "$dir")

    return Result([line(text) for text in played.client],
                  [refusals([line(text) for text in lines]) for lines in played.backend],
                  [line(text) for text in _log(address(number), log)])


def _log(client: str, log: str) -> list[str]:
    """The lines of the process that served this client, and of the master or auth about it."""
    matches = [match for text in log.splitlines() if (match := _LINE.search(text))]
    pids = {match[1] for match in matches if f"Connect from {client}" in match[3]}
    lines = [re.sub(r"\[(\d+)\]: ", "[N]: ", f"{match[2]}: {match[3]}", count=1)
             for match in matches if match[1] in pids and match[2] != "Debug"]
    found: list[str] = []
    for answers, group in itertools.groupby(lines, lambda line: "message to <" in line):
        # which of several backends answers first is chance
        rows = list(group)
        found += sorted(rows, key=lambda text: text.partition("rcpt ")[2]) if answers else rows
    return found
