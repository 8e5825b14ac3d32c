"""Refusals wait: a guess costs its maker time, and the order of answers tells nothing.

Every half second all refusals that are due leave together, in random order.
"""
from __future__ import annotations

import random
from collections.abc import Callable

from mailproxy.net.loop import Loop

TICK = 0.5
#: Waiting refusals; beyond, the oldest are answered early rather than memory growing without end.
MAX_WAITING = 100_000

Shuffle = Callable[[list[Callable[[], None]]], None]
_shuffle: Shuffle = random.SystemRandom().shuffle


class FailureQueue:
    __slots__ = ("_loop", "_shuffle", "_ticking", "_waiting")

    def __init__(self, loop: Loop, shuffle: Shuffle = _shuffle) -> None:
        self._loop = loop
        self._shuffle = shuffle
        self._waiting: list[tuple[float, Callable[[], None]]] = []
        self._ticking = False

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, delay: float, answer: Callable[[], None]) -> None:
        """Call `answer` after about `delay` seconds: up to one tick less, at least one tick."""
        self._waiting.append((self._loop.now + max(delay - TICK, 0.0), answer))
        if len(self._waiting) > MAX_WAITING:
            self._waiting.pop(0)[1]()
        if not self._ticking:
            self._ticking = True
            self._loop.call_later(TICK, self._tick)

    def _tick(self) -> None:
        now = self._loop.now
        due = [answer for when, answer in self._waiting if when <= now]
        self._waiting = [row for row in self._waiting if row[0] > now]
        self._shuffle(due)
        for answer in due:
            answer()
        self._ticking = bool(self._waiting)
        if self._ticking:
            self._loop.call_later(TICK, self._tick)

    def flush(self) -> None:
        """At the end of the process: everybody at once."""
        waiting, self._waiting = self._waiting, []
        for _, answer in waiting:
            answer()
