"""What the master and its children owe each other.

A role is a module with two functions, named by a dotted name and never imported by the master's own code:

    prepare(conf, service) -> object      in the master, before any fork, as the user that started it: read keys and
                                          certificates, build TLS contexts, parse whatever costs time.  Its memory is
                                          shared with every child.  Raises ConfigInvalid; a reload then keeps the old.
    main(child, prepared) -> int          in the forked child, after the privilege drop; returns the exit code.

What prepare() returned may have a method `renew() -> News`, called in the master now and then: what it changes,
children forked later have; its `data` is appended to the notify file for those that run.

The child tells the master how many more connections it will accept: 12 bytes `pid, generation, available` (native
i32, u32, u32) written at once to `status_fd`.  The first report is due within 30 s of the fork.

`dead_fd` is the write end of a pipe that nobody writes to: epoll reports EPOLLERR on it when the master closed its
end, because it retires this generation (reload, stop) or because it is gone.  A child then accepts no more, reports
0, finishes what it has and exits 0.

Signals to a child: TERM stop now; INT exit if idle; QUIT close the listeners at once and finish; USR1 look at the
notify file (its offset: a login service is full; its contents: what `renew` had to say).  HUP is ignored but by auth,
which flushes its cache.
"""
from __future__ import annotations

import os
import socket
import struct
from dataclasses import dataclass, field
from typing import Any, Protocol

_STATUS = struct.Struct("=iII")
STATUS_SIZE = _STATUS.size
#: Seconds within which a child must report for the first time.
FIRST_REPORT = 30.0
#: `available` of a process without a limit.
UNLIMITED = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Listener:
    """One inherited listening socket (non-blocking).  `kind`: "inet", "unix" or "fifo"."""

    name: str                       # of the listener section: "imaps", "login/login"
    kind: str
    socket: socket.socket
    ssl: bool = False
    haproxy: bool = False
    address: tuple[str, int] | None = None      # bound address when it is one address (not a wildcard), else None


@dataclass(slots=True)
class Child:
    """Everything that a forked process inherits."""

    service: str                    # "imap-login"
    protocol: str                   # "imap", "" for services of no protocol
    generation: int                 # unique number of this child, echoed in its status reports
    base_dir: str                   # absolute; inside a chroot use paths relative to the working directory instead
    listeners: tuple[Listener, ...]
    status_fd: int
    dead_fd: int
    log_fd: int                     # write end of the log pipe of the service (see log.pipe)
    notify_fd: int = -1             # login services: file whose offset is 1 while the service is full, else 0; its
                                    # contents are the data of all News
    client_limit: int = 1000        # in force: already min(client_limit, service_count)
    service_count: int = 0
    process_limit: int = 100
    process_min_avail: int = 0
    idle_kill: float = 60.0
    cut_on_retire: bool = False     # shutdown_clients = yes is written in the configuration
    cut_on_stop: bool = True        # the setting's value: what TERM does to sessions
    verbose_proctitle: bool = False
    title: str = "mailproxy"        # INSTANCE/SERVICE
    extra: dict[str, Any] = field(default_factory=dict)     # the log service: {"pipes": [(read fd, service name), …]}

    def report(self, available: int) -> None:
        """Tell the master how many more connections we will accept.  Never blocks; a lost report is repeated by the
        next change (the pipe holds 5,000 of them)."""
        try:
            os.write(self.status_fd, _STATUS.pack(os.getpid(), self.generation, min(available, UNLIMITED)))
        except (BlockingIOError, BrokenPipeError):      # the master is busy, or gone: dead_fd tells which
            return


def parse_status(data: bytes) -> list[tuple[int, int, int]]:
    """Whole messages of a read from the status pipe: (pid, generation, available).  A torn tail cannot occur, since
    writes of 12 bytes to a pipe are atomic and the reader asks for a multiple of 12; it is dropped if it does."""
    usable = len(data) - len(data) % STATUS_SIZE
    return list(_STATUS.iter_unpack(data[:usable]))


@dataclass(slots=True)
class News:
    """What has changed since the master asked last."""

    lines: list[tuple[int, str]] = field(default_factory=list)      # for the log: (kind, text)
    data: bytes = b""               # for the children that run
    again: float = 60.0             # seconds until it should ask again


class Role(Protocol):
    """The two functions of a role module."""

    def prepare(self, conf: Any, service: Any) -> object: ...

    def main(self, child: Child, prepared: Any) -> int: ...
