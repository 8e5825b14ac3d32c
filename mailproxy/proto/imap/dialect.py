"""IMAP as a dialect: from the imap_* settings to what its frontends share."""
from __future__ import annotations

import shlex

from mailproxy.proto import spec
from mailproxy.proto.imap import wire
from mailproxy.proto.imap.backend import ImapBackend
from mailproxy.proto.imap.frontend import ImapFrontend, ImapSettings, offered

_CAPABILITY = "IMAP4rev1 SASL-IR LOGIN-REFERRALS ID ENABLE IDLE"
#: What `*` stands for in imap_id_send.
_ID_DEFAULTS = {"name": "Dovecot", "version": "2.3.19.1", "os": "Linux", "support-url": "https://www.dovecot.org/",
                "support-email": "dovecot@dovecot.org"}


class Imap:
    name = "imap"
    ports = (143, 993)
    mechanism = ""
    apop = False
    final_reply = False
    unfinished = ""

    def share(self, offer: spec.Offer) -> ImapSettings:
        settings = offer.settings
        return ImapSettings(
            greeting=offer.greeting.encode("utf-8", "surrogateescape"),
            capability=capability(settings.get("imap_capability", ""), bool(settings.get("imap_literal_minus"))),
            auth=offered(offer.mechanisms, plaintext=True),
            auth_insecure=b"" if offer.tls_required else offered(offer.mechanisms, plaintext=False),
            login_disabled=offer.plaintext_needs_tls,
            tls_available=offer.tls_available,
            id_reply=id_reply(settings.get("imap_id_send", "name *")),
            id_retain=bool(settings.get("imap_id_retain")),
            literal_minus=bool(settings.get("imap_literal_minus")),
        )

    def frontend(self, shared: ImapSettings) -> ImapFrontend:
        return ImapFrontend(shared)

    def backend(self, order: spec.Order) -> ImapBackend:
        return ImapBackend(order)


def capability(setting: str, literal_minus: bool) -> bytes:
    """imap_capability: empty is the default list, `+X` adds to it, anything else replaces all of it."""
    if setting and not setting.startswith("+"):
        return setting.encode()
    added = setting[1:].strip()
    return " ".join(filter(None, (_CAPABILITY, added, "LITERAL-" if literal_minus else "LITERAL+"))).encode()


def id_reply(setting: str) -> bytes:
    """imap_id_send: `key value key value …`, values perhaps quoted, `*` for the default."""
    try:
        words = shlex.split(setting)
    except ValueError:                  # an unbalanced quote: take the words as they stand
        words = setting.split()
    pairs = [(key, _ID_DEFAULTS.get(key, "") if value == "*" else value) for key, value in
             zip(words[::2], words[1::2], strict=False)]
    if not pairs:
        return b"* ID NIL\r\n"
    return b"* ID (%b)\r\n" % b" ".join(wire.quoted(key.encode()) + b" " + wire.quoted(value.encode())
                                         for key, value in pairs)
