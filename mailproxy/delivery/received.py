"""The Received header that a message gets on its way through (RFC 5321, section 4.4)."""
from __future__ import annotations

from email.utils import formatdate


def header(*, helo: bytes, ip: str, hostname: bytes, tls: str, session: str, sender: bytes, recipient: bytes,
           now: float) -> bytes:
    """`tls`: version and cipher, "" without TLS; `recipient`: b"" if there is more than one."""
    lines = [b"Received: from %b ([%b])" % (helo or b"unknown", ip.encode() or b"unknown")]
    if tls:
        lines.append(b"\t(using %b)" % tls.encode())
    lines.append(b"\tby %b with LMTP%b" % (hostname, b"S" if tls else b""))
    lines.append(b"\tid " + session.encode("utf-8", "surrogateescape"))
    lines.append(b"\t(envelope-from <%b>)" % sender)
    date = formatdate(now, localtime=True).encode()
    if recipient:
        lines.append(b"\tfor <%b>; %b" % (recipient, date))
    else:
        lines[-1] += b"; " + date
    return b"\r\n".join(lines) + b"\r\n"
