"""Configurations that nobody should write, and files that are none: every command says what is wrong, in words, in
bounded time and memory, without control characters and without secrets.
"""
from __future__ import annotations

import multiprocessing
import os
import random
import resource
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from mailproxy import cli
from mailproxy.check import command
from tests.component.config.snippets import BAD, GOOD, WHOLE
from tests.fuzz.test_config import mutated

#: Seconds of a command, and megabytes that it may have beyond what Python and the modules take.
PATIENCE = 20
MEMORY = 500 << 20
SECRET = "hunter2hunter2"
NOBODY = 65534
#: Python is loaded once for all commands: each is a fork of that process.
_fork = multiprocessing.get_context("forkserver")
_fork.set_forkserver_preload([__name__, "mailproxy.master.start"])


class Said(NamedTuple):
    code: int | None
    out: str
    err: str


def _in_child(action: Callable[..., int], arguments: list[object], place: str, user: int) -> None:
    signal.alarm(PATIENCE)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * os.sysconf("SC_PAGESIZE") + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    for number, name in ((1, "out"), (2, "err")):
        fd = os.open(f"{place}/{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
        os.dup2(fd, number)
    if user:
        os.setgroups([])
        os.setgid(user)
        os.setuid(user)
    code = 99
    try:
        code = action(*arguments)
    except SystemExit as leaving:
        code = int(leaving.code or 0)
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def run(place: Path, *arguments: str, user: int = 0) -> Said:
    """`mailproxy ARGUMENTS -c place/conf` in a process of its own."""
    return call(place, cli.main, [[*arguments, "-c", str(place / "conf")]], user)


def call(place: Path, action: Callable[..., int], arguments: list[object], user: int = 0) -> Said:
    child = _fork.Process(target=_in_child, args=(action, arguments, str(place), user))
    child.start()
    child.join(PATIENCE + 5)
    if child.is_alive():
        child.kill()
        child.join()
    found = Said(child.exitcode, (place / "out").read_text(errors="surrogateescape"),
                 (place / "err").read_text(errors="surrogateescape"))
    child.close()
    return found


def sane(said: Said) -> None:
    assert said.code in (0, 1, 89), said
    for text in (said.out, said.err):
        assert "Traceback" not in text, text[-2000:]
        assert SECRET not in text, text[-2000:]
    assert len(said.err) < 1 << 20
    assert not set(said.err) & set(map(chr, (*range(9), *range(11, 32), 127, 0x9b, 0x2028))), said.err[-2000:]


@pytest.fixture
def place(short_dir: Path) -> Iterator[Path]:
    """With a FIFO, a terminal, a directory, a socket and a file for root only."""
    fds = os.openpty()
    (short_dir / "tty").symlink_to(os.ttyname(fds[1]))
    os.mkfifo(short_dir / "fifo")
    (short_dir / "directory").mkdir()
    (short_dir / "private").write_text("x\n")
    (short_dir / "private").chmod(0o600)
    (short_dir / "out").write_text("")
    (short_dir / "err").write_text("")
    for name in ("out", "err"):
        (short_dir / name).chmod(0o666)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(short_dir / "socket"))
        yield short_dir
    for fd in fds:
        os.close(fd)


STATIC = b"passdb {\n driver = static\n args = password=x proxy=y host=1.2.3.4\n}\n"
#: name -> (text, what `check` says).
TEXTS: dict[str, tuple[bytes, str]] = {
    "100 MB": (b"# x\n" * 25_000_000, "File is larger than"),
    "a million empty lines": (b"\n" * 1_000_000, "No passdbs"),
    "included terminal": (b"!include tty\n", "Resource temporarily unavailable"),
    "zeros": (b"!include /dev/zero\n", "File is larger than"),
    "included FIFO": (b"!include fifo\n", "Is a FIFO"),
    "included socket": (b"!include socket\n", "No such device"),
    "included directory": (b"!include directory\n", "Is a directory"),
    "certificate of zeros": (b"ssl_cert = </dev/zero\nssl_key = </dev/zero\n", "File is larger than"),
    "certificate from a terminal": (b"ssl_cert = <tty\nssl_key = <tty\n", "temporarily unavailable"),
    "certificate FIFO": (b"ssl_cert = <fifo\nssl_key = <fifo\n", "Is a FIFO"),
    "certificate directory": (b"ssl_cert = <directory\nssl_key = <directory\n", "Is a directory"),
    "passwd-file FIFO": (b"passdb {\n driver = passwd-file\n args = @/fifo\n}\n", "Is a FIFO"),
    "passwd-file of zeros": (b"passdb {\n driver = passwd-file\n args = /dev/zero\n}\n", "conf: "),
    "passwd-file from a terminal": (b"passdb {\n driver = passwd-file\n args = @/tty\n}\n",
                                    "/tty can't be read by service auth"),
    "sql FIFO": (b"passdb {\n driver = sql\n args = @/fifo\n}\n", "Is a FIFO"),
    "sql of zeros": (b"passdb {\n driver = sql\n args = /dev/zero\n}\n", "File is larger than"),
    "terminal": (b"\x1b[31mfoo\x07 = bar\nssl = \x1b]0;x\x07\nservice \x1b[2J {\n}\npassdb {\n driver = \x1b[1m\n}\n"
                 b"!include /\x1b[3m\nlisten = \x1b[1m\nlocal \x9b {\n}\n$\xe2\x80\xa8 = x\n", "\\x1b[31mfoo\\x07"),
    "nesting": (b"service a {\n" * 100_000, "nested too deeply"),
    "variables that double": (
        b"login_greeting = aaaaaaaaaa\n" + b"login_greeting = $login_greeting $login_greeting\n" * 40, "too long"),
    "braces that double": (b"!include_try x" + b"{a,b}" * 40 + b"\n", "No passdbs"),
    "everything below /proc": (b"!include_try /proc/*/*/*/*\n", "Too many files match"),
    "thousands of server names": (b"".join(b"local_name a%d.test {\n login_greeting = x\n}\n" % number
                                           for number in range(3000)), "No passdbs"),
    "thousands of passdbs": (STATIC * 3000, "0 errors"),
    "thousands of services": (b"".join(b"service a%d {\n executable = /bin/true\n}\n" % number
                                       for number in range(3000)), "No passdbs"),
    "a program": (Path("/bin/true").read_bytes(), "NUL character"),
    "random": (random.Random(1).randbytes(300_000), "NUL character"),
    "itself": (b"!include *\n" * 3, "Recursive include file"),
    "long line": (b"login_greeting = " + b"x" * 5_000_000 + b"\n", "Line is too long"),
    "long name": (b"x" * 1_000_000 + b" = y\n", "xxx..."),
    "endless line": (b"a \\\n" * 500_000, "Line is too long"),
    "quotes": (b"login_greeting = " + b'"\\' * 400_000 + b"\n", "continued"),
    "secrets": (f"""
ssl_key = {SECRET} x y
ssl_key_password = {SECRET}
ssl_cert = foo
auth_policy_hash_nonce = {SECRET}
doveadm_password = {SECRET}
imapc_password = {SECRET}
passdb {{
  driver = static
  args = password={SECRET} proxy=y pass={SECRET} host=1.2.3.4
  default_fields = pass={SECRET}
  override_fields = pass={SECRET} ssl=nonsense
}}
passdb {{
  driver = nonsense
  args = password={SECRET}
}}
""".encode(), "Unknown passdb driver"),
}


@pytest.mark.parametrize("name", TEXTS)
def test_any_text(place: Path, name: str) -> None:
    text, wanted = TEXTS[name]
    (place / "conf").write_bytes(text.replace(b"@", str(place).encode()))
    for arguments in (["check"], ["-n"], ["check", "--json"]) if len(text) < 1 << 20 else (["check"],):
        said = run(place, *arguments)
        sane(said)
        if arguments == ["check"]:
            assert wanted in said.out, said.out[-2000:]
            assert not set(said.out) & {"\x1b", "\x07", "\x9b"}


def test_a_start_speaks_as_plainly(place: Path) -> None:
    (place / "conf").write_bytes(TEXTS["terminal"][0])
    said = run(place, "-F")
    sane(said)
    assert said.code == 89
    assert "Unknown setting: \\x1b[31mfoo\\x07" in said.err


@pytest.mark.parametrize(("text", "reason"), [
    ("!include private\n", "Permission denied"), ("ssl_cert = <private\nssl_key = <private\n", "Permission denied"),
    ("passdb {\n driver = passwd-file\n args = @/private\n}\n", "Permission denied"),
    ("passdb {\n driver = sql\n args = @/private\n}\n", "Permission denied")])
def test_files_that_an_ordinary_user_cannot_read(place: Path, text: str, reason: str) -> None:
    (place / "conf").write_text(text.replace("@", str(place)))
    said = run(place, "check", user=NOBODY)
    sane(said)
    assert said.code == 89
    assert reason in said.out


@pytest.mark.parametrize("kind", ["missing", "directory", "fifo", "socket", "private"])
def test_a_main_file_that_is_none(place: Path, kind: str) -> None:
    for argument in ("check", "-n", "-a", "-F"):
        said = call(place, cli.main, [[argument, "-c", str(place / kind)]], NOBODY)
        sane(said)
        assert said.code == 89
        assert "failed: " in said.out + said.err


def _check_slips(directory: str, seed: int, count: int) -> int:
    """Files with slips of an editor, examined."""
    chance = random.Random(seed)
    seeds = [text.encode() for text in (*GOOD.values(), *BAD.values(), *WHOLE.values())]
    kinds = ["drop", "double", "swap", "cut", "flip", "insert", "join", "splice"]
    path = Path(directory, "conf")
    for _ in range(count):
        mutations = [(chance.choice(kinds), chance.randrange(10_000), chance.randrange(10_000), chance.randbytes(3))
                     for _ in range(chance.randrange(7))]
        text = mutated(chance.choice(seeds), chance.choice(seeds), mutations)
        path.write_bytes(text)
        try:
            findings = command.look(str(path))
            findings.text(str(path))
            findings.json(str(path))
        except Exception:
            sys.stderr.write(f"{text!r}\n")
            raise
    return 0


def test_slips_are_reported_in_words(place: Path) -> None:
    said = call(place, _check_slips, [str(place), 7, 60])
    assert said.code == 0, said.err[-3000:]
