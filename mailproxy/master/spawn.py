"""fork(): from the master's memory to a child that is what its service says.

In: a Launch, prepared once per service so that a fork costs the parent one system call.  Out: a pid.  In the child
nothing ever returns into the frames of the master: it ends in os._exit, and it leaves the master's objects alone, since
every object that it touches is a page of memory that it no longer shares.
It must not know what a role does.
"""
from __future__ import annotations

import contextlib
import os
import resource
import signal
import sys
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

from mailproxy.errors import EXIT_FATAL, EXIT_OUT_OF_MEMORY, MailproxyError, describe
from mailproxy.ipc.contract import Child
from mailproxy.log.pipe import FATAL, PANIC, Log
from mailproxy.master import forkhooks, signals

#: Descriptors that the master may open between two computations of the highest one.
_MARGIN = 4096

#: A function and what to call it with.
Call = tuple[Callable[..., Any], tuple[Any, ...]]

_set_title: Callable[[str], None] | None
try:
    with forkhooks.withheld():
        import setproctitle as _titles
except ImportError:                     # the titles are a convenience; run.py warns once
    _set_title = None
else:
    _titles.getproctitle()              # finds its place in memory, which it cannot once os.environ was changed
    _set_title = _titles.setproctitle


def titles_available() -> bool:
    """Also makes the library's first-call preparations, so that no child repeats them."""
    if _set_title is None:
        return False
    _titles.getproctitle()
    return True


class Launch:
    """Everything that a fork of one service needs, as a list of calls with their arguments.

    The list is made in the master.  A child that looked up names and attributes on its way would write to the page of
    each: this way becoming what it shall be costs it a third of the page faults.
    """

    __slots__ = ("calls", "child", "main", "prepared")

    def __init__(self, child: Child, main: Callable[[Child, Any], int], prepared: object,
                 calls: Iterable[Call]) -> None:
        self.child = child              # its `generation` is set in the forked process
        self.main = main
        self.prepared = prepared
        self.calls = tuple(calls)


def calls(title: str, identity: Iterable[Call], close: Iterable[tuple[int, int]], redirect: Iterable[tuple[int, int]]
          ) -> list[Call]:
    """What a child does before its role's main: descriptors, title, identity, signals.  `close`: ranges of descriptors
    that it must not have; `redirect`: (descriptor, number it becomes)."""
    found: list[Call] = [(os.dup2, pair) for pair in redirect]
    found += [(os.closerange, pair) for pair in close]
    if _set_title is not None:
        found.append((_set_title, (title,)))
    return [*found, *identity, signals.CHILD_CALL]


def ranges_without(keep: Iterable[int], top: int) -> tuple[tuple[int, int], ...]:
    """The half-open ranges of 3..top between the descriptors to keep."""
    gaps = []
    start = 3
    for fd in sorted(set(keep)):
        if fd > start:
            gaps.append((start, fd))
        start = max(start, fd + 1)
    gaps.append((start, max(top, start) + _MARGIN))
    return tuple(gaps)


def highest_fd() -> int:
    try:
        return max(map(int, os.listdir("/proc/self/fd")))
    except (OSError, ValueError):       # no /proc: a new descriptor is at least near the top
        fd = os.dup(2)
        os.close(fd)
        return fd + _MARGIN


def fork(launch: Launch, generation: int) -> int:
    """The pid of the new child.  OSError if there is none."""
    pid = os.fork()
    if pid:
        return pid
    _become(launch, generation)


def _become(launch: Launch, generation: int) -> NoReturn:
    code = EXIT_FATAL
    try:
        child = launch.child
        try:
            for call, arguments in launch.calls:
                call(*arguments)
        except OSError as failure:
            raise MailproxyError(f"service({child.service}): {call.__name__}{arguments} failed: {failure.strerror}"
                                 ) from None
        child.generation = generation
        code = launch.main(child, launch.prepared)
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else EXIT_FATAL
    except MemoryError:
        code = EXIT_OUT_OF_MEMORY
    except MailproxyError as failure:
        _last_words(launch, FATAL, str(failure))
    except BaseException as failure:    # nothing may pass: the frames below are the master's
        _last_words(launch, PANIC, describe(failure))
    finally:
        os._exit(code)


def _last_words(launch: Launch, kind: int, text: str) -> None:
    try:
        Log(2).write(kind, text)
    except OSError:                     # no log any more; the exit code says the rest
        return


def unraisable(found: sys.UnraisableHookArgs) -> None:
    """What Python can only report, as failures in a callback of OpenSSL: one line, without the values that Python
    would show."""
    # a client's server name that is no ASCII: its handshake fails, which is logged
    if not isinstance(found.object, bytes) and found.exc_value is not None:
        with contextlib.suppress(OSError):
            Log(2).write(PANIC, describe(found.exc_value))


def exit_status(status: int) -> tuple[int, int]:
    """(exit code, signal number) of a wait status."""
    if os.WIFSIGNALED(status):
        return 0, os.WTERMSIG(status)
    return os.WEXITSTATUS(status), 0


def core_of(status: int) -> bool | None:
    """Has the process left a core dump?  None: none may be made."""
    if not os.WIFSIGNALED(status) or os.WCOREDUMP(status):
        return os.WCOREDUMP(status)
    return False if resource.getrlimit(resource.RLIMIT_CORE)[0] else None


def send(pid: int, number: int) -> None:
    """A signal to a child of ours that has not been waited for, so the pid is still its."""
    try:
        os.kill(pid, signal.Signals(number))
    except ProcessLookupError:
        return
    except PermissionError:             # not root, and the child is somebody else: cannot happen, must not matter
        return
