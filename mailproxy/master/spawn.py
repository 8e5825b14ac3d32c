"""fork(): from the master's memory to a child that is what its service says.

In: a Launch, prepared once per service so that a fork costs the parent one system call.  Out: a pid.  In the child
nothing ever returns into the frames of the master: it ends in os._exit, and it leaves the master's objects alone, since
every object that it touches is a page of memory that it no longer shares.
It must not know what a role does.
"""
from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, NoReturn

from mailproxy.errors import EXIT_FATAL, EXIT_OUT_OF_MEMORY, MailproxyError
from mailproxy.ipc.contract import Child
from mailproxy.log.pipe import FATAL, PANIC, Log
from mailproxy.master import forkhooks, signals
from mailproxy.master.identity import Identity

#: Descriptors that the master may open between two computations of the highest one.
_MARGIN = 4096
#: Innermost frames named in a panic line.
_FRAMES = 6

_set_title: Callable[[str], None] | None
try:
    with forkhooks.withheld():
        import setproctitle as _titles
except ImportError:                     # the titles are a convenience; run.py warns once
    _set_title = None
else:
    _set_title = _titles.setproctitle


def titles_available() -> bool:
    """Also makes the library's first-call preparations, so that no child repeats them."""
    if _set_title is None:
        return False
    _titles.getproctitle()
    return True


@dataclass(slots=True)
class Launch:
    """Everything that a fork of one service needs."""

    child: Child                        # its `generation` is set in the forked process
    main: Callable[[Child, Any], int]
    prepared: object
    identity: Identity
    close: tuple[tuple[int, int], ...]  # ranges of descriptors that the child must not have
    log_pipe: int                       # becomes descriptor 2
    stdout: int = -1                    # the log process: what becomes descriptor 1
    keep_stderr: bool = False           # the log process writes to the real one


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
        code = _run(launch, generation)
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


def _run(launch: Launch, generation: int) -> int:
    if launch.keep_stderr:
        if launch.stdout >= 0:
            os.dup2(launch.stdout, 1)
    else:
        os.dup2(launch.log_pipe, 2)
    for low, high in launch.close:
        os.closerange(low, high)
    child = launch.child
    child.generation = generation
    if _set_title is not None:
        _set_title(child.title)
    try:
        launch.identity.assume()
    except OSError as failure:
        raise MailproxyError(f"service({child.service}): can't drop privileges: {failure.strerror}") from None
    signals.unblock_in_child()
    return launch.main(child, launch.prepared)


def _last_words(launch: Launch, kind: int, text: str) -> None:
    try:
        Log(2).write(kind, text)
    except OSError:                     # no log any more; the exit code says the rest
        return


def describe(failure: BaseException) -> str:
    """A bug in one line: where, and of what kind.  No message and no values: they may be secrets."""
    where = []
    trace: TracebackType | None = failure.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        where.append(f"{os.path.basename(code.co_filename)}:{trace.tb_lineno} {code.co_name}()")
        trace = trace.tb_next
    detail = f" [{failure.strerror}]" if isinstance(failure, OSError) and failure.strerror else ""
    return f"unhandled {type(failure).__name__}{detail} at {' < '.join(reversed(where[-_FRAMES:]))}"


def exit_status(status: int) -> tuple[int, int]:
    """(exit code, signal number) of a wait status."""
    if os.WIFSIGNALED(status):
        return 0, os.WTERMSIG(status)
    return os.WEXITSTATUS(status), 0


def flush_standard_streams() -> None:
    """Before a fork: what is buffered would be written twice."""
    sys.stdout.flush()
    sys.stderr.flush()


def send(pid: int, number: int) -> None:
    """A signal to a child of ours that has not been waited for, so the pid is still its."""
    try:
        os.kill(pid, signal.Signals(number))
    except ProcessLookupError:
        return
    except PermissionError:             # not root, and the child is somebody else: cannot happen, must not matter
        return
