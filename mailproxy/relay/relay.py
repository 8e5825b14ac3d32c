"""Copies between two transports until one ends: what is read on one side is written to the other, nothing else.

In: two connected transports that a loop already watches for reading, what was received before, byte counts so far.
Out: one call of `done(side, reason)` when it is over; `sent` tells the bytes written to each side.

Back-pressure: a side is read only while nothing waits to be written to the other, so a session holds at the most one
buffer (or one pipe) a direction.  End of the client's stream is passed on as a half-close and the backend may finish
what it is saying; end of the backend's stream, or an error on either, ends the session once what was read before has
been delivered.  An idle session costs no time and wakes nobody.

Between two plain sockets, a direction that turns out to carry bulk (a read that fills the buffer) goes through a
kernel pipe from then on (splice), without copying; small exchanges are cheaper by copy.
"""
from __future__ import annotations

import os
from collections.abc import Callable

from mailproxy.net import pipes
from mailproxy.net.loop import ERR, HUP, IN, OUT, Loop, Timer
from mailproxy.net.transport import Broken, Plain, Tls

#: One read.  Shared by all sessions of the process: nothing stays in it between two events.
_SIZE = 65536
_BUFFER = memoryview(bytearray(_SIZE))
#: A read of this many bytes means bulk: splice from now on.
_BULK = 16384
#: TLS records taken at once from a side that always has another; then the other sessions get their turn.
_TURNS = 16
#: Seconds that a side may take to end after the other did, and to take what is left for it.
DRAIN = 30.0
#: Instead of an event mask: the loop does not watch this side.
_PARKED = -1
_SPLICE = os.SPLICE_F_NONBLOCK | os.SPLICE_F_MOVE

CLIENT, BACKEND = 0, 1
# RUNNING: both may speak, or the client has ended and the backend finishes.  ENDING: it is decided why the session
# ends, and the client still gets what was read for it.  OVER: `done` was called.
RUNNING, ENDING, OVER = range(3)
Link = Plain | Tls


def _ignore(side: int, reason: str) -> None:
    """The owner of a relay that was stopped wants to hear no more of it."""


class _Side:
    """One end: its transport, what waits to be written to it, and how much was."""

    __slots__ = ("link", "mask", "open", "pending", "pipe", "piped", "sent", "spliced")

    def __init__(self, link: Link, sent: int, pending: bytes) -> None:
        self.link = link
        self.sent = sent
        self.pending = pending
        self.pipe: pipes.Pipe | None = None     # holds `piped` bytes for this side while it cannot take them
        self.piped = 0
        self.spliced = False                    # what goes to this side is spliced
        self.mask = IN
        self.open = True                        # this side may still say something


class Relay:
    """One session after login."""

    __slots__ = ("_backend", "_client", "_done", "_loop", "_state", "_timer", "_why", "last")

    def __init__(self, loop: Loop, client: Link, backend: Link, done: Callable[[int, str], None]) -> None:
        self._loop = loop
        self._done = done
        self._client = _Side(client, 0, b"")
        self._backend = _Side(backend, 0, b"")
        self._timer: Timer | None = None
        self._why = (CLIENT, "")
        self._state = RUNNING
        self.last = loop.now

    def start(self, *, to_client: bytes, to_backend: bytes, sent_client: int, sent_backend: int,
              client_mask: int = IN, backend_mask: int = IN) -> None:
        """Deliver what came too early, then take the descriptors over.  The masks are what the loop watches for now."""
        client, backend = self._client, self._backend
        client.sent, backend.sent = sent_client, sent_backend
        client.mask, backend.mask = client_mask, backend_mask
        client.pending, backend.pending = to_client, to_backend
        self._loop.swap(client.link.fd, self._client_event)
        self._loop.swap(backend.link.fd, self._backend_event)
        which = CLIENT
        try:
            self._flush(client)
            which = BACKEND
            self._flush(backend)
        except Broken as error:
            self._end(which, str(error))
            return
        self._watch()
        # TLS may hold decrypted bytes that no event will announce
        if isinstance(client.link, Tls) and client.link.pending():
            self._client_event(IN)
        if isinstance(backend.link, Tls) and self._state == RUNNING and backend.link.pending():
            self._backend_event(IN)

    def counts(self) -> tuple[str, str]:
        """(`in`, `out`) as logs show them: bytes written to the backend and to the client, `+N` for what is unsent."""
        return _count(self._backend), _count(self._client)

    def client_failure(self) -> str:
        """What was wrong with the end of the client's TLS stream, "" if nothing."""
        link = self._client.link
        return link.failure if isinstance(link, Tls) else ""

    def stop(self) -> None:
        """Let go of both sides without a word."""
        link = self.leave_client()
        self._loop.forget(link.fd)
        link.close()

    def leave_client(self) -> Link:
        """Let go of the backend; the client is somebody else's from now on, and still watched."""
        self._state = OVER
        self._done = _ignore
        if self._timer is not None:
            self._timer.cancel()
        self._loop.forget(self._backend.link.fd)
        self._backend.link.close()
        for side in (self._client, self._backend):
            if side.pipe is not None:
                pipes.discard(side.pipe)
                side.pipe = None
        return self._client.link

    def fail(self) -> None:
        """End at once: something is wrong with us, not with a side."""
        self._why = (CLIENT, "internal error")
        self._finish()

    # --- events ----------------------------------------------------------------------------------------------------

    def _client_event(self, mask: int) -> None:
        self._event(self._client, self._backend, CLIENT, mask)

    def _backend_event(self, mask: int) -> None:
        self._event(self._backend, self._client, BACKEND, mask)

    def _event(self, side: _Side, other: _Side, which: int, mask: int) -> None:
        if self._state == RUNNING and side.open and not (side.pending or side.piped or other.pending or other.piped):
            self._flow(side, other, which)
        elif self._state != OVER:
            self._unblock(side, other, which, mask)

    def _flow(self, side: _Side, other: _Side, which: int) -> None:
        """The ordinary case: nothing waits anywhere."""
        self.last = self._loop.now
        try:
            self._pull(side, other, which)
        except Broken as error:
            # reading and writing share the handler: the text tells which side it was
            self._end(which if str(error).startswith("read") else 1 - which, str(error))
            return
        if self._state == RUNNING and (other.pending or other.piped or not side.open or side.mask != side.link.wants):
            self._watch()

    def _unblock(self, side: _Side, other: _Side, which: int, mask: int) -> None:
        """Something waits to be written, or a side has ended."""
        self.last = self._loop.now
        unblocked = False
        try:
            if side.pending or side.piped:
                self._flush(side)
                unblocked = not (side.pending or side.piped)
        except Broken as error:
            self._end(which, str(error))
            return
        try:
            if self._state == RUNNING:
                if side.open and not (other.pending or other.piped):
                    self._pull(side, other, which)
                elif mask & (ERR | HUP):
                    if which == CLIENT:
                        self._ended(side, other, which, "read() failed: Connection reset by peer" if side.open else "")
                    else:
                        self._park(side)
        except Broken as error:
            self._end(which if str(error).startswith("read") else 1 - which, str(error))
            return
        if self._state == RUNNING:
            self._watch()
            if unblocked and other.link.tls:        # no event tells of bytes that are decrypted already
                self._event(other, side, 1 - which, 0)
        elif self._state == ENDING and not (self._client.pending or self._client.piped):
            self._finish()

    def _pull(self, side: _Side, other: _Side, which: int) -> None:
        """Read from `side`, write to `other`."""
        if other.spliced:
            return self._splice(side, other, which)
        link = side.link
        for _ in range(_TURNS):
            count = link.recv_into(_BUFFER)
            if count > 0:
                sent = other.link.send(_BUFFER[:count])
                other.sent += sent
                if sent < count:
                    if other.link.tls:          # a TLS record that was begun must be finished with the same bytes
                        sent += self._more(other, sent, count)
                    if sent < count:
                        other.pending = bytes(_BUFFER[sent:count])
                        return None
                if isinstance(link, Tls) and link.pending():
                    continue                    # a read takes a whole record: what is left of it, epoll does not know
                if count >= _BULK and link.splices and other.link.splices:
                    other.spliced = True
                return None
            if count == 0:
                self._ended(side, other, which, "")
            return None
        return None

    def _more(self, other: _Side, start: int, end: int) -> int:
        """TLS takes one record per write: go on until it blocks."""
        total = 0
        while start + total < end:
            sent = other.link.send(_BUFFER[start + total:end])
            if not sent:
                break
            other.sent += sent
            total += sent
        return total

    def _splice(self, side: _Side, other: _Side, which: int) -> None:
        try:
            pipe = pipes.borrow()
        except OSError:                         # out of descriptors: copying needs none
            other.spliced = False
            return
        try:
            count = os.splice(side.link.fd, pipe[1], pipes.CHUNK, flags=_SPLICE)
        except BlockingIOError:
            pipes.give_back(pipe)
            return
        except OSError as error:
            pipes.discard(pipe)
            if error.errno == 22:               # EINVAL: this kind of socket cannot
                other.spliced = False
                return
            raise Broken(f"read(size={pipes.CHUNK}) failed: {error.strerror}") from error
        if count == 0:
            pipes.give_back(pipe)
            self._ended(side, other, which, "")
            return
        other.pipe = pipe
        other.piped = count
        self._drain_pipe(other)

    def _drain_pipe(self, side: _Side) -> None:
        """Write what the side's pipe holds."""
        pipe = side.pipe
        assert pipe is not None
        while side.piped:
            try:
                count = os.splice(pipe[0], side.link.fd, side.piped, flags=_SPLICE)
            except BlockingIOError:
                return
            except OSError as error:
                raise Broken(f"write() failed: {error.strerror}") from error
            side.piped -= count
            side.sent += count
        side.pipe = None
        pipes.give_back(pipe)

    def _flush(self, side: _Side) -> None:
        if side.pipe is not None:
            self._drain_pipe(side)
        while side.pending:
            sent = side.link.send(side.pending)
            if not sent:
                return
            side.sent += sent
            side.pending = side.pending[sent:]
        if not side.piped and self._state == RUNNING and not self._other(side).open:
            side.link.shut()                    # the half-close that waited for these bytes

    # --- the end ---------------------------------------------------------------------------------------------------

    def _ended(self, side: _Side, other: _Side, which: int, reason: str) -> None:
        """`side` has said its last."""
        if which == BACKEND or reason or not side.open:
            # the one who ended first is the one who disconnected
            self._end(which if reason or other.open else 1 - which, reason)
            return
        side.open = False
        if not (other.pending or other.piped):
            other.link.shut()
        self._timer = self._loop.call_later(DRAIN, self._finish)

    def _end(self, which: int, reason: str) -> None:
        """It is over; but what the backend said before must still reach the client."""
        if self._state != RUNNING:
            self._finish()
            return
        self._state = ENDING
        self._why = (which, reason)
        client, backend = self._client, self._backend
        if (which == CLIENT and reason) or not (client.pending or client.piped):
            self._finish()
            return
        self._loop.unregister(backend.link.fd)      # a dead peer would be announced again and again
        client.open = False
        if self._timer is None:
            self._timer = self._loop.call_later(DRAIN, self._finish)
        self._arm(client, backend)

    def _finish(self) -> None:
        if self._state == OVER:
            return
        self._state = OVER
        if self._timer is not None:
            self._timer.cancel()
        self._done(*self._why)

    # --- what to wait for ------------------------------------------------------------------------------------------

    def _other(self, side: _Side) -> _Side:
        return self._backend if side is self._client else self._client

    def _watch(self) -> None:
        self._arm(self._client, self._backend)
        self._arm(self._backend, self._client)

    def _arm(self, side: _Side, other: _Side) -> None:
        mask = 0
        if side.open and not (other.pending or other.piped):
            mask = side.link.wants
        if side.pending or side.piped:
            mask |= OUT
        if mask != side.mask:
            if side.mask != _PARKED:
                self._loop.modify(side.link.fd, mask)
            elif mask:
                self._loop.register(side.link.fd, mask, self._backend_event)
            else:
                return
            side.mask = mask

    def _park(self, side: _Side) -> None:
        """The backend is gone, but what it said last waits in the kernel until the client takes more: the hang-up
        would be announced again and again meanwhile."""
        self._loop.unregister(side.link.fd)
        side.mask = _PARKED


def _count(side: _Side) -> str:
    unsent = len(side.pending) + side.piped
    return f"{side.sent}+{unsent}" if unsent else str(side.sent)
