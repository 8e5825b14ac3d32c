"""Signals for a process with a loop: handlers only note the number, the loop acts.

Uses the C functions under the `signal` module: its wrappers turn every number into an enum member, which in a freshly
forked worker costs more (in memory that is no longer shared) than all the rest of setting a handler.
"""
from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import os
from collections.abc import Callable, Mapping
from typing import Any

from mailproxy.net.loop import IN, Loop

#: Numbers taken at once; a signal that arrives twice before it is acted on counts once.
_READ = 64


class Signals:
    """Watches the signals in `actions` from its making on."""

    __slots__ = ("_actions", "_fds")

    def __init__(self, loop: Loop, actions: Mapping[int, Callable[[], None]]) -> None:
        self._actions = actions
        self._fds = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        _signal.set_wakeup_fd(self._fds[1], warn_on_full_buffer=False)
        for number in actions:
            _signal.signal(number, _noted)
        loop.register(self._fds[0], IN, self._act)

    def _act(self, mask: int) -> None:
        try:
            numbers = os.read(self._fds[0], _READ)
        except BlockingIOError:
            return
        for number in dict.fromkeys(numbers):
            act = self._actions.get(number)
            if act is not None:
                act()


def _noted(number: int, frame: Any) -> None:
    """The number is in the wakeup pipe."""
