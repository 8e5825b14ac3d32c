"""A group of cases on both sides: servers, requests in rounds, answers, comparison.

As much as possible is asked at the same time, since each refusal takes its half second.  An answer is compared as a set
of fields; empty ones do not count (Dovecot writes one where all fields are hidden).
"""
from __future__ import annotations

import os
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests import servers
from tests.component.auth.peer import Peer, without_id

from .case import Ask, Case, encoded

#: (case, number of the request, socket) -> the answer without its id.
Answers = dict[tuple[str, int, str], str]
_AUTH_SOCKETS = ("auth-client", "login/login")
_HEAD = """
base_dir = @dir@/run
state_dir = @dir@/state
protocols =
listen = 127.0.0.1
log_path = @dir@/log
ssl = no
auth_failure_delay = 0
first_valid_uid = 1
service stats {
  unix_listener stats-writer {
    mode = 0666
  }
}
"""


@dataclass
class Group:
    """`conf`: settings that cannot differ from protocol to protocol.  `in_order`: one request of a case after the
    other, else all at once.  `between`: called with a server's directory after each, to change what databases hold."""

    name: str
    conf: str
    cases: list[Case]
    in_order: bool = False
    between: Callable[[Path, int], None] | None = None


@dataclass
class Result:
    """`differences`: what to print of each case that is not equal; `deliberate`: cases that differ as they say."""

    cases: int = 0
    answers: int = 0
    differences: list[str] = field(default_factory=list)
    wrong: set[str] = field(default_factory=set)
    deliberate: set[str] = field(default_factory=set)

    @property
    def summary(self) -> str:
        note = f", {len(self.deliberate)} of them with answers that differ on purpose" if self.deliberate else ""
        return f"{self.cases - len(self.wrong)} of {self.cases} cases equal ({self.answers} answers){note}"


def service_of(group: Group, case: Case) -> str:
    return f"c{group.cases.index(case)}"


def configuration(group: Group) -> str:
    blocks = [f"protocol {service_of(group, case)} {{\n{case.conf.replace('@case@', f'@dir@/{case.name}')}\n}}\n"
              for case in group.cases]
    # without databases of their own others could not even start
    return "".join((_HEAD, group.conf, *blocks, "passdb {\n  driver = static\n  args =\n  username_filter = !*\n}\n"))


def _prepare(group: Group, directory: Path) -> None:
    directory.chmod(0o755)
    for case in group.cases:
        place = directory / case.name
        place.mkdir()
        place.chmod(0o777)
        for name, content in case.files.items():
            (place / name).write_text(content.replace("@case@", str(place)), encoding="utf-8",
                                      errors="surrogateescape")
        if case.sqlite:
            with closing(sqlite3.connect(place / "users.db")) as database:
                database.executescript(case.sqlite)
                database.commit()
            os.chmod(place / "users.db", 0o666)


@contextmanager
def _running(start: Callable[[str, Path], servers.Server], group: Group) -> Iterator[servers.Server]:
    # not below pytest's own directory: Dovecot's unprivileged user cannot get there
    with tempfile.TemporaryDirectory(prefix="mp-auth-") as text:
        directory = Path(text)
        _prepare(group, directory)
        server = start(configuration(group), directory)
        try:
            limit = time.monotonic() + servers.START_TIMEOUT
            while not (directory / "run" / "auth-master").exists():
                status = server.process.poll()
                assert status is None, f"the server did not start:\n{server.output()}\n{server.log_text()}"
                assert time.monotonic() < limit, f"no sockets:\n{server.output()}\n{server.log_text()}"
                time.sleep(0.05)
            yield server
        finally:
            problems = server.stop()
        assert not problems, "\n".join(problems)


class _Talk:
    """All connections to one server, and the rounds."""

    def __init__(self, group: Group, server: servers.Server) -> None:
        self._group = group
        self._server = server
        base = server.directory / "run"
        self._peers = {name: Peer(str(base / name), pid=os.getpid()) for name in _AUTH_SOCKETS}
        self._masters = {name: self._master(str(base / name)) for name in ("auth-userdb", "auth-master")}
        self._cookie = next(line[7:] for line in self._peers["login/login"].hello if line.startswith("COOKIE\t"))
        self._id = 0
        self.answers: Answers = {}

    @staticmethod
    def _master(path: str) -> Peer:
        peer = Peer(path, handshake=False)
        peer.send("VERSION\t1\t1")
        assert peer.line() == "VERSION\t1\t1"
        assert peer.line().startswith("SPID\t")
        return peer

    def run(self) -> Answers:
        everything = [(case, number) for case in self._group.cases for number in range(len(case.asks))]
        if not self._group.in_order:
            self._round(everything)
        else:
            for step in range(max(number for _, number in everything) + 1):
                self._round([(case, number) for case, number in everything if number == step])
                if self._group.between is not None:
                    self._group.between(self._server.directory, step)
        for peer in (*self._peers.values(), *self._masters.values()):
            peer.close()
        return self.answers

    def _round(self, asks: list[tuple[Case, int]]) -> None:
        for name, peer in self._peers.items():
            asked = {self._send(peer, case, case.asks[number]): (case, number) for case, number in asks
                     if case.asks[number].kind == "AUTH"}
            for identity, line in self._conversations(peer, {key: case.asks[number]
                                                             for key, (case, number) in asked.items()}):
                case, number = asked[identity]
                self.answers[case.name, number, name] = without_id(line)
                if name == "login/login" and line.startswith("OK") and not {"proxy", "nologin"} & set(line.split("\t")):
                    self.answers[case.name, number, "REQUEST"] = self._request(identity)
        for case, number in asks:
            if case.asks[number].kind != "AUTH":
                self.answers[case.name, number, "auth-userdb"] = self._look_up(case, case.asks[number])

    def _send(self, peer: Peer, case: Case, ask: Ask) -> int:
        self._id += 1
        fields = ["AUTH", str(self._id), ask.mech, f"service={service_of(self._group, case)}", "no-penalty",
                  *ask.params]
        if ask.initial is not None:
            fields.append(f"resp={encoded(ask.initial)}")
        peer.send("\t".join(fields))
        return self._id

    def _conversations(self, peer: Peer, asked: dict[int, Ask]) -> Iterator[tuple[int, str]]:
        """Until each of them has its end."""
        open_ones = {key: list(ask.later) for key, ask in asked.items()}
        while open_ones:
            line = peer.line()
            word, identity, *rest = line.split("\t")
            key = int(identity)
            if word == "CONT" and open_ones.get(key):
                peer.send(f"CONT\t{key}\t{encoded(open_ones[key].pop(0))}")
            elif word == "CONT":
                peer.send(f"CANCEL\t{key}")
                del open_ones[key]
                yield key, f"CONT\t{key}\t{rest[0] if rest else ''}"
            else:
                del open_ones[key]
                yield key, line

    def _request(self, login: int) -> str:
        self._id += 1
        master = self._masters["auth-master"]
        master.send(f"REQUEST\t{self._id}\t{os.getpid()}\t{login}\t{self._cookie}")
        return without_id(master.line())

    def _look_up(self, case: Case, ask: Ask) -> str:
        self._id += 1
        master = self._masters["auth-userdb"]
        service = f"service={service_of(self._group, case)}"
        if ask.kind != "LIST":
            master.send("\t".join((ask.kind, str(self._id), ask.user, service, *ask.params)))
            return without_id(master.line())
        master.send(f"LIST\t{self._id}\tuser=*\t{service}")
        names = []
        while (line := master.line()).startswith("LIST\t"):
            names.append(line.split("\t")[2])
        return "\t".join((without_id(line), *sorted(names)))


def _answers(start: Callable[[str, Path], servers.Server], group: Group) -> Answers:
    with _running(start, group) as server:
        return _Talk(group, server).run()


def words(line: str) -> list[str]:
    """Fields as a set: the word of the answer, then what it says in any order."""
    word, *rest = line.split("\t")
    return [word, *sorted(filter(None, rest))]


def run(group: Group) -> Result:
    with ThreadPoolExecutor(2) as pool:
        real = pool.submit(_answers, servers.dovecot, group)
        ours = pool.submit(_answers, servers.mailproxy, group)
        theirs, mine = real.result(), ours.result()
    return compare(group, theirs, mine)


def compare(group: Group, theirs: Answers, mine: Answers) -> Result:
    result = Result(len(group.cases), len(theirs))
    for case in group.cases:
        unused = set(case.ours)
        for name, number, where in sorted(theirs.keys() | mine.keys()):
            if name != case.name:
                continue
            label = case.asks[number].label
            their, own = theirs.get((name, number, where), ""), mine.get((name, number, where), "")
            key = f"{where}: {label}" if f"{where}: {label}" in case.ours else label
            expected = case.ours.get(key, their) if words(own) != words(their) else own
            if words(own) == words(expected):
                if words(own) != words(their):
                    result.deliberate.add(name)
                    unused.discard(key)
                continue
            result.wrong.add(name)
            result.differences.append(f"{group.name}/{name} {where}: {label}\n    Dovecot: {their!r}\n"
                                      f"    ours:    {own!r}")
        for key in sorted(unused):
            result.wrong.add(case.name)
            result.differences.append(f"{group.name}/{case.name}: {key} should differ on purpose, and does not")
    return result
