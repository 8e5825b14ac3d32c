"""A client whose backend is gone, until it is its turn to be disconnected: what it says is thrown away.

In: the client's transport, which a loop watches already.  Out: one call of `done` when the time is over or the client
has gone by itself.  Limits: TURNS reads for one event.
"""
from __future__ import annotations

from collections.abc import Callable

from mailproxy.net.loop import Loop
from mailproxy.net.transport import Broken, Plain, Tls

_SIZE = 16384
_BUFFER = memoryview(bytearray(_SIZE))
#: A client that never stops speaking leaves room for the others.
TURNS = 4


class Lingering:
    """Stands where the session's relay stood."""

    __slots__ = ("_done", "_link", "_loop", "_timer", "last")

    def __init__(self, loop: Loop, link: Plain | Tls, last: float) -> None:
        self._loop = loop
        self._link = link
        self.last = last
        self._done: Callable[[], None] = self.stop

    def start(self, seconds: float, done: Callable[[], None]) -> None:
        self._done = done
        self._timer = self._loop.call_later(seconds, done)
        self._loop.swap(self._link.fd, self._event)
        self._loop.modify(self._link.fd, self._link.wants)

    def _event(self, mask: int) -> None:
        try:
            for _ in range(TURNS):
                count = self._link.recv_into(_BUFFER)
                if count == 0:
                    self._done()
                if count <= 0:
                    return
        except Broken:
            self._done()

    def fail(self) -> None:
        self._done()

    def stop(self) -> None:
        self._timer.cancel()
        self._loop.forget(self._link.fd)
        self._link.close()
