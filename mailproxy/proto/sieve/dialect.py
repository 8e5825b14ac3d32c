"""ManageSieve as a dialect: from the managesieve_* settings to what its frontends share."""
from __future__ import annotations

from mailproxy.proto import spec
from mailproxy.proto.sieve import wire
from mailproxy.proto.sieve.backend import SieveBackend
from mailproxy.proto.sieve.frontend import SieveFrontend, SieveSettings


class Sieve:
    name = "sieve"
    ports = (4190, 4190)
    mechanism = "PLAIN"
    apop = False
    final_reply = True
    unfinished = ""

    def share(self, offer: spec.Offer) -> SieveSettings:
        settings = offer.settings
        lines = [("IMPLEMENTATION", settings.get("managesieve_implementation_string", "")),
                 ("SIEVE", settings.get("managesieve_sieve_capability", "")),
                 ("NOTIFY", settings.get("managesieve_notify_capability", ""))]
        return SieveSettings(
            greeting=wire.text(offer.greeting),
            capabilities=b"".join(b"%b %b\r\n" % (wire.text(name), wire.text(value)) for name, value in lines
                                  if value or name != "NOTIFY"),
            sasl=_names(offer, plaintext=True),
            sasl_insecure=wire.text("") if offer.tls_required else _names(offer, plaintext=False),
            login_disabled=offer.plaintext_needs_tls,
            tls_available=offer.tls_available,
        )

    def frontend(self, shared: SieveSettings) -> SieveFrontend:
        return SieveFrontend(shared)

    def backend(self, order: spec.Order) -> SieveBackend:
        return SieveBackend(order)


def _names(offer: spec.Offer, *, plaintext: bool) -> bytes:
    return wire.text(" ".join(name for name, clear in offer.mechanisms if plaintext or not clear))
