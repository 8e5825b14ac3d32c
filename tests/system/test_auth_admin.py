"""doveadm asks our auth service and Dovecot's, mpadm asks ours: the same output and exit codes."""
from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import servers

_CONF = """
base_dir = @dir@/run
state_dir = @dir@/state
protocols =
listen = 127.0.0.1
log_path = @dir@/log
ssl = no
auth_failure_delay = 0
auth_mechanisms = plain login
auth_master_user_separator = *
passdb {
  driver = passwd-file
  args = @dir@/masters
  master = yes
  pass = yes
}
passdb {
  driver = passwd-file
  args = @dir@/users
}
userdb {
  driver = passwd-file
  args = @dir@/users
}
"""
_USERS = """u1:{PLAIN}pw1:1000:1000::/home/u1::
u2:{PLAIN}pw2:1002:1003::/home/u2::userdb_mail=maildir:~/M userdb_quota_rule=*:storage=1G proxy=y host=127.0.0.9
nou:{PLAIN}x
"""
_BOTH = ["auth test u1 pw1", "auth test u1 bad", "auth test nobody x", "auth test -M admin u1 mpw",
         "auth test -x rip=10.0.0.1 -x service=imap u1 pw1", "auth login u1 pw1", "auth login u1 bad",
         "auth login -M admin u1 mpw", "auth lookup u2", "auth lookup nosuch", "auth lookup u2 nosuch u1",
         "auth lookup -f host u2", "auth lookup -f nofield u2", "user u2", "user -u u2", "user -f home u2",
         "user -f nofield u2", "user -e '%{user} %{home}' u2", "user *", "user u?", "user zz*", "auth cache flush",
         "auth cache flush u1 u2"]
#: What mpadm says in its own words.
_DOVEADM_ONLY = ["auth login u2 pw2", "auth login nou x", "user nosuch", "user u2 nosuch"]

Admin = Callable[[str], tuple[int, str]]


def _words(command: str) -> list[str]:
    quoted = command.split("'")
    return [word for at, part in enumerate(quoted) for word in ([part] if at % 2 else part.split())]


class _Place:
    def __init__(self, start: Callable[[str, Path], servers.Server], directory: Path) -> None:
        directory.chmod(0o755)
        (directory / "users").write_text(_USERS)
        (directory / "masters").write_text("admin:{PLAIN}mpw\n")
        self.server = start(_CONF, directory)
        servers.wait_until((directory / "run" / "auth-master").exists, servers.START_TIMEOUT, "auth's sockets")

    def doveadm(self, command: str) -> tuple[int, str]:
        return self._run(["doveadm", "-c", str(self.server.conf), *_words(command)])

    def mpadm(self, command: str) -> tuple[int, str]:
        return self._run([sys.executable, str(servers.PROJECT / "master.py"), "-c", str(self.server.conf),
                          *_words(command)])

    @staticmethod
    def _run(argv: list[str]) -> tuple[int, str]:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False, stdin=subprocess.DEVNULL)
        assert "Traceback" not in done.stderr
        return done.returncode, done.stdout


@pytest.fixture(scope="module")
def places() -> Iterator[tuple[_Place, _Place]]:
    """(Dovecot, ours)."""
    with tempfile.TemporaryDirectory(prefix="mp-adm-") as one, tempfile.TemporaryDirectory(prefix="mp-adm-") as two:
        both = _Place(servers.dovecot, Path(one)), _Place(servers.mailproxy, Path(two))
        try:
            yield both
        finally:
            problems = [problem for place in both for problem in place.server.stop()]
        assert not problems, "\n".join(problems)


def test_doveadm_cannot_tell_them_apart(places: tuple[_Place, _Place]) -> None:
    theirs, ours = places
    for command in (*_BOTH, *_DOVEADM_ONLY):
        assert ours.doveadm(command) == theirs.doveadm(command), command


def test_mpadm_says_what_doveadm_says(places: tuple[_Place, _Place]) -> None:
    _, ours = places
    for command in _BOTH:
        code, text = ours.doveadm(command)
        assert ours.mpadm(command) == (code, text.replace("field\tvalue\n\n", "")), command


def test_what_mpadm_says_in_its_own_words(places: tuple[_Place, _Place]) -> None:
    _, ours = places
    code, text = ours.mpadm("auth login u2 pw2")
    assert (code, "pass=(hidden)" in text, "pw2" in text) == (0, True, False)
    assert ours.mpadm("auth login nou x")[0] == 77
    assert ours.mpadm("user nosuch") == (67, "userdb lookup: user nosuch doesn't exist\n")
    assert ours.mpadm("user u1 nosuch")[0] == 67
    assert ours.mpadm("auth cache flush -a /nonexistent")[0] == 75
    assert ours.mpadm("user -f home -e x u1")[0] == 64
    assert ours.mpadm("auth lookup")[0] == 64
    assert ours.mpadm("auth lookup -z x y")[0] == 64
    assert ours.mpadm(f"user -a {ours.server.directory}/run/auth-client u1")[0] == 75
