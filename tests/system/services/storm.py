"""A storm of reloads: HUP every 200 ms while some clients log in again and again and others just stay.

`python -m tests.system.services.storm [SECONDS]` prints the figures.
"""
from __future__ import annotations

import imaplib
import os
import re
import shutil
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests import servers

EVERY = 0.2
_CLIENTS = 3
_STAYING = 4
TEXT = """
log_timestamp =
ssl = no
auth_failure_delay = 0
default_login_user = nobody
default_internal_user = nobody
default_internal_group = nogroup
passdb {
  driver = static
  args = proxy=y host=127.0.0.1 port=BACKEND nopassword=y pass=PASSWORD
}
service imap-login {
  service_count = 0
  process_min_avail = 2
  inet_listener imap {
    port = @imap@
  }
  inet_listener imaps {
    port = 0
  }
}
"""


@dataclass
class Figures:
    logins: int = 0
    reloads: int = 0
    generations_seen: int = 0
    failures: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    processes_before: int = 0
    processes_most: int = 0
    processes_after: int = 0
    fds_before: int = 0
    fds_after: int = 0
    memory_before: int = 0
    memory_middle: int = 0
    memory_after: int = 0
    slowest: float = 0.0


def text(backend_port: int) -> str:
    return servers.HEAD + TEXT.replace("BACKEND", str(backend_port)).replace("PASSWORD", servers.PASSWORD)


def log_in_until(port: int, stop: threading.Event, failures: list[str], done: list[int],
                 slowest: list[float] | None = None) -> None:
    """Log in, ask something, log out, and again."""
    count = 0
    while not stop.is_set():
        began = time.monotonic()
        try:
            with imaplib.IMAP4(servers.HOST, port, timeout=20) as client:
                client.login(f"user{count % 7}", servers.PASSWORD)
                assert client.noop()[0] == "OK"
        except (OSError, imaplib.IMAP4.error, AssertionError) as failure:
            failures.append(repr(failure))
        count += 1
        if slowest is not None:
            slowest.append(time.monotonic() - began)
    done.append(count)


def run(server: servers.Server, seconds: float) -> Figures:
    found = Figures()
    master = server.process.pid
    port = server.port["imap"]
    staying = []
    for number in range(_STAYING):
        client = imaplib.IMAP4(servers.HOST, port, timeout=20)
        client.login(f"stays{number}", servers.PASSWORD)
        staying.append(client)
    _reload(server, found)                      # what only the first reload needs is there
    _settle(server, found)
    found.processes_before, found.fds_before, found.memory_before = _sizes(server, master)
    stop, done, slowest = threading.Event(), [0], [0.0]
    threads = [threading.Thread(target=log_in_until, args=(port, stop, found.failures, done, slowest))
               for _ in range(_CLIENTS)]
    for thread in threads:
        thread.start()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        _reload(server, found)
        found.processes_most = max(found.processes_most, len(server.children()))
        if time.monotonic() > end - seconds / 2 and not found.memory_middle:
            found.memory_middle = _sizes(server, master)[2]
        time.sleep(EVERY)
    stop.set()
    for thread in threads:
        thread.join(30)
    found.logins, found.slowest = sum(done), max(slowest)
    for client in staying:
        try:
            assert client.noop()[0] == "OK"
        except (OSError, imaplib.IMAP4.error) as failure:
            found.lost.append(repr(failure))
    _settle(server, found)
    found.processes_after, found.fds_after, found.memory_after = _sizes(server, master)
    for client in staying:
        client.logout()
    return found


def _reload(server: servers.Server, found: Figures) -> None:
    """One that the master has heard of: of two signals at once it would see one."""
    server.reload()
    found.reloads += 1
    servers.wait_until(lambda: server.log_text().count("SIGHUP received") >= found.reloads, 20)


def _settle(server: servers.Server, found: Figures) -> None:
    """Until the last reload is through and the old processes without sessions are gone."""
    def counts() -> tuple[int, int]:
        return len(server.children()), len(os.listdir(f"/proc/{server.process.pid}/fd"))
    servers.wait_until(lambda: server.log_text().count("Configuration reloaded") >= found.reloads, 20)
    found.generations_seen = server.log_text().count("Configuration reloaded")
    same, last = 0, counts()
    for _ in range(100):
        time.sleep(0.1)
        now = counts()
        same, last = (same + 1, last) if now == last else (0, now)
        if same == 6:
            return


def _sizes(server: servers.Server, master: int) -> tuple[int, int, int]:
    """Processes, the master's descriptors, the master's own memory in KiB."""
    status = Path(f"/proc/{master}/status").read_text()
    memory = re.search(r"RssAnon:\s+(\d+)", status)
    return len(server.children()), len(os.listdir(f"/proc/{master}/fd")), int(memory[1]) if memory else 0


def main() -> int:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 30.0
    place = Path(tempfile.mkdtemp(prefix="mp-", dir="/tmp"))
    started = []
    try:
        for name in ("backend", "proxy"):
            (place / name).mkdir()
            (place / name).chmod(0o755)
        place.chmod(0o755)
        (place / "backend" / "mail").mkdir()
        (place / "backend" / "mail").chmod(0o777)
        backend = servers.dovecot(servers.BACKEND, place / "backend")
        started.append(backend)
        backend.wait("imap")
        proxy = servers.mailproxy(text(backend.port["imap"]), place / "proxy")
        started.append(proxy)
        proxy.wait("imap")
        found = run(proxy, seconds)
        print(found)
        return 1 if found.failures or found.lost else 0
    finally:
        for server in reversed(started):
            print("\n".join(server.stop()), end="")
        shutil.rmtree(place, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
