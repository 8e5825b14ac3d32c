"""The running product as an operator sees it: who its processes are, what `ps` and the log show; as root and as an
ordinary user, with real logins through to a real Dovecot."""
from __future__ import annotations

import contextlib
import imaplib
import os
import pwd
import re
import signal
import sqlite3
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests import servers

TEXT = servers.HEAD + """
log_timestamp =
ssl = no
disable_plaintext_auth = no
auth_failure_delay = 0
default_login_user = nobody
default_internal_user = daemon
default_internal_group = daemon
passdb {{
  driver = passwd-file
  args = {data}/users
}}
passdb {{
  driver = sql
  args = {data}/sql.conf
}}
service imap-login {{
  service_count = {service_count}
  process_min_avail = 1
  inet_listener imap {{
    port = @imap@
  }}
}}
service auth-worker {{
  user = daemon
}}
{extra}
"""
Start = Callable[..., servers.Server]


@pytest.fixture
def start(mailproxy_server: Start, real_dovecot_backend: servers.Server, short_dir: Path) -> Start:
    """A proxy to the real backend; `extra` is put behind its configuration."""
    fields = f"proxy=y host=127.0.0.1 port={real_dovecot_backend.port['imap']}"
    (short_dir / "users").write_text("".join(
        f"{name}:{{PLAIN}}{servers.PASSWORD}::::::{fields}\n" for name in ("anna", "ben")))
    with contextlib.closing(sqlite3.connect(short_dir / "db")) as database:
        database.execute("CREATE TABLE users (user TEXT, password TEXT)")
    (short_dir / "sql.conf").write_text(f"driver = sqlite\nconnect = {short_dir}/db\npassword_query = "
                                        "SELECT user, password FROM users WHERE user = '%u'\n")

    def starter(extra: str = "", service_count: int = 0, user: str = "") -> servers.Server:
        text = TEXT.format(extra=extra, service_count=service_count, data=short_dir)
        return mailproxy_server(text, "imap", user=user)

    return starter


def login(server: servers.Server, user: str = "anna") -> imaplib.IMAP4:
    client = imaplib.IMAP4(servers.HOST, server.port["imap"], timeout=20)
    assert client.login(user, servers.PASSWORD)[0] == "OK"
    assert client.noop()[0] == "OK"
    return client


def refused(server: servers.Server, user: str) -> None:
    with imaplib.IMAP4(servers.HOST, server.port["imap"], timeout=20) as client, \
            pytest.raises(imaplib.IMAP4.error, match="AUTHENTICATIONFAILED"):
        client.login(user, "wrong")


def titles(server: servers.Server) -> dict[str, psutil.Process]:
    """Title -> process, of all below the master."""
    return {" ".join(process.cmdline()).rstrip(): process for process in server.children()}


def status(process: psutil.Process) -> dict[str, list[str]]:
    rows = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return {name: rest.split() for name, _, rest in (row.partition(":") for row in rows)}


def logged(server: servers.Server, pattern: str) -> re.Match[str]:
    servers.wait_until(lambda: re.search(pattern, server.log_text()) is not None, what=f"{pattern} in the log")
    found = re.search(pattern, server.log_text())
    assert found is not None
    return found


def outlives(process: psutil.Process, seconds: float) -> bool:
    try:
        process.wait(seconds)
    except psutil.TimeoutExpired:
        return True
    return False


def test_an_ordinary_user_runs_it(start: Start) -> None:
    server = start(service_count=1, user="nobody")
    clients = [login(server, user) for user in ("anna", "ben")]
    refused(server, "anna")
    nobody = pwd.getpwnam("nobody").pw_uid
    # the worker of the refused client ends by itself: look at those that stay
    staying = [process for process in server.children() if outlives(process, 0.5)]
    for process in [psutil.Process(server.process.pid), *staying]:
        assert status(process)["Uid"] == [str(nobody)] * 4
        assert os.readlink(f"/proc/{process.pid}/root") == "/"
    assert sorted(process.cmdline()[0] for process in server.children()).count("mailproxy/imap-login") >= 2
    assert (server.directory / "log").stat().st_uid == nobody
    for client in clients:
        assert client.logout()[0] == "BYE"
    logged(server, r"imap-login: Info: proxy\(ben,127\.0\.0\.1:\d+\): Disconnected by (server|client)[ :]")
    assert not re.search(r"Error|Fatal|Panic", server.log_text()), server.log_text()


def test_root_gives_its_rights_away(start: Start) -> None:
    server = start()
    refused(server, "nosuch")                               # the second passdb is asked: starts an auth worker
    client = login(server)
    found = {title: process for title, process in titles(server).items() if title.startswith("mailproxy/")}
    assert set(found) == {"mailproxy/log", "mailproxy/anvil", "mailproxy/auth", "mailproxy/auth-worker",
                          "mailproxy/imap-login"}
    run = server.directory / "run"
    users = {"log": "root", "auth": "daemon", "auth-worker": "daemon", "imap-login": "nobody"}
    for name, user in users.items():
        process, entry = found[f"mailproxy/{name}"], pwd.getpwnam(user)
        shown = status(process)
        assert shown["Uid"] == [str(entry.pw_uid)] * 4, name
        assert shown["Gid"] == [str(entry.pw_gid)] * 4, name
        assert shown["Groups"] == [str(entry.pw_gid)], name
        if user != "root":
            assert int(shown["CapEff"][0], 16) == int(shown["CapPrm"][0], 16) == 0, name
        root = os.readlink(f"/proc/{process.pid}/root")
        assert root == (str(run / "login") if name == "imap-login" else "/"), name
    assert os.readlink(f"/proc/{found['mailproxy/imap-login'].pid}/cwd") == str(run / "login")
    limits = Path(f"/proc/{found['mailproxy/imap-login'].pid}/limits").read_text()
    assert re.search(r"Max processes +1 ", limits)
    client.logout()


def test_titles_show_clients_when_asked(start: Start) -> None:
    server = start("verbose_proctitle = yes\ninstance_name = r1\nservice imap-login {\n  process_limit = 1\n}\n")
    idle = imaplib.IMAP4(servers.HOST, server.port["imap"], timeout=20)
    title = "mailproxy-r1/imap-login"
    servers.wait_until(lambda: f"{title} [127.0.0.1 pre-login]" in titles(server))
    idle.logout()
    client = login(server)
    servers.wait_until(lambda: f"{title} [127.0.0.1 proxy]" in titles(server))
    second = login(server, "ben")
    servers.wait_until(lambda: f"{title} [0 pre-login + 2 proxies]" in titles(server))
    client.logout()
    second.logout()
    servers.wait_until(lambda: title in titles(server))
    assert servers.PASSWORD not in "".join(titles(server))


def test_titles_without_being_asked_are_silent(start: Start) -> None:
    server = start("instance_name = mailproxy-2")
    client = login(server)
    assert {title for title in titles(server) if "login" in title} == {"mailproxy-2/imap-login"}
    client.logout()


def test_the_line_of_a_login_is_configurable(start: Start) -> None:
    server = start("login_log_format = [%s] %$\n"
                   "login_log_format_elements = u=%u m=%m r=%r:%{rport} k=%k s=%{session}\n")
    client = login(server)
    found = logged(server, r"imap-login: Info: \[(.*)\] "
                           r"proxy\(anna,127\.0\.0\.1:\d+\): Started proxying to <127\.0\.0\.1>")
    assert re.fullmatch(r"u=anna, m=PLAIN, r=127\.0\.0\.1:\d+, s=[\w+/]+", found[1])
    client.logout()


def test_types_go_to_their_files_and_rotation_loses_nothing(start: Start) -> None:
    server = start("info_log_path = @dir@/info.log\ndebug_log_path = @dir@/debug.log\nauth_debug = yes\n")
    client = login(server)
    info, main, debug = (server.directory / name for name in ("info.log", "log", "debug.log"))
    servers.wait_until(lambda: info.exists() and "Started proxying" in info.read_text())
    servers.wait_until(lambda: "auth: Debug: " in debug.read_text())
    assert "Info: " not in main.read_text()
    assert servers.PASSWORD not in info.read_text() + main.read_text() + debug.read_text()
    for path in (info, main, debug):
        path.rename(path.with_suffix(".1"))
    client.logout()
    logged_out = r"proxy\(anna,127\.0\.0\.1:\d+\): Disconnected by (server|client)"
    servers.wait_until(lambda: re.search(logged_out, info.with_suffix(".1").read_text()) is not None)
    server.process.send_signal(signal.SIGUSR1)
    servers.wait_until(lambda: all(path.exists() for path in (info, main, debug)))
    login(server, "ben").logout()
    servers.wait_until(lambda: "proxy(ben," in info.read_text())
    assert "proxy(ben" not in info.with_suffix(".1").read_text()


def test_what_has_no_effect_is_said_at_start(start: Start) -> None:
    server = start("login_access_sockets = tcpwrap\nservice pop3-login {\n  client_limit = 2\n}\n"
                   "service imap-urlauth-login {\n  service_count = 3\n}\n")
    servers.wait_until(lambda: "imap-urlauth-login" in server.log_text())
    lines = [line for line in server.log_text().splitlines() if "Warning" in line or "sessions" in line]
    place = f"{server.conf} line "
    assert len(lines) == 2, lines
    assert re.fullmatch(rf"master: Warning: {place}\d+: login_access_sockets is not supported yet, it has no effect",
                        lines[0])
    assert lines[1] == ("master: Warning: service(imap-urlauth-login): executable imap-urlauth-login is not supported, "
                        "the service is not started")
