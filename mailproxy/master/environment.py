"""The environment that the processes live in.

In: the environment of whoever started the master, and import_environment.  Out: the process's own environment without
all that was not imported; host names.
"""
from __future__ import annotations

import functools
import os
import socket
import time
from collections.abc import Iterable

#: Stay whatever import_environment says.
_KEPT = frozenset({"PATH", "HOME", "USER", "LOG_STDERR_TIMESTAMP"})
#: Addressed to the master alone: a child that acted upon them would speak in its name.
OURS = frozenset({"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC"})


def clean(words: Iterable[str]) -> None:
    """Drop every variable that is not among `words`; a word NAME=VALUE sets it."""
    words = tuple(words)
    wanted = {*names(words), *_KEPT}
    for name in set(os.environ) - wanted:
        del os.environ[name]
    add(words)


def add(words: Iterable[str]) -> None:
    """Set what has a value; the rest came with our own start or is not to be had."""
    for word in words:
        name, equals, value = word.partition("=")
        if name and equals and name not in OURS:
            os.environ[name] = value
    time.tzset()


def imported() -> dict[str, str]:
    """What every program gets."""
    return dict(os.environ)


def names(words: Iterable[str]) -> list[str]:
    """The names of `words`, each once."""
    found = (word.partition("=")[0] for word in words)
    return [name for name in dict.fromkeys(found) if name and name not in OURS]


def hostname() -> str:
    return os.environ.get("DOVECOT_HOSTNAME") or socket.gethostname()


@functools.cache
def hostdomain() -> str:
    """The full name of this host; the short one if nobody knows it."""
    name = hostname()
    try:
        rows = socket.getaddrinfo(name, None, flags=socket.AI_CANONNAME)
    except (OSError, UnicodeError):
        return name
    return rows[0][3] or name
