"""The backends of the demo: pymap servers in memory, each with a mailbox that tells its name, and beside each one tiny
servers for the other protocols (mailproxy.demo.others).

In: a name and ports.  Out: an IMAP server with some mail, and its companions.
"""
from __future__ import annotations

import imaplib
import importlib.util
import sys
import time

from mailproxy.demo.people import BACKEND_ACCOUNT
from mailproxy.demo.place import HOST, DemoFailed
from mailproxy.demo.processes import Processes

NAMES = ("A", "B")
#: In the order in which mailproxy.demo.others takes their ports.
OTHERS = ("pop3", "sieve", "submission", "lmtp")
PROTOCOLS = ("imap", *OTHERS)
#: Seconds that a server has to answer.
START_TIMEOUT = 30.0
_PAUSE = 0.1
#: Seconds for one step of a dialogue.
_DIALOGUE_TIMEOUT = 10.0


def mailbox_of(name: str) -> str:
    """The mailbox that only this backend has."""
    return f"Backend-{name}"


def require() -> None:
    """DemoFailed without pymap."""
    if importlib.util.find_spec("pymap") is None:
        raise DemoFailed("the demo's backends need the Python package pymap: run make venv")


def start(processes: Processes, name: str, ports: dict[str, int]) -> None:
    """`ports` by protocol."""
    processes.start(f"backend-{name}", [
        sys.executable, "-c", "from pymap.main import main; main()", "--host", HOST, "--port", str(ports["imap"]),
        "--no-tls",
        "dict", "--demo-data", "--demo-user", BACKEND_ACCOUNT.user, "--demo-password", BACKEND_ACCOUNT.password])
    processes.start(f"others-{name}", [sys.executable, "-m", "mailproxy.demo.others", name,
                                       *(str(ports[protocol]) for protocol in OTHERS)])


def mark(name: str, port: int) -> None:
    """Put the telling mailbox and a message into a backend that answers."""
    box = mailbox_of(name)
    text = f"From: demo@localhost\r\nSubject: this is backend {name}\r\n\r\nThis message lives on backend {name}.\r\n"
    with imaplib.IMAP4(HOST, port, timeout=_DIALOGUE_TIMEOUT) as client:
        client.login(BACKEND_ACCOUNT.user, BACKEND_ACCOUNT.password)
        client.create(box)
        status, answer = client.append(box, "", imaplib.Time2Internaldate(time.time()), text.encode())
        if status != "OK":
            raise DemoFailed(f"backend {name} refused a message: {answer!r}")


def mailboxes(port: int, user: str, password: str) -> str:
    """Log in, list, log out: what LIST answered."""
    with imaplib.IMAP4(HOST, port, timeout=_DIALOGUE_TIMEOUT) as client:
        client.login(user, password)
        return "\n".join(row.decode() for row in client.list()[1] if isinstance(row, bytes))


def wait_for(processes: Processes, port: int, what: str) -> None:
    """Return when an IMAP server greets on the port.  DemoFailed when a process ends or the time is over."""
    deadline = time.monotonic() + START_TIMEOUT
    while True:
        processes.check()
        try:
            with imaplib.IMAP4(HOST, port, timeout=_DIALOGUE_TIMEOUT):
                return
        except (OSError, imaplib.IMAP4.error) as error:
            if time.monotonic() > deadline:
                raise DemoFailed(f"{what} does not answer on port {port}: {error}") from None
        time.sleep(_PAUSE)
