"""How much of a service's limits is in use, and when that deserves a warning.

In: connections that come and go.  Out: whether to warn now.  It warns once when most of the limit is used, and again
only after it was clearly less in between, and some time has passed.
"""
from __future__ import annotations

_WARN_PERCENT = 80
_CALM_PERCENT = 60
#: Seconds between two warnings, however much the load swings.
_WARN_EVERY = 60.0
#: Of a limit of one to four, the last one is already 80 %.
_SMALLEST = 5


class Usage:
    __slots__ = ("_calm", "_last", "_near", "_warn", "capacity", "used")

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.used = 0
        self._warn = -(-capacity * _WARN_PERCENT // 100) if capacity >= _SMALLEST else capacity + 1
        self._calm = capacity * _CALM_PERCENT // 100
        self._near = False
        self._last = float("-inf")

    def change(self, by: int, now: float) -> bool:
        """`by` connections more.  Is it time to warn?"""
        self.used += by
        if self._near:
            self._near = self.used > self._calm
        elif self.used >= self._warn and now - self._last >= _WARN_EVERY:
            self._near = True
            self._last = now
            return True
        return False
