"""Run a group of scenarios against one side; compare the two sides.

In: a Group and a side.  Out: a Result for each scenario.  The scenarios of a group run at the same time, each with a
backend and a user of its own, so that a group takes as long as its slowest scenario.
"""
from __future__ import annotations

import difflib
import shutil
import socket
import sqlite3
import tempfile
import textwrap
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from .backend import Backend
from .certs import Certs
from .client import Client
from .normalise import Normaliser, stretch
from .scenario import Group, Scenario
from .script import fill
from .servers import LOGINS, CannotStart, Server, free_ports

#: Scenarios at the same time.
PARALLEL = 40
#: Groups, that is daemons, at the same time.
GROUPS_AT_ONCE = 4
#: A port that somebody took before the daemon did costs one attempt.
ATTEMPTS = 3
#: Seconds without a new log line after which the log is complete, and the most to wait for that.
SETTLED, SETTLE_LIMIT = 0.4, 3.0


@dataclass(frozen=True, slots=True)
class Result:
    """What one scenario did on one side, normalised."""

    client: list[str]
    backend: list[list[str]]
    log: list[str]

    def backend_text(self) -> list[str]:
        return [line for number, lines in enumerate(self.backend, 1) for line in (f"#{number}", *lines)]





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
        self.group = group
        refusing = stack.enter_context(socket.socket())
        refusing.bind(("127.0.0.1", 0))             # bound and not listening: connections are refused for sure
        self.dead: int = refusing.getsockname()[1]
        self.listeners = free_ports(LOGINS[group.protocol].listeners)
        self.backends = {scenario.name: stack.enter_context(closing(Backend(scenario.backend, certs)))
                         for scenario in group.scenarios}
        users = [user for scenario in group.scenarios for user in self._users(scenario)]
        if group.sqlite:
            _write_database(directory, users)
        lines = [f"{name}:{{PLAIN}}{password}::::::{fields}\n" for name, password, fields in users]
        (directory / "users").write_text("".join(lines), "latin-1")

    def names(self, scenario: Scenario) -> dict[str, str]:
        return {"u": scenario.name, "port": str(self.backends[scenario.name].port), "dead": str(self.dead),
                **self.listeners}

    def conf(self) -> str:
        """The group's part of the configuration; `$port` is the backend of its first scenario."""
        port = self.backends[self.group.scenarios[0].name].port
        return f"{self.group.passdb}\n{self.group.conf}".replace("$port", str(port))

    def _users(self, scenario: Scenario) -> Iterator[tuple[str, str, str]]:
        names = self.names(scenario)
        if scenario.fields is not None:
            yield scenario.name, fill(scenario.password, names), fill(f"{scenario.fields} {scenario.extra}", names)
        for name, fields in scenario.users.items():
            yield name, "pw", fill(fields, names)


def _write_database(directory: Path, users: list[tuple[str, str, str]]) -> None:
    """The same users for the SQL driver: host and port in columns."""
    path = directory / "users.sqlite"
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("create table users (name text, password text, host text, port text)")
        for name, password, fields in users:
            values = dict(item.partition("=")[::2] for item in fields.split())
            database.execute("insert into users values (?, ?, ?, ?)",
                             (name, password, values.get("host"), values.get("port")))
    path.chmod(0o644)
    query = "SELECT name AS user, password, 'y' AS proxy, host, port FROM users WHERE name = '%u'"
    for name, table in (("sql.conf", "users"), ("broken.conf", "nowhere")):
        (directory / name).write_text(f"driver = sqlite\nconnect = {path}\ndefault_pass_scheme = PLAIN\n"
                                      f"password_query = {query.replace('users', table)}\n")


def run_groups(groups: Sequence[Group], side: str, only: frozenset[str] | None = None) -> dict[str, GroupRun]:
    """Several groups at the same time; by group name the results, or why there are none."""
    def run(group: Group) -> GroupRun:
        try:
            return GroupRun(run_group(group, side, only))
        except CannotStart as error:
            return GroupRun({}, str(error))

    with ThreadPoolExecutor(GROUPS_AT_ONCE) as pool:
        return {group.name: found for group, found in zip(groups, pool.map(run, groups), strict=True)}


def run_group(group: Group, side: str, only: frozenset[str] | None = None) -> dict[str, Result]:
    """Start the side's daemon on the group's configuration and play its scenarios."""
    chosen = [scenario for scenario in group.scenarios if only is None or scenario.name in only]
    for attempt in range(ATTEMPTS):
        try:
            return _run(group, chosen, side)
        except CannotStart as error:
            if "Address already in use" not in str(error) or attempt == ATTEMPTS - 1:
                raise
    raise AssertionError("unreachable")


def _run(group: Group, chosen: list[Scenario], side: str) -> dict[str, Result]:
    with _directory() as directory, ExitStack() as stack:
        certs = Certs(directory / "tls")
        stage = _Stage(group, directory, certs, stack)
        server = Server(side, directory, stage.conf(), group.protocol, group.login, stage.listeners)
        try:
            with ThreadPoolExecutor(PARALLEL) as pool:
                played = list(pool.map(lambda scenario: _play(scenario, stage, server), chosen))
            log = _settled(server)
        finally:
            server.stop()
        return {scenario.name: _result(scenario, stage, server, play, log)
                for scenario, play in zip(chosen, played, strict=True)}


def _settled(server: Server) -> str:
    until = time.monotonic() + SETTLE_LIMIT
    log = server.log()
    while time.monotonic() < until:
        time.sleep(SETTLED)
        before, log = log, server.log()
        if log == before:
            break
    return log


@dataclass(frozen=True, slots=True)
class _Played:
    client: list[str]
    backend: list[list[str]]
    ports: list[int]


def _play(scenario: Scenario, stage: _Stage, server: Server) -> _Played:
    names = {**stage.names(scenario), **server.names}
    backend = stage.backends[scenario.name]
    backend.start(names)
    client = Client(scenario.client, names, stage.certs, LOGINS[stage.group.protocol].listeners)
    lines = client.run()
    return _Played(lines, backend.stop(), client.ports)


def _result(scenario: Scenario, stage: _Stage, server: Server, played: _Played, log: str) -> Result:
    ports = {stage.backends[scenario.name].port: "port", stage.dead: "dead",
             **{int(port): name for name, port in stage.listeners.items()}}
    normaliser = Normaliser(scenario.name, ports, played.ports, stretch(played.backend[-1] if played.backend else []))
    return Result(normaliser.lines(played.client), [refusals(normaliser.lines(lines)) for lines in played.backend],
                  normaliser.log(log))


def refusals(lines: list[str]) -> list[str]:
    """A proxy that dislikes a certificate says so within the handshake or hangs up behind it: both refuse."""
    if len(lines) > 1 and lines[-2].startswith("-- TLS") and lines[-1].startswith("<EOF>"):
        return [*lines[:-2], "-- TLS refused"]
    return lines


def wanted(scenario: Scenario, oracle: Result) -> tuple[list[str], list[str], list[str]]:
    """Client, backend and log lines that mailproxy must show: Dovecot's, but for what differs on purpose."""
    return (_override(scenario, scenario.expected_client, oracle.client),
            _override(scenario, scenario.expected_backend, oracle.backend_text()),
            _override(scenario, scenario.expected_log, oracle.log))


def _override(scenario: Scenario, text: str | None, lines: list[str]) -> list[str]:
    if text is not None:
        return textwrap.dedent(text).strip("\n").splitlines()
    whole = "\n".join(lines)
    for old, new in scenario.substitute:
        whole = whole.replace(old, new)
    return whole.splitlines()


def difference(expected: list[str], found: list[str]) -> str:
    """Empty if equal, else a unified diff."""
    if expected == found:
        return ""
    return "\n".join(difflib.unified_diff(expected, found, "wanted", "mailproxy", n=50, lineterm=""))
