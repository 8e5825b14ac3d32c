"""POP3 as a dialect: what its frontends share."""
from __future__ import annotations

from mailproxy.proto import spec
from mailproxy.proto.pop3.backend import Pop3Backend
from mailproxy.proto.pop3.frontend import Pop3Frontend, Pop3Settings


class Pop3:
    name = "pop3"
    ports = (110, 995)
    mechanism = ""
    apop = True
    final_reply = False
    unfinished = ""

    def share(self, offer: spec.Offer) -> Pop3Settings:
        return Pop3Settings(
            greeting=offer.greeting.encode("utf-8", "surrogateescape"),
            mechanisms=_names(offer, plaintext=True),
            mechanisms_insecure=_names(offer, plaintext=False),
            login_disabled=offer.plaintext_needs_tls,
            tls_available=offer.tls_available,
        )

    def frontend(self, shared: Pop3Settings) -> Pop3Frontend:
        return Pop3Frontend(shared)

    def backend(self, order: spec.Order) -> Pop3Backend:
        return Pop3Backend(order)


def _names(offer: spec.Offer, *, plaintext: bool) -> tuple[bytes, ...]:
    return tuple(name.encode() for name, clear in offer.mechanisms if plaintext or not clear)
