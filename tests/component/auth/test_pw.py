"""Stored passwords in both directions: what `doveadm pw` makes we verify, what `mpadm pw` makes doveadm verifies."""
from __future__ import annotations

import io
import re
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout

import pytest

from mailproxy.admin import cli
from mailproxy.auth import schemes

_PASSWORDS = ("secret", "Pa55 wörd,=x")
_USER = "user@ex.com"
#: Some that have something of their own with rounds.
_ROUNDS = {"BLF-CRYPT": "4", "SHA256-CRYPT": "10", "SHA512-CRYPT": "2000", "PBKDF2": "3", "ARGON2I": "3",
           "ARGON2ID": "1", "CRYPT": "5", "SSHA": "7", "SCRAM-SHA-1": "9000"}


def doveadm(*words: str) -> tuple[int, str, str]:
    done = subprocess.run(["doveadm", "pw", *words], stdin=subprocess.DEVNULL, capture_output=True, timeout=20,
                          check=False, text=True)
    return done.returncode, done.stdout.strip(), done.stderr.strip()


def mpadm(*words: str) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = cli.main(["pw", *words])
    return code, out.getvalue().strip(), err.getvalue().strip()


def test_the_same_schemes() -> None:
    assert sorted(mpadm("-l")[1].split()) == sorted(doveadm("-l")[1].split())


@pytest.mark.parametrize("scheme", schemes.names())
def test_both_directions(scheme: str) -> None:
    slow = scheme.startswith("ARGON2")
    for password in _PASSWORDS[:1] if slow else _PASSWORDS:
        for suffix in ("", ".B64") if password == "secret" and not slow else ("",):
            options = ("-s", scheme + suffix, "-p", password, "-u", _USER)
            code, theirs, _ = doveadm(*options)
            assert code == 0
            if scheme == "PLAIN-TRUNC":             # they make what they cannot verify
                with pytest.raises(schemes.SchemeError):
                    schemes.verify(theirs, password, _USER)
            else:
                assert schemes.verify(theirs, password, _USER), theirs
                assert not schemes.verify(theirs, "x" + password, _USER)
            code, mine, _ = mpadm(*options, "-V")
            assert (code, mine.endswith(" (verified)")) == (0, True)
            mine = mine.removesuffix(" (verified)")
            assert mine.partition("}")[0] == theirs.partition("}")[0]
            assert doveadm("-t", mine, "-p", password, "-u", _USER) == (0, f"{mine} (verified)", ""), mine


def _form(stored: str) -> str:
    """All but salts and sums."""
    return re.sub(r"[A-Za-z0-9./+]{16,}=*", "?", stored).rpartition("$")[0]


@pytest.mark.parametrize("scheme", _ROUNDS)
def test_rounds(scheme: str) -> None:
    options = ("-s", scheme, "-p", "secret", "-r", _ROUNDS[scheme])
    theirs, mine = doveadm(*options)[1], mpadm(*options)[1]
    assert schemes.verify(theirs, "secret")
    assert doveadm("-t", mine, "-p", "secret")[0] == 0
    assert _form(mine) == _form(theirs)


@pytest.mark.parametrize("options", [
    ("-s", "NOSUCH", "-p", "x"), ("-s", "digest-md5", "-p", "x"), ("-t", "abc", "-p", "x"),
    ("-t", "{NO}abc", "-p", "x"),
    ("-t", "{SSHA}x!", "-p", "x"), ("-t", "{SHA1.hex}zz", "-p", "x"), ("-t", "{PLAIN}x", "-p", "y"),
    ("-t", "{PLAIN}x", "-p", "x"), ("-t", "{PLAIN-TRUNC}3-abc", "-p", "abcdef"),
    ("-t", "$1$BhyZy3y0$0u8.eh7HOmDpDsg64g5Dv.", "-p", "secret"), ("-p", "x", "extra"), ("-z",),
])
def test_messages_and_exit_codes(options: tuple[str, ...]) -> None:
    theirs, mine = doveadm(*options), mpadm(*options)
    assert mine[:2] == theirs[:2]
    if theirs[0] == 75:
        assert mine[2] == theirs[2]


def test_no_terminal_means_no_password() -> None:
    """doveadm makes the hash of an empty one."""
    done = subprocess.run(["setsid", "-w", sys.executable, "-c", "from mailproxy.admin.cli import main; main(['pw'])"],
                          stdin=subprocess.DEVNULL, capture_output=True, timeout=20, check=False, text=True)
    assert (done.stdout, "no password given" in done.stderr) == ("", True)
