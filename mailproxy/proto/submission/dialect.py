"""Submission as a dialect: from the submission_* settings to what its frontends share."""
from __future__ import annotations

from mailproxy.proto import spec
from mailproxy.proto.submission.backend import SubmissionBackend
from mailproxy.proto.submission.frontend import SubmissionFrontend, SubmissionSettings

_XCLIENT = b"ADDR PORT PROTO HELO LOGIN SESSION TTL TIMEOUT FORWARD"
#: For want of another: RFC 5321 wants no text behind the name, but clients do.
_GREETING = b"Dovecot ready."
#: Offered without submission_backend_capabilities.
_DEFAULT = ("8BITMIME",)
#: The client works around a backend that can next to nothing: only what the setting lists is offered.
_EXOTIC = "exotic-backend"
#: Capabilities by their place in the reply to EHLO: before AUTH, before STARTTLS, behind it.  True: whatever the
#: backend can, Dovecot's submission service has it.
_PLACES = ((("8BITMIME", False),),
           (("BINARYMIME", False), ("BURL", True), ("CHUNKING", True), ("DSN", False), ("ENHANCEDSTATUSCODES", True),
            ("SIZE", True)),
           (("PIPELINING", True), ("VRFY", False)))


class Submission:
    name = "submission"
    ports = (587, 587)
    mechanism = "PLAIN"
    apop = False
    final_reply = False
    unfinished = " (unfinished AUTH command)"

    def share(self, offer: spec.Offer) -> SubmissionSettings:
        settings = offer.settings
        listed = settings.get("submission_backend_capabilities", "").upper().split()
        exotic = _EXOTIC in settings.get("submission_client_workarounds", "").split()
        places = [tuple(_line(name, settings) for name, ours in place
                        if name in listed or (not listed and name in _DEFAULT) or (ours and not exotic))
                  for place in _PLACES]
        return SubmissionSettings(
            machine=offer.machine.encode(),
            greeting=offer.greeting.encode("utf-8", "surrogateescape") or _GREETING,
            before_auth=places[0], before_tls=places[1], last=places[2],
            auth=offered(offer.mechanisms, plaintext=True),
            auth_insecure=None if offer.tls_required else offered(offer.mechanisms,
                                                                  plaintext=not offer.plaintext_needs_tls),
            tls_available=offer.tls_available,
            xclient=_XCLIENT)

    def frontend(self, shared: SubmissionSettings) -> SubmissionFrontend:
        return SubmissionFrontend(shared)

    def backend(self, order: spec.Order) -> SubmissionBackend:
        return SubmissionBackend(order)


def _line(name: str, settings: spec.Settings) -> bytes:
    if name == "BURL":
        return b"BURL imap"
    size = settings.get("submission_max_mail_size", 0)
    return b"SIZE %d" % size if name == "SIZE" and size else name.encode()


def offered(mechanisms: tuple[tuple[str, bool], ...], *, plaintext: bool) -> bytes:
    """`X Y` of (name, is clear text)."""
    return b" ".join(name.encode() for name, clear in mechanisms if plaintext or not clear)
