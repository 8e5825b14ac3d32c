"""A session after login: what its last log line needs, and nothing else; thousands of them wait in a worker.

In: the relay's word that it is over, or the worker's that it must be.  Out: the line, and the end of both connections.
"""
from __future__ import annotations

from typing import TYPE_CHECKING

from mailproxy.login import logline
from mailproxy.login.setup import Setup
from mailproxy.relay.lingering import Lingering
from mailproxy.relay.relay import BACKEND, CLIENT, Relay

if TYPE_CHECKING:
    from mailproxy.login.worker import Worker


class Proxied:
    """With a client in clear text."""

    __slots__ = ("elements", "label", "relay", "rip", "setup", "worker")

    relay: Relay | Lingering
    lent = False

    def __init__(self, worker: Worker, setup: Setup, label: str, elements: str, rip: str) -> None:
        self.worker = worker
        self.setup = setup
        self.label = label
        self.elements = elements
        self.rip = rip

    def done(self, side: int, reason: str) -> None:
        """Called by the relay, once."""
        relay = self.relay
        assert isinstance(relay, Relay)
        sent_in, sent_out = relay.counts()
        who = "client" if side == CLIENT else "server"
        text = f"{self.label}Disconnected by {who}" + (f": {reason}" if reason else "")
        idle = int(self.worker.loop.now - relay.last)
        text += f" ({idle}s idle, in={sent_in}, out={sent_out})"
        if side == CLIENT or not self.setup.policy.disconnect_delay:
            self._log(text, side)
            self._end()
        else:
            self._end_in_turn(relay, text)

    def cut(self, reason: str) -> None:
        """We end it ourselves."""
        if isinstance(self.relay, Relay):       # else the log has it already
            self._log(f"{self.label}Disconnected by proxy: {reason}", BACKEND)
        self._end()

    def kick(self) -> None:
        """The administrator ends it."""
        if isinstance(self.relay, Relay):
            self._end_in_turn(self.relay, f"{self.label}Disconnected by proxy: Kicked by admin")

    def _end_in_turn(self, relay: Relay, text: str) -> None:
        """The backend's side ends now, the client's perhaps later."""
        delay = self.worker.disconnect_delay(self)
        if not delay:
            self._log(text, BACKEND)
            self._end()
            return
        self._log(f"{text} - disconnecting client in {delay * 1000:.0f}ms", BACKEND)
        link = relay.leave_client()
        self.relay = lingering = Lingering(self.worker.loop, link, relay.last)
        lingering.start(delay, self._end)

    # The label is what is kept of who and where: proxy(USER,IP:PORT), colon, space.

    @property
    def user(self) -> str:
        return self.label[6:self.label.rindex(",")]

    @property
    def backend(self) -> str:
        """`IP:PORT`"""
        return self.label[self.label.rindex(",") + 1:-3]

    def _log(self, text: str, side: int) -> None:
        self.setup.log.info(self.setup.format.line(text, self.elements))

    def _end(self) -> None:
        self.relay.stop()
        self.worker.ended(self)


class ProxiedTls(Proxied):
    """With TLS towards the client, whose end the last line tells of."""

    __slots__ = ("place",)

    def __init__(self, worker: Worker, setup: Setup, label: str, elements: str, rip: str) -> None:
        self.place = elements.find(logline.TLS_END)     # ASCII text takes half the memory without the mark
        super().__init__(worker, setup, label, elements.replace(logline.TLS_END, ""), rip)

    def _log(self, text: str, side: int) -> None:
        why = self.relay.client_failure() if isinstance(self.relay, Relay) else ""
        if side == CLIENT and why and self.place >= 0:
            self.elements = f"{self.elements[:self.place]}: {why}{self.elements[self.place:]}"
        super()._log(text, side)


class Lent(Proxied):
    """A client whom a mail process serves, through us: with TLS, or with more to say than a hand-off holds.  It was
    logged when it came; the mail process logs its end."""

    __slots__ = ()
    lent = True

    def done(self, side: int, reason: str) -> None:
        self._end()

    def cut(self, reason: str) -> None:
        self._end()
