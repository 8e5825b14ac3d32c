"""The environment, the traces that a master leaves, and the password that it asks for."""
from __future__ import annotations

import os
from pathlib import Path

import pytest

from mailproxy.errors import MailproxyError
from mailproxy.master import environment, keypassword, systemd, traces
from mailproxy.secret import Secret


def test_only_what_is_imported_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {"PATH": "/bin", "HOME": "/", "TZ": "UTC", "LD_PRELOAD": "x", "SECRET": "y",
                                        "NOTIFY_SOCKET": "/n", "LISTEN_FDS": "3"})
    environment.clean(("TZ", "NOTIFY_SOCKET", "LISTEN_FDS", "COLOUR=a=b", "EMPTY=", "=x", "GONE"))
    assert os.environ == {"PATH": "/bin", "HOME": "/", "TZ": "UTC", "COLOUR": "a=b", "EMPTY": ""}
    environment.add(("TZ", "LATER=1"))
    assert environment.imported()["LATER"] == "1"


def test_host_names() -> None:
    assert environment.hostname()
    assert environment.hostdomain().startswith(environment.hostname()[:1])


def test_last_words_are_said_once(tmp_path: Path) -> None:
    base = str(tmp_path)
    assert traces.take_lastlog(base) == ""
    traces.leave_lastlog(base, "unhandled ValueError\nat x.py:1")
    assert (tmp_path / "master-fatal.lastlog").stat().st_mode & 0o777 == 0o600
    assert traces.take_lastlog(base) == "unhandled ValueError\\nat x.py:1"
    assert traces.take_lastlog(base) == ""
    traces.leave_lastlog("/nonexistent", "nobody hears this")


def test_instances_have_a_line_each(tmp_path: Path) -> None:
    state = str(tmp_path)
    (tmp_path / "instances").write_text("1\tother\t/run/other\t/etc/other.conf\n2\told\t/run/mine\t/etc/old.conf\n")
    assert traces.remember_instance(state, "mine", "/run/mine", "/etc/a\tb.conf") == ""
    rows = [row.split("\t") for row in (tmp_path / "instances").read_text().splitlines()]
    assert [row[1:] for row in rows] == [["other", "/run/other", "/etc/other.conf"],
                                         ["mine", "/run/mine", "/etc/a\\tb.conf"]]
    assert os.listdir(tmp_path) == ["instances"]
    assert "can't be written: No such file" in traces.remember_instance("/nonexistent", "a", "b", "c")


def test_a_terminal_is_asked_without_echo(monkeypatch: pytest.MonkeyPatch) -> None:
    master, slave = os.openpty()
    monkeypatch.setattr(keypassword, "_TERMINAL", os.ttyname(slave))
    os.write(master, b"top secret\n")
    # what was typed before the question is thrown away, as with every password
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keypassword, "_line", lambda fd: Secret("typed"))
        assert keypassword.ask().reveal() == "typed"
    said = os.read(master, 1000).decode()
    assert keypassword.PROMPT in said
    os.close(master)
    os.close(slave)


@pytest.mark.parametrize(("typed", "problem"), [(b"", "no password"), (b"\n", "no password"),
                                                (b"x" * 5000 + b"\n", "too long")])
def test_no_password_is_no_start(typed: bytes, problem: str) -> None:
    read_fd, write_fd = os.pipe()
    os.write(write_fd, typed)
    os.close(write_fd)
    with pytest.raises(MailproxyError, match=problem):
        keypassword._line(read_fd)
    os.close(read_fd)


@pytest.mark.parametrize(("environ", "period"), [
    ({}, 0.0), ({"WATCHDOG_USEC": "3000000"}, 1.5), ({"WATCHDOG_USEC": "x"}, 0.0),
    ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}, 0.0),
    ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid())}, 1.5)])
def test_the_watchdog_wants_a_sign_twice_a_period(environ: dict[str, str], period: float) -> None:
    assert systemd._period(environ) == period


@pytest.mark.parametrize("environ", [
    {}, {"LISTEN_FDS": "2"}, {"LISTEN_FDS": "2", "LISTEN_PID": "1"},
    {"LISTEN_FDS": "-1", "LISTEN_PID": str(os.getpid())}, {"LISTEN_FDS": "x", "LISTEN_PID": str(os.getpid())}])
def test_sockets_of_others_are_not_ours(environ: dict[str, str]) -> None:
    assert systemd.lent_sockets(environ) == []


def test_a_manager_that_does_not_listen_harms_nobody() -> None:
    manager = systemd.Manager({"NOTIFY_SOCKET": "/nonexistent/socket"})
    manager.ready()
    manager.reloading()
    manager.stopping()
    manager.stopped()
    systemd.Manager({}).ready()
