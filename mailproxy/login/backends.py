"""What one login process knows of each backend address: who is connecting, when it last answered or failed.

It decides the host-down shortcut: a login whose backend has not answered for a while, and on which another login
already waits, fails at once instead of waiting too.  Limit: MAX_KNOWN addresses; the table starts anew beyond it.
"""
from __future__ import annotations

MAX_KNOWN = 10_000


class State:
    """One (ip, port).  Times are the loop's."""

    __slots__ = ("connecting", "failed", "succeeded")

    def __init__(self, now: float) -> None:
        self.succeeded = now - 1        # the first use of a destination pretends a success one second ago
        self.failed = 0.0
        self.connecting = 0

    def is_down(self, after: float) -> bool:
        """`after`: proxy_host_immediate_failure_after; 0 turns the shortcut off."""
        return after > 0 and self.connecting > 0 and self.failed - self.succeeded >= after


class Backends:
    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[tuple[str, int], State] = {}

    def get(self, ip: str, port: int, now: float) -> State:
        key = (ip, port)
        state = self._known.get(key)
        if state is None:
            if len(self._known) >= MAX_KNOWN:
                self._known = {k: s for k, s in self._known.items() if s.connecting}
            state = self._known[key] = State(now)
        return state
