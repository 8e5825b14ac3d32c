"""One message: from MAIL to the last recipient's answer.

In: recipients and pieces of the message from the client's connection, answers of lookups and backends.  Out: one reply
for each recipient, at RCPT and again after the message, each its own: a backend that fails takes only its recipients
with it.  It knows no sockets.
"""
from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any

from mailproxy.delivery import lookup, received, route
from mailproxy.delivery.outgoing import Outgoing
from mailproxy.delivery.route import Connection, Refusal, Route
from mailproxy.delivery.spool import Spool
from mailproxy.proto.lmtp import backend as machine
from mailproxy.proto.lmtp.address import Address
from mailproxy.proto.lmtp.backend import Order, shown
from mailproxy.proto.lmtp.frontend import Mail, Recipient
from mailproxy.proto.smtp import wire
from mailproxy.proto.smtp.wire import Reply

if TYPE_CHECKING:
    from mailproxy.delivery.connection import Connection as Client

#: An enhanced code that contradicts the reply's own.
_FOREIGN_CODE = re.compile(rb"\A[245]\.[0-9]{1,3}\.[0-9]{1,3} ")
#: Bytes of a backend's reply that are kept for the client, who may have named thousands of recipients.
_TEXT_MAX = 4096
_TIMED_OUT = "Remote server not answering (transaction timed out while waiting for reply to DATA)"


class Delivery:
    """A recipient on a backend.  `reply`: its last answer, b"" while there is none."""

    __slots__ = ("label", "link", "place", "recipient", "reply", "route", "session")

    def __init__(self, recipient: Recipient, to: Route, session: str) -> None:
        self.recipient = recipient
        self.route = to
        self.session = session
        self.link: Outgoing | None = None
        self.reply = b""
        self.place = 0                  # among the accepted ones
        self.label = bytes(recipient.address).decode("utf-8", "surrogateescape")


class Transaction:
    """`session`: the id that logs and backends get."""

    __slots__ = (
        "_accepted",
        "_begun",
        "_broken",
        "_client",
        "_closed",
        "_links",
        "_made",
        "_mail",
        "_replied",
        "_spool",
        "session",
    )

    def __init__(self, client: Client, mail: Mail, session: str) -> None:
        self._client = client
        self._mail = mail
        self.session = session
        self._links: dict[Connection, Outgoing] = {}
        self._made: list[Outgoing] = []
        self._accepted: list[Delivery] = []
        self._spool: Spool | None = None
        self._broken = ""               # why the message could not be spooled
        self._begun = 0.0
        self._replied = 0
        self._closed = False

    # --- recipients ------------------------------------------------------------------------------------------------

    def add(self, recipient: Recipient) -> None:
        """Look it up, ask its backend, answer."""
        client = self._client
        setup = client.setup
        plain, detail = route.split_detail(recipient.address, setup.delimiters)
        name = plain.user().decode("utf-8", "surrogateescape")
        if not setup.proxies:
            self._refuse(recipient, route.lookup_failure("lmtp_proxy is off, and no mail is stored here"))
            return
        client.lookups.ask(name, client.lookup_parameters(recipient),
                           lambda answer: self._found(recipient, name, detail, answer))

    def _found(self, recipient: Recipient, name: str, detail: bytes, answer: lookup.Answer) -> None:
        if self._closed:
            return
        if answer == lookup.NOT_FOUND:
            self._refuse(recipient, Refusal(550, b"5.1.1", f"User doesn't exist: {name}"))
        elif isinstance(answer, str):
            self._refuse(recipient, route.lookup_failure())
        elif "proxy" not in answer:
            self._refuse(recipient, route.lookup_failure("the user is not proxied, and no mail is stored here"))
        else:
            client = self._client
            found = route.choose(answer, recipient.address, detail, client.local, client.ttl)
            if isinstance(found, Refusal):
                self._refuse(recipient, found)
            else:
                self._send_to(recipient, found)

    def _refuse(self, recipient: Recipient, refusal: Refusal) -> None:
        to = bytes(recipient.address)
        if refusal.reason:
            self._client.log_error(f"rcpt {to.decode('utf-8', 'surrogateescape')}: {refusal.reason}")
        code, enhanced, text = refusal.reply
        reply = wire.reply(code, b"<%b> %b" % (to, text.encode("utf-8", "surrogateescape")), enhanced)
        self._client.answer(recipient, reply, accepted=False, tried=False)

    def _send_to(self, recipient: Recipient, to: Route) -> None:
        session = self.session if recipient.number == 1 else f"{self.session}:R{recipient.number}"
        delivery = Delivery(recipient, to, session)
        link = self._links.get(to.connection)
        if link is None or not link.usable:
            link = self._connect(to)
        delivery.link = link
        link.add(delivery, route.parameters(to, recipient.address, recipient.orcpt),
                 route.forwarded(to, recipient.forward))

    def _connect(self, to: Route) -> Outgoing:
        client = self._client
        identity = client.identity(f"{self.session}:P{len(self._made) + 1}", smtp=to.smtp) if to.trusted else ()
        order = Order(client.setup.hostname, bytes(self._mail.sender), self._mail.body, to.smtp, to.mode == "starttls",
                      identity)
        link = Outgoing(client.loop, client.log, to, order, client.setup.contexts, self, client.next_link(),
                        preface=client.proxy_header() if to.haproxy else b"", rawlog=client.setup.backend_rawlog)
        self._links[to.connection] = link
        self._made.append(link)
        return link

    def recipient(self, token: Any, reply: Reply) -> None:
        """A backend's answer to RCPT."""
        delivery: Delivery = token
        if self._closed or delivery.link is None:
            return
        if reply.is_success():
            text = b" ".join(reply.lines)[:_TEXT_MAX]
            self._accepted.append(delivery)
            self._client.answer(delivery.recipient, wire.reply(reply.code, text, reply.enhanced or b"2.1.0"),
                                accepted=True)
        else:
            self._client.answer(delivery.recipient, refusal(delivery.recipient.address, reply), accepted=False)

    # --- the message -----------------------------------------------------------------------------------------------

    def begin(self) -> None:
        self._spool = Spool(self._client.setup.temp_dir)

    def chunk(self, data: bytes) -> None:
        if self._spool is None or self._broken:
            return
        try:
            self._spool.add(data)
        except OSError as error:
            self._broken = error.strerror or str(error)
            self._client.log_error(f"Writing the message to {self._client.setup.temp_dir} failed: {self._broken}")
            self._spool.close()

    def deliver(self) -> None:
        """The message is complete."""
        self._begun = self._client.loop.now
        self._accepted.sort(key=lambda delivery: delivery.recipient.number)
        for place, delivery in enumerate(self._accepted, 1):
            delivery.place = place
        spool = self._spool
        assert spool is not None
        if self._broken:
            for delivery in self._accepted:
                self._settle(delivery, wire.reply(452, b"<%b> Temporary internal failure" %
                                                  bytes(delivery.recipient.address), b"4.3.0"))
            return
        head = self._header()
        timeout = max(delivery.route.timeout for delivery in self._accepted)
        links: dict[Outgoing, None] = {}
        for delivery in self._accepted:
            link = delivery.link
            assert link is not None
            links[link] = None
            if not delivery.reply:
                link.waiting[delivery] = None
        for link in self._made:
            if link not in links:
                link.end()              # everybody on it was refused
        for link in links:
            link.send(head, spool, timeout)
        self._answer()

    def _header(self) -> bytes:
        client = self._client
        if not client.setup.add_received:
            return b""
        only = bytes(self._accepted[0].recipient.address) if len(self._accepted) == 1 else b""
        return received.header(helo=client.frontend.helo, ip=client.rip, hostname=client.setup.hostname,
                               tls=client.tls_words(), session=self.session, sender=bytes(self._mail.sender),
                               recipient=only, now=time.time())

    def final(self, token: Any, reply: Reply) -> None:
        """A backend's answer to the message."""
        delivery: Delivery = token
        if self._closed or delivery.reply:
            return
        self._log(delivery, shown(reply), sent=reply.is_success())
        if reply.is_success():
            text = b"<%b> %b Saved" % (bytes(delivery.recipient.address),
                                       delivery.session.encode("utf-8", "surrogateescape"))
            self._settle(delivery, wire.reply(250, text, reply.enhanced or b"2.0.0"))
        else:
            self._settle(delivery, refusal(delivery.recipient.address, reply))

    def lost(self, link: Outgoing, kind: str, text: str) -> None:
        """A backend is gone: exactly those who wait for it have failed."""
        if self._closed:
            return
        waiting, link.waiting = list(link.waiting), {}
        for delivery in waiting:
            reply = self._failure(delivery, kind, text)
            if not delivery.place:
                self._client.answer(delivery.recipient, reply, accepted=False)
                continue
            words = f"451 4.4.0 {_TIMED_OUT}" if kind == machine.TIMED_OUT else text
            self._log(delivery, words, sent=False, error=kind != machine.TIMED_OUT and not words[:3].isdigit())
            self._settle(delivery, reply)

    def _failure(self, delivery: Delivery, kind: str, text: str) -> bytes:
        if kind == machine.TIMED_OUT and delivery.place:
            words = f"<{delivery.label}> {_TIMED_OUT}"
        elif self._client.setup.verbose:
            words = f"Proxy failed: {text} (session={delivery.session})"
        else:
            words = f"Proxy failed ({kind}, session={delivery.session})"
        return wire.reply(451, words.encode("utf-8", "surrogateescape"), b"4.4.0")

    def _log(self, delivery: Delivery, words: str, *, sent: bool, error: bool = False) -> None:
        to, count = delivery.route, len(self._accepted)
        elapsed = (self._client.loop.now - self._begun) * 1000
        target = bytes(to.to).decode("utf-8", "surrogateescape")
        text = (f"rcpt {delivery.label}: <{delivery.session}>: {'Sent message' if sent else 'Failed to send message'} "
                f"to <{target}> at {to.host}:{to.port}: {words} ({delivery.place}/{count} at {elapsed:.0f} ms)")
        if error:
            self._client.log_error(text)
        else:
            self._client.log_info(text)

    def _settle(self, delivery: Delivery, reply: bytes) -> None:
        delivery.reply = reply
        self._answer()

    def _answer(self) -> None:
        """Replies leave in the order of recipients, each as soon as those before it are there."""
        accepted = self._accepted
        while self._replied < len(accepted) and accepted[self._replied].reply:
            self._client.final(accepted[self._replied].reply)
            self._replied += 1
        if self._replied == len(accepted) and not self._closed:
            self.end()
            self._client.delivered()

    # --- the end ---------------------------------------------------------------------------------------------------

    @property
    def delivering(self) -> bool:
        """The message is complete and not everybody has answered: whatever the client does now, it goes out."""
        return bool(self._begun) and not self._closed

    def end(self) -> None:
        """Let go of everything; what was not sent never is."""
        if self._closed:
            return
        self._closed = True
        for link in self._made:
            link.end()
        if self._spool is not None:
            self._spool.close()


def refusal(to: Address, reply: Reply) -> bytes:
    """A backend's refusal with our recipient in the place of its own."""
    lines = b"\n".join(reply.lines)[:_TEXT_MAX].split(b"\n")
    first = lines[0]
    if first.startswith(b"<") and b"> " in first:
        first = first.partition(b"> ")[2]
    if not reply.enhanced:
        first = _FOREIGN_CODE.sub(b"", first)
    lines[0] = b"<%b> %b" % (bytes(to), first)
    enhanced = reply.enhanced or b"%d.0.0" % (reply.code // 100)
    return wire.reply(reply.code, b"\n".join(lines), enhanced)
