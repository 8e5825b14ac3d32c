"""Names to addresses without blocking the loop: getaddrinfo in a few threads.

In: a host name, a timeout, a callback.  Out: the callback in the loop's thread, exactly once, with the addresses or a
reason.  A thread whose lookup hangs in the C library cannot be stopped; its result is thrown away, and the number of
threads is limited.  Equal names wait for one lookup, and an answer is good for a few seconds.
"""
from __future__ import annotations

import os
import queue
import socket
import threading
from collections.abc import Callable

from mailproxy.net.loop import IN, Loop, Timer

MAX_THREADS = 8
#: Names waiting; more mean that the name service is down.
MAX_WAITING = 1000
MAX_REMEMBERED = 1000
#: Seconds that an answer is used again.
REMEMBER = 5.0

Done = Callable[[tuple[str, ...], str, float], None]


class _Waiter:
    __slots__ = ("done", "start", "timer")

    def __init__(self, done: Done, start: float) -> None:
        self.done = done
        self.start = start
        self.timer: Timer | None = None


class Resolver:
    """Threads start with the first lookup: a process that never resolves has none."""

    __slots__ = ("_answers", "_busy", "_loop", "_questions", "_remembered", "_threads", "_waiters", "_wake_in",
                 "_wake_out")

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._questions: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[tuple[str, tuple[str, ...], str]] = queue.SimpleQueue()
        self._waiters: dict[str, list[_Waiter]] = {}
        self._remembered: dict[str, tuple[float, tuple[str, ...]]] = {}
        self._threads = 0
        self._wake_in = self._wake_out = -1

    def look_up(self, host: str, timeout: float, done: Done) -> None:
        known = self._remembered.get(host)
        if known is not None and self._loop.now - known[0] < REMEMBER:
            done(known[1], "", 0.0)
            return
        waiters = self._waiters.get(host)
        if waiters is None:
            if len(self._waiters) >= MAX_WAITING:
                done((), "too many names are waiting to be resolved", 0.0)
                return
            waiters = self._waiters[host] = []
            self._start_thread()
            self._questions.put(host)
        waiter = _Waiter(done, self._loop.now)
        waiter.timer = self._loop.call_later(timeout, lambda: self._expire(host, waiter))
        waiters.append(waiter)

    def _start_thread(self) -> None:
        if self._wake_out < 0:
            self._wake_out, self._wake_in = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
            self._loop.register(self._wake_out, IN, self._awake)
        if self._threads < MAX_THREADS and len(self._waiters) > self._threads:
            self._threads += 1
            threading.Thread(target=self._work, daemon=True).start()

    def _work(self) -> None:
        while True:
            host = self._questions.get()
            try:
                found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
                addresses = tuple(dict.fromkeys(str(row[4][0]) for row in found))
                self._answers.put((host, addresses, "" if addresses else "No address"))
            except (OSError, UnicodeError) as error:
                self._answers.put((host, (), (getattr(error, "strerror", None) or str(error))))
            try:
                os.write(self._wake_in, b"x")
            except BlockingIOError:             # the loop has enough reason to wake up already
                continue

    def _awake(self, _mask: int) -> None:
        try:
            os.read(self._wake_out, 4096)
        except BlockingIOError:
            return
        while not self._answers.empty():
            host, addresses, error = self._answers.get()
            if addresses:
                if len(self._remembered) >= MAX_REMEMBERED:
                    self._remembered.clear()
                self._remembered[host] = (self._loop.now, addresses)
            for waiter in self._waiters.pop(host, ()):
                if waiter.timer is not None:
                    waiter.timer.cancel()
                waiter.done(addresses, error, self._loop.now - waiter.start)

    def _expire(self, host: str, waiter: _Waiter) -> None:
        waiters = self._waiters.get(host)
        if waiters is None or waiter not in waiters:
            return
        waiters.remove(waiter)
        waiter.done((), "DNS lookup timed out", self._loop.now - waiter.start)
