"""Signals of the auth processes: the handler only wakes the loop, the loop acts."""
from __future__ import annotations

import os
import signal
from collections.abc import Callable

from mailproxy.net.loop import IN, Loop


class Signals:
    __slots__ = ("_actions", "_out")

    def __init__(self, loop: Loop) -> None:
        self._actions: dict[int, Callable[[], None]] = {}
        self._out, write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        loop.register(self._out, IN, self._arrived)

    def on(self, number: signal.Signals, action: Callable[[], None]) -> None:
        self._actions[number] = action
        signal.signal(number, lambda _number, _frame: None)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (number,))

    def _arrived(self, _mask: int) -> None:
        try:
            data = os.read(self._out, 256)
        except BlockingIOError:
            return
        for number in dict.fromkeys(data):
            action = self._actions.get(number)
            if action is not None:
                action()
