"""The auth master protocol over real sockets: PASS lookups for proxies, as Dovecot answers them."""
from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.component.auth.processes import dovecot, ours
from tests.component.auth.scenario import Passdb, Scenario
from tests.servers import wait_until

_USERS = "\n".join((
    "plain:{PLAIN}pw::::::proxy=y host=127.0.0.9",
    "full:{PLAIN}pw::::::proxy=y host=10.1.2.3 port=10143 destuser=other proxy_timeout=5",
    "rename:{PLAIN}pw::::::user=newname",
    "refused:{PLAIN}pw::::::nologin=y reason=Maintenance",
    "self:{PLAIN}pw::::::proxy_maybe=y host=127.0.0.1",
    "elsewhere:{PLAIN}pw::::::proxy_maybe=y host=127.0.0.2",
    "local:{PLAIN}pw::::::",
    "fails:{PLAIN}pw::::::proxy=y host=127.0.0.9 fail=y",
    "nets:{PLAIN}pw::::::proxy=y host=127.0.0.9 allow_nets=10.0.0.0/8",
    "nopass:::::::proxy=y host=127.0.0.9 nopassword=y",
    "unnamed:{PLAIN}pw::::::proxy=y host=no-such-host.invalid",
    "broken:{NOSUCH}pw::::::proxy=y host=127.0.0.9", ""))
_SCENARIO = Scenario([Passdb("passwd-file", "@DIR@/users")], {}, {"users": _USERS})
_ASKED = "service=lmtp\tlip=127.0.0.1\tlport=24\trip=10.9.8.7"
_LOOKUPS = [f"PASS\t{number}\t{user}\t{_ASKED}" for number, user in enumerate((
    "plain", "Full", "rename", "refused", "self", "elsewhere", "local", "fails", "nets", "nopass", "unnamed", "nobody",
    "a b", "pl\x01tain"), 1)] + [
    "PASS\t50\tnets\tservice=lmtp\trip=1.2.3.4", "PASS\t51\tlocal\tservice=x\tforward_fields=a=b",
    "PASS\t0\tplain\tservice=x", "PASS\t4294967295\tplain\tservice=x", "LIST\t21"]
#: What ends the connection.
_BROKEN = ["PASS\t1\tplain", "PASS\tx\tplain\tservice=x", "PASS", "FOO\t1", "x" * 1100]

Ask = Callable[[list[str]], list[str]]


def _ask(path: Path, lines: list[str]) -> list[str]:
    """The replies to lookups that are made one after the other; EOF is a reply."""
    with closing(socket.socket(socket.AF_UNIX)) as sock:
        sock.settimeout(15)
        sock.connect(str(path))
        stream = sock.makefile("rwb", buffering=0)
        assert stream.readline() == b"VERSION\t1\t1\n"
        assert stream.readline().startswith(b"SPID\t")
        stream.write(b"VERSION\t1\t1\n")
        found = []
        for line in lines:
            stream.write(line.encode() + b"\n")
            try:
                found.append(stream.readline().decode().rstrip("\n") or "EOF")
            except ConnectionResetError:
                found.append("EOF")
        return found


@pytest.fixture(scope="module")
def oracle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ask]:
    path = tmp_path_factory.mktemp("dovecot")
    for part in (path, *path.parents):
        if part.is_relative_to("/tmp") and part != Path("/tmp"):
            part.chmod(0o755)
    with dovecot(_SCENARIO, path) as base:
        yield lambda lines: _ask(base / "auth-userdb", lines)


@pytest.fixture
def mine(tmp_path: Path) -> Iterator[Ask]:
    with ours(_SCENARIO, tmp_path) as process:
        yield lambda lines: _ask(Path(process.path("auth-userdb")), lines)


def test_lookups_are_answered_as_by_dovecot(mine: Ask, oracle: Ask) -> None:
    assert list(zip(_LOOKUPS, mine(_LOOKUPS), strict=True)) == list(zip(_LOOKUPS, oracle(_LOOKUPS), strict=True))


@pytest.mark.parametrize("line", _BROKEN)
def test_broken_lines_end_the_connection(line: str, mine: Ask, oracle: Ask) -> None:
    assert mine([line]) == oracle([line]) == ["EOF"]


def test_others_may_not_look_up(tmp_path: Path) -> None:
    """A socket that is open to all answers to root and to its owner only."""
    tmp_path.chmod(0o755)
    with ours(_SCENARIO, tmp_path) as process:
        path = Path(process.path("auth-userdb"))
        path.chmod(0o666)
        for part in (path.parent, *path.parents):
            if part.is_relative_to("/tmp") and part != Path("/tmp"):
                part.chmod(0o755)
        out, into = os.pipe()
        pid = os.fork()
        if not pid:
            try:
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
                os.write(into, _ask(path, ["PASS\t3\tplain\tservice=x"])[0].encode())
            finally:
                os._exit(0)
        os.waitpid(pid, 0)
        os.close(into)
        with open(out, encoding="utf-8") as answer:
            assert answer.read() == "FAIL\t3"
        wait_until(lambda: "doesn't have permissions to do a PASS lookup" in process.log())
