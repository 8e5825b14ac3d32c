"""A pool of kernel pipes for splice(2): socket -> pipe -> socket without copying through this process.

A pipe is borrowed for one event and given back empty; a pump that could not empty it keeps it until it can.
"""
from __future__ import annotations

import fcntl
import os

#: Bytes that one splice moves at the most; the pipe is made to hold as much.
CHUNK = 1 << 18
#: Pipes kept for reuse; more exist only while that many sessions are blocked on their peer at once.
_KEEP = 16

Pipe = tuple[int, int]
_free: list[Pipe] = []


def borrow() -> Pipe:
    """(read end, write end), empty.  OSError when the process is out of descriptors."""
    if _free:
        return _free.pop()
    ends = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        fcntl.fcntl(ends[1], fcntl.F_SETPIPE_SZ, CHUNK)
    except OSError:             # the user's pipe quota is spent: the default 64 KiB serve as well
        return ends
    return ends


def give_back(pipe: Pipe) -> None:
    """`pipe` must be empty."""
    if len(_free) < _KEEP:
        _free.append(pipe)
    else:
        discard(pipe)


def discard(pipe: Pipe) -> None:
    os.close(pipe[0])
    os.close(pipe[1])
