"""HUP over and over while clients log in: nobody notices, and nothing is left behind."""
from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

import psutil

from tests import servers
from tests.system.services import storm

Start = Callable[..., servers.Server]


def test_reloads_under_load_harm_nobody(mailproxy_server: Start, real_dovecot_backend: servers.Server) -> None:
    server = mailproxy_server(storm.text(real_dovecot_backend.port["imap"]), "imap")
    figures = storm.run(server, seconds=4.0)
    assert figures.failures == []
    assert figures.lost == []
    assert figures.logins > 20
    assert figures.reloads >= 15
    assert figures.processes_after <= figures.processes_before
    assert figures.fds_after <= figures.fds_before
    assert figures.generations_seen == figures.reloads, server.log_text()[-3000:]


def test_reloads_with_a_broken_configuration_change_nothing(mailproxy_server: Start,
                                                           real_dovecot_backend: servers.Server) -> None:
    text = storm.text(real_dovecot_backend.port["imap"])
    server = mailproxy_server(text, "imap")
    before = {child.pid for child in server.children()}
    fds = len(os.listdir(f"/proc/{server.process.pid}/fd"))
    stop = threading.Event()
    failures: list[str] = []
    logins: list[int] = []
    worker = threading.Thread(target=storm.log_in_until, args=(server.port["imap"], stop, failures, logins))
    worker.start()
    for number, broken in enumerate(("nonsense", text.replace("imap-login {", "imap-login {\n  foo = 1"),
                                     text + "ssl = yes\nssl_cert = </nonexistent\n", "!include /nonexistent\n")):
        server.rewrite(broken)
        server.reload()
        servers.wait_until(lambda number=number: server.log_text().count("SIGHUP received") == number + 1)
        time.sleep(0.1)
    stop.set()
    worker.join(20)
    assert failures == []
    assert logins
    assert "Configuration reloaded" not in server.log_text()
    assert server.log_text().count("reading configuration: ") >= 4
    assert before <= {child.pid for child in server.children()}
    servers.wait_until(lambda: len(os.listdir(f"/proc/{server.process.pid}/fd")) <= fds)
    assert psutil.pid_exists(server.process.pid)
