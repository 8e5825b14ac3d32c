"""The event loop: epoll, timers grouped by duration, and an end-of-batch hook.

In: file descriptors with a handler each, delays with a callback each.  Out: calls to them, one at a time.
It must not know what a descriptor carries.  Handlers decide by what their system calls return, never by the
event mask alone: an earlier handler of the same batch may have closed a descriptor and the number may already
belong to a newer one, so a handler can be called spuriously.

Timers live in one insertion-ordered dict per duration: adding and cancelling are O(1) and leave nothing behind,
which matters because nearly every timer of a login server (3 minutes for a login, 30 s for a backend) is cancelled
a few milliseconds after it was made.
"""
from __future__ import annotations

import select
import time
from collections.abc import Callable
from typing import Any

IN = select.EPOLLIN
OUT = select.EPOLLOUT
ERR = select.EPOLLERR
HUP = select.EPOLLHUP
RDHUP = select.EPOLLRDHUP
EXCLUSIVE = select.EPOLLEXCLUSIVE

_NEVER = float("inf")
#: Events taken from the kernel at once; more would only delay the end-of-batch hooks (log lines, auth requests).
_BATCH = 128
#: Seconds to sleep at the most: epoll takes no more than 2^31 milliseconds.
_LONGEST = 1e6

Handler = Callable[[int], None]


def _nothing() -> None:
    """What a cancelled timer calls."""


class Timer:
    """One pending call.  `cancel()` may be called any number of times, also after it fired."""

    __slots__ = ("_group", "call", "when")

    def __init__(self, when: float, call: Callable[[], None], group: dict[Timer, None]) -> None:
        self.when = when
        self.call = call
        self._group = group

    def cancel(self) -> None:
        self._group.pop(self, None)
        self.call = _nothing        # lets go of the callback's owner


class Loop:
    """Single-threaded.  `now` is the monotonic time in seconds at the start of the current batch."""

    __slots__ = ("_epoll", "_handlers", "_hooks", "_next_due", "_running", "_timers", "now",
                 "on_failure")

    def __init__(self) -> None:
        self.now = time.monotonic()
        self._epoll = select.epoll()
        self._handlers: dict[int, Handler] = {}
        self._timers: dict[float, dict[Timer, None]] = {}
        self._next_due = _NEVER
        self._hooks: list[Callable[[], None]] = []
        self._running = False
        #: Told of an exception, with the descriptor and the handler that raised it (-1 and None: a timer or a hook).
        #: Unless it stops watching the descriptor, the same happens again.
        self.on_failure: Callable[[int, Handler | None, Exception], None] | None = None

    def register(self, fd: int, events: int, handler: Handler) -> None:
        """Start watching `fd` (level-triggered).  ValueError, OSError as epoll_ctl(2) has them."""
        self._epoll.register(fd, events)
        self._handlers[fd] = handler

    def modify(self, fd: int, events: int) -> None:
        self._epoll.modify(fd, events)

    def swap(self, fd: int, handler: Handler) -> None:
        """Give a watched descriptor to another handler; costs no system call."""
        self._handlers[fd] = handler

    def rest(self, fd: int, events: int, delay: float = 1.0) -> None:
        """Look away for a while: a listener from which nothing can be accepted, for want of descriptors, would be
        announced over and over."""
        handler = self._handlers[fd]
        self._epoll.modify(fd, 0)

        def again() -> None:
            if self._handlers.get(fd) is handler:       # else somebody else has the number by now
                self._epoll.modify(fd, events)
        self.call_later(delay, again)

    def unregister(self, fd: int) -> None:
        """Stop watching; call it before closing the descriptor.  Unknown descriptors are ignored."""
        if self._handlers.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def forget(self, fd: int) -> None:
        """As unregister, for a descriptor that is about to be closed for good: close(2) removes it from the epoll
        set by itself, which saves a system call.  Wrong for one that another process or a dup still holds open."""
        self._handlers.pop(fd, None)

    def call_later(self, delay: float, call: Callable[[], None]) -> Timer:
        """Call once, `delay` seconds after the start of the current batch (0 or less: after this batch)."""
        group = self._timers.get(delay)
        if group is None:
            group = self._timers[delay] = {}
        when = self.now + delay
        timer = Timer(when, call, group)
        group[timer] = None
        self._next_due = min(self._next_due, when)
        return timer

    def at_batch_end(self, hook: Callable[[], None]) -> None:
        """Call `hook` after every batch of events and timers, before sleeping: for writes that are better joined."""
        self._hooks.append(hook)

    def run(self) -> None:
        """Serve until `stop()`.  An exception of a handler is a bug: it goes to `on_failure`, or passes through."""
        poll = self._epoll.poll
        handlers = self._handlers
        monotonic = time.monotonic
        hooks = self._hooks
        self._running = True
        while self._running:
            due = self._next_due
            if due == _NEVER:
                events = poll(-1, _BATCH)
            else:
                wait = due - monotonic()
                # epoll counts in whole milliseconds and rounds up: never early, never spinning
                events = poll(0 if wait <= 0 else wait if wait < _LONGEST else _LONGEST, _BATCH)
            self.now = now = monotonic()
            fd, handler = -1, None
            try:
                for fd, mask in events:
                    handler = handlers.get(fd)
                    if handler is not None:
                        handler(mask)
                fd, handler = -1, None
                if now >= self._next_due:
                    self._fire(now)
                for hook in hooks:
                    hook()
            except Exception as failure:
                # what was left of the batch is announced again: everything is level-triggered
                if self.on_failure is None:
                    raise
                self.on_failure(fd, handler, failure)

    def stop(self) -> None:
        self._running = False

    def close(self) -> None:
        """Let go of everything without touching the kernel's set: also right in a forked child that inherited it."""
        self._epoll.close()
        self._handlers.clear()
        self._timers.clear()

    def _fire(self, now: float) -> None:
        """Run the timers that are due; those that they make wait for the next batch."""
        ready: list[Timer] = []
        for group in self._timers.values():
            for timer in group:
                if timer.when > now:
                    break
                ready.append(timer)
        for timer in ready:
            if timer._group.pop(timer, self) is None:      # not cancelled by an earlier one
                timer.call()
        self._timers = {delay: group for delay, group in self._timers.items() if group}
        self._next_due = min((next(iter(group)).when for group in self._timers.values()), default=_NEVER)


def quiet_close(closer: Any) -> None:
    """Close a socket or pipe whose peer may already have reset it."""
    try:
        closer.close()
    except OSError:         # ECONNRESET from close(2): the descriptor is gone either way
        return
