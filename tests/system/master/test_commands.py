"""The commands `mailproxy` and `mpadm`, with the real configuration language and the real roles."""
from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[3]
TEXT = """
base_dir = {dir}/run
state_dir = {dir}/state
protocols = imap
log_path = {dir}/log
ssl = no
passdb {{
  driver = static
  args = nopassword=y proxy=y host=127.0.0.1 port=1 pass=hidden
}}
service imap-login {{
  inet_listener imap {{
    address = 127.0.0.1
    port = {port}
  }}
  inet_listener imaps {{
    port = 0
  }}
}}
"""


class Commands:
    def __init__(self, directory: Path, port: int) -> None:
        self.directory = directory
        self.conf = directory / "mailproxy.conf"
        self.conf.write_text(TEXT.format(dir=directory, port=port))

    def mailproxy(self, *words: str) -> tuple[int, str, str]:
        return self._run([sys.executable, "master.py", "-c", str(self.conf), *words])

    def mpadm(self, *words: str) -> tuple[int, str, str]:
        program = "import sys; from mailproxy.admin.cli import main; sys.exit(main())"
        return self._run([sys.executable, "-c", program, "-c", str(self.conf), *words])

    @staticmethod
    def _run(command: list[str]) -> tuple[int, str, str]:
        done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=20, check=False,
                              stdin=subprocess.DEVNULL)
        return done.returncode, done.stdout, done.stderr


@pytest.fixture
def commands(short_dir: Path, free_port: Callable[[], int]) -> Commands:
    return Commands(short_dir, free_port())


@pytest.fixture
def running(commands: Commands) -> Iterator[Commands]:
    done = subprocess.run([sys.executable, "master.py", "-c", str(commands.conf)], cwd=PROJECT, timeout=20,
                          check=False, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, (commands.directory / "log").read_text()
    yield commands
    commands.mpadm("stop")


def test_without_a_daemon(commands: Commands) -> None:
    pid_file = commands.directory / "run" / "master.pid"
    for words in (["stop"], ["reload"], ["log", "reopen"], ["process", "status"]):
        assert commands.mpadm(*words) == (75, "", f"Fatal: mailproxy is not running (read from {pid_file})\n")
    assert commands.mailproxy("check") == (0, f"{commands.conf}: 0 errors, 0 warnings, 0 obsolete, 0 ignored\n", "")
    code, text, _ = commands.mailproxy("-n")
    assert code == 0
    assert f"base_dir = {commands.directory}/run\n" in text
    assert commands.mailproxy("--bogus")[0] == 89
    assert commands.mailproxy("--version") == (0, "0.1.0\n", "")
    assert commands.mailproxy("--help")[1].startswith("usage: mailproxy")
    assert commands.mpadm("nonsense")[0] == 64
    assert commands.mpadm("stop", "now") == (64, "", "usage: mpadm stop\n")
    assert commands.mpadm("-f", "bogus", "service", "status") == (75, "", "Fatal: Unknown print formatter: bogus\n")
    assert commands.mpadm("pw", "-s", "PLAIN", "-p", "x") == (0, "{PLAIN}x\n", "")
    assert commands.mpadm("pw", "-t", "{PLAIN}x", "-p", "x") == (0, "{PLAIN}x (verified)\n", "")
    assert commands.mpadm("pw", "-t", "{PLAIN}x", "-p", "y") == (
        75, "", "Fatal: reverse password verification check failed: Password mismatch\n")
    log = commands.directory / "log"
    assert commands.mpadm("log", "find")[1] == "".join(
        f"{name}: {log}\n" for name in ("Debug", "Info", "Warning", "Error", "Fatal"))


def test_a_broken_configuration_starts_nothing(commands: Commands) -> None:
    commands.conf.write_text("foo = 1\nbar = 2\n")
    expected = "".join(f"Fatal: Error in configuration file {commands.conf} line {line}: Unknown setting: {name}\n"
                       for line, name in ((1, "foo"), (2, "bar")))
    for words in ([], ["-F"], ["-n"]):
        assert commands.mailproxy(*words) == (89, "", expected)
    code, text, _ = commands.mailproxy("check")
    assert code == 89
    assert f"  {commands.conf}:1: Unknown setting: foo\n  {commands.conf}:2: Unknown setting: bar\n" in text


def test_a_running_daemon(running: Commands) -> None:
    code, text, _ = running.mpadm("-f", "json", "service", "status", "imap-login")
    row, = json.loads(text)
    assert code == 0
    assert (row["name"], row["process_limit"], row["client_limit"], row["doveadm_stop"]) == (
        "imap-login", "100", "1", "n")
    code, text, _ = running.mpadm("service", "status", "imap-login")
    assert text.startswith("name: imap-login\nprocess_count: 0\n")
    assert running.mpadm("service", "status", "nosuch") == (68, "", "Error: Unknown service: nosuch\n")
    assert running.mpadm("service", "stop", "nosuch") == (68, "", "Error: Unknown service: nosuch\n")
    code, text, _ = running.mpadm("auth", "test", "u1", "p")
    assert code == 0
    assert text.startswith("passdb: u1 auth succeeded\nextra fields:\n  user=u1\n")
    assert "pass=hidden" not in text
    assert running.mpadm("auth", "cache", "flush") == (0, "0 cache entries flushed\n", "")
    code, text, _ = running.mpadm("-f", "tab", "process", "status")
    assert text.split("\n")[0].split("\t")[:3] == ["name", "pid", "available_count"]
    assert {line.split("\t")[0] for line in text.splitlines()[1:]} >= {"log", "auth"}


def test_reload_checks_first(running: Commands) -> None:
    good = running.conf.read_text()
    running.conf.write_text("base_dir = /nonexistent\nfoo = 1\n")
    code, _, errors = running.mpadm("reload")
    assert (code, errors.count("Unknown setting: foo")) == (89, 1)
    running.conf.write_text(good)
    log = running.directory / "log"
    assert "SIGHUP" not in log.read_text()
    assert running.mpadm("reload") == (0, "", "")
    end = time.monotonic() + 10
    while "Configuration reloaded" not in log.read_text():
        assert time.monotonic() < end
        time.sleep(0.05)
    assert running.mailproxy("stop") == (0, "", "")
    assert running.mpadm("stop")[0] == 75
