"""Signals of the master as events of its loop.

All signals that the master cares about stay blocked for its whole life and arrive through a signalfd, which also tells
who sent them.  Nothing ever runs in signal context, a fork inherits no handler, and a signal sent to a child that is
still being born waits until the child unblocks it.

Python has no signalfd, so it is called in the C library; a system without it is not supported.
"""
from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import ctypes
import os
import signal
import struct
from dataclasses import dataclass

from mailproxy.errors import MailproxyError

_SFD_NONBLOCK = os.O_NONBLOCK
_SFD_CLOEXEC = os.O_CLOEXEC
#: struct signalfd_siginfo: number, errno, code, pid, uid; 128 bytes in all.
_INFO = struct.Struct("=IiiII")
_INFO_SIZE = 128
_CODES = {0: "kill", 0x80: "kernel", -1: "sigqueue", -2: "timer", -6: "tgkill"}
_PR_SET_DUMPABLE = 4

WATCHED = frozenset({signal.SIGCHLD, signal.SIGHUP, signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2,
                     signal.SIGALRM, signal.SIGQUIT})


@dataclass(frozen=True, slots=True)
class Arrival:
    """One signal and its sender."""

    number: int
    pid: int
    uid: int
    code: str

    @property
    def origin(self) -> str:
        return f"(by pid={self.pid} uid={self.uid} code={self.code})"


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def block() -> None:
    """Hold back all watched signals; handlers of Python itself are removed so that no child runs them."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)        # what children start with; blocked, it still reaches signalfd
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED)


#: What a child calls to receive signals.  The C function itself: its wrapper makes enum members of all numbers.
CHILD_CALL = (_signal.pthread_sigmask, (int(signal.SIG_UNBLOCK), tuple(map(int, sorted(WATCHED)))))


def open_fd() -> int:
    """A descriptor that is readable when a watched signal is pending."""
    mask = (ctypes.c_ulong * 16)()                      # sigset_t is 1024 bits in the C library
    bits = 8 * ctypes.sizeof(ctypes.c_ulong)
    for number in WATCHED:
        mask[(number - 1) // bits] |= 1 << ((number - 1) % bits)
    try:
        fd = _libc().signalfd(-1, ctypes.byref(mask), _SFD_NONBLOCK | _SFD_CLOEXEC)
    except AttributeError:
        raise MailproxyError("the C library has no signalfd()") from None
    if fd < 0:
        raise MailproxyError(f"signalfd() failed: {os.strerror(ctypes.get_errno())}")
    return int(fd)


def read(fd: int) -> list[Arrival]:
    """The signals that are pending now."""
    try:
        data = os.read(fd, 16 * _INFO_SIZE)
    except BlockingIOError:
        return []
    arrivals = []
    for start in range(0, len(data), _INFO_SIZE):
        number, _, code, pid, uid = _INFO.unpack_from(data, start)
        arrivals.append(Arrival(number, pid, uid, _CODES.get(code, f"unknown {code}")))
    return arrivals


def hide_memory() -> None:
    """No core dump and no ptrace by the same user, in this process and all that it forks: passwords pass through."""
    _libc().prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
