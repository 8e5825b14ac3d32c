"""Services that are programs of their own: they start on demand, as whom and with what Dovecot's master gives them."""
from __future__ import annotations

import contextlib
import json
import pwd
import re
import shutil
import socket
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests import servers

SMALL = Path(__file__).parents[2] / "fakes" / "small_server.py"
Start = Callable[..., servers.Server]
TEXT = servers.HEAD + """
log_timestamp =
ssl = no
default_login_user = nobody
default_internal_user = daemon
default_internal_group = daemon
passdb {
  driver = static
  args = password=x
}
service imap-login {
  inet_listener imap {
    port = @imap@
  }
}
"""
MINE = """
import_environment = TZ GREETING COLOUR=green blue
service mine {
  executable = @dir@/small one two
  user = nobody
  extra_groups = mail
  privileged_group = adm
  client_limit = 3
  service_count = 2
  vsz_limit = 128 M
  SETTINGS
  unix_listener mine {
    mode = 0666
  }
  fifo_listener mine-fifo {
    mode = 0622
    user = daemon
  }
  inet_listener mine {
    port = @mine@
    haproxy = yes
  }
}
"""


@pytest.fixture
def program(tmp_path: Path, short_dir: Path) -> str:
    """Where everybody may execute it."""
    path = short_dir / "small"
    shutil.copy(SMALL, path)
    path.chmod(0o755)
    return str(path)


def ask(address: Any, words: bytes = b"") -> bytes:
    with socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET) as sock:
        sock.settimeout(20)
        sock.connect(address)
        sock.sendall(words)
        received = b""
        with contextlib.suppress(ConnectionResetError):         # it has not read all that we said
            while data := sock.recv(65536):
                received += data
        return received


def logged(server: servers.Server, pattern: str) -> None:
    servers.wait_until(lambda: re.search(pattern, server.log_text(), re.MULTILINE) is not None, what=pattern)


def mine(program: str, settings: str = "") -> str:
    return TEXT + MINE.replace("@dir@/small", program).replace("SETTINGS", settings)


def test_a_program_gets_what_dovecot_would_give(mailproxy_server: Start, program: str,
                                                monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GREETING", "hello")
    monkeypatch.setenv("SECRET_OF_THE_ADMIN", "x")
    monkeypatch.setenv("NOTIFY_SOCKET", "/nonexistent")
    server = mailproxy_server(mine(program), "imap")
    run = server.directory / "run"
    assert stat.S_IMODE((run / "mine-fifo").stat().st_mode) == 0o622
    assert stat.S_ISFIFO((run / "mine-fifo").stat().st_mode)
    assert (run / "mine-fifo").stat().st_uid == pwd.getpwnam("daemon").pw_uid
    assert not [child for child in server.children() if "small" in " ".join(child.cmdline())]
    first = json.loads(ask(str(run / "mine")))
    second = json.loads(ask((servers.HOST, server.port["mine"])))
    assert first["pid"] == second["pid"]                        # service_count = 2
    nobody = pwd.getpwnam("nobody")
    assert first["argv"] == ["one", "two"]
    assert first["uid"] == [nobody.pw_uid] * 3                  # it never heard of RESTRICT_SETUID
    assert first["gid"] == [nobody.pw_gid] * 3
    assert sorted(first["groups"]) == sorted({nobody.pw_gid, 8})
    assert first["cwd"] == str(run)
    assert re.search(r"Max address space +134217728 ", first["limits"])
    environ = first["environ"]
    assert {name: environ.get(name) for name in (
        "DOVECOT_CHILD_PROCESS", "SERVICE_NAME", "CLIENT_LIMIT", "SERVICE_COUNT", "PROCESS_LIMIT", "PROCESS_MIN_AVAIL",
        "IDLE_KILL", "SOCKET_COUNT", "SOCKET0_SETTINGS", "SOCKET1_SETTINGS", "SOCKET2_SETTINGS", "RESTRICT_SETUID",
        "RESTRICT_SETGID_PRIV", "RESTRICT_SETEXTRAGROUPS", "LOG_SERVICE", "GREETING", "COLOUR", "CONFIG_FILE")} == {
        "DOVECOT_CHILD_PROCESS": "1", "SERVICE_NAME": "mine", "CLIENT_LIMIT": "2", "SERVICE_COUNT": "2",
        "PROCESS_LIMIT": "100", "PROCESS_MIN_AVAIL": "0", "IDLE_KILL": "60", "SOCKET_COUNT": "3",
        "SOCKET0_SETTINGS": "mine", "SOCKET1_SETTINGS": "mine-fifo", "SOCKET2_SETTINGS": "mine\thaproxy",
        "RESTRICT_SETUID": str(nobody.pw_uid), "RESTRICT_SETGID_PRIV": "4", "RESTRICT_SETEXTRAGROUPS": "8",
        "LOG_SERVICE": "1", "GREETING": "hello", "COLOUR": "green", "CONFIG_FILE": str(server.conf)}
    assert not environ.keys() & {"SECRET_OF_THE_ADMIN", "NOTIFY_SOCKET", "LISTEN_FDS"}
    fds = {int(number): name for number, name in first["fds"].items()}
    assert fds[0] == fds[1] == fds[3] == "/dev/null"
    assert all(fds[number].startswith("pipe:") for number in (2, 5, 6))
    assert fds[8] == str(run / "mine-fifo")
    assert fds[7].startswith("socket:")
    assert fds[9].startswith("socket:")


def test_a_fifo_wakes_its_service(mailproxy_server: Start, program: str) -> None:
    server = mailproxy_server(mine(program), "imap")
    with open(server.directory / "run" / "mine-fifo", "w", encoding="ascii") as fifo:
        fifo.write("wake up\n")
    logged(server, r"^mine: Info: the FIFO says wake up$")
    with open(server.directory / "run" / "mine-fifo", "w", encoding="ascii") as fifo:
        fifo.write("once more\n")
    logged(server, r"^mine: Info: the FIFO says once more$")


def test_a_reload_replaces_the_program_and_keeps_its_listeners(mailproxy_server: Start, program: str) -> None:
    server = mailproxy_server(mine(program, "process_min_avail = 1"), "imap")
    run = server.directory / "run"
    old = json.loads(ask(str(run / "mine")))["pid"]
    server.rewrite(mine(program, "process_min_avail = 1").replace("one two", "three").replace("mine-fifo", "new-fifo"))
    server.reload()
    logged(server, "Configuration reloaded")
    servers.wait_until(lambda: not psutil.pid_exists(old))
    assert json.loads(ask(str(run / "mine")))["argv"] == ["three"]
    assert (run / "new-fifo").exists()
    servers.wait_until(lambda: not (run / "mine-fifo").exists())


def running(server: servers.Server, program: Path) -> list[psutil.Process]:
    found = []
    for child in server.children():
        with contextlib.suppress(psutil.Error):         # it has just ended
            if str(program) in child.cmdline():
                found.append(child)
    return found


def test_a_program_that_knows_no_dead_pipe_is_told_by_signal(mailproxy_server: Start, short_dir: Path) -> None:
    deaf = short_dir / "deaf"
    deaf.write_text("#!/usr/bin/python3\nimport os, struct, time\nos.write(5, struct.pack('=iII', os.getpid(), "
                    "int(os.environ['GENERATION']), 5))\ntime.sleep(100)\n")
    deaf.chmod(0o755)
    server = mailproxy_server(TEXT + f"service deaf {{\n  type = startup\n  executable = {deaf}\n  user = nobody\n}}\n",
                              "imap")
    servers.wait_until(lambda: bool(running(server, deaf)))
    old = running(server, deaf)[0]
    server.reload()
    logged(server, "Processes aren't dying after reload, sent SIGTERM to 1 processes")
    old.wait(5)
    servers.wait_until(lambda: bool(running(server, deaf)))
    assert "Fatal" not in server.log_text()


def test_dovecots_own_script_service(mailproxy_server: Start, short_dir: Path) -> None:
    script = short_dir / "hello.sh"
    script.write_text("#!/bin/sh\necho \"said $* by $(id -un)\"\n")
    script.chmod(0o755)
    health = short_dir / "health.sh"            # the original's leaves a sleep behind
    health.write_text("#!/bin/sh\nread -r line; echo PONG\n")
    health.chmod(0o755)
    server = mailproxy_server(TEXT + f"""
service hello {{
  executable = script {script} this
  user = daemon
  unix_listener hello {{
  }}
}}
service broken {{
  executable = script /nonexistent
  unix_listener broken {{
  }}
}}
service health-check {{
  executable = script -p {health}
  inet_listener health-check {{
    port = @health@
  }}
}}
""", "imap")
    run = server.directory / "run"
    assert ask(str(run / "hello"), b"VERSION\tscript\t4\t0\nnoreply\n\n") == b"said this by daemon\n"
    assert ask(str(run / "broken"), b"VERSION\tscript\t4\t0\n\n\n") == b"-\n"
    logged(server, r"^broken: Fatal: execvp\(/nonexistent\) failed: No such file or directory$")
    with socket.create_connection((servers.HOST, server.port["health"]), 20) as sock:
        sock.sendall(b"PING\r\n")
        assert sock.recv(100) == b"PONG\n"
    assert "malformed" not in server.log_text()


def test_what_cannot_run_is_said(mailproxy_server: Start, program: str) -> None:
    server = mailproxy_server(TEXT + "service doveadm {\n  client_limit = 2\n}\n"
                              "service gone {\n  executable = nosuch x\n}\n", "imap")
    log = server.log_text()
    assert "service(doveadm): executable doveadm-server is not supported, the service is not started\n" in log
    assert re.search(r"service\(gone\): access\(.*/nosuch\) failed: No such file or directory, "
                     "the service is not started", log)
    for settings, reason in (
            (mine("/nonexistent/program"),
             "Config reload failed: service(mine) access(/nonexistent/program) failed: No such file or directory"),
            (mine("/etc/passwd"), "Config reload failed: service(mine) access(/etc/passwd) failed: Permission denied"),
            (mine(program, "chroot = empty"), "Config reload failed: service(mine): chroot can't be used with"),
            (mine(program).replace("  user = nobody", "  user = nosuch"),
             "User doesn't exist: nosuch (See service mine { user } setting)"),
            (mine(program).replace("    user = daemon", "    user = nosuch"),
             "User doesn't exist: nosuch (See service mine { fifo_listener mine-fifo { user } } setting)")):
        server.rewrite(settings)
        server.reload()
        servers.wait_until(lambda reason=reason: reason in server.log_text(), what=reason)
    assert "Configuration reloaded" not in server.log_text()


def test_a_program_of_our_roles_name_elsewhere_is_itself(mailproxy_server: Start, program: str,
                                                         short_dir: Path) -> None:
    shutil.copy(program, short_dir / "auth")
    server = mailproxy_server(mine(str(short_dir / "auth")), "imap")
    assert json.loads(ask(str(server.directory / "run" / "mine")))["argv"] == ["one", "two"]


def test_a_program_that_ends_without_a_word_is_not_started_over_and_over(mailproxy_server: Start,
                                                                         short_dir: Path) -> None:
    silent = short_dir / "silent"
    silent.write_text("#!/bin/sh\nexit 0\n")
    silent.chmod(0o755)
    server = mailproxy_server(mine(str(silent)), "imap")
    assert ask(str(server.directory / "run" / "mine")) == b""
    logged(server, r"^mine: Error: master: service\(mine\): child \d+ exited without having reported to the master$")
    logged(server, r"^mine: Error: master: service\(mine\): command startup failed, throttling for 2\.000 secs$")
