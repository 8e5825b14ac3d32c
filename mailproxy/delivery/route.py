"""What the auth server's answer about a recipient means: on which server, and under which name, it lives.

In: the fields of a PASS reply, the address as the client gave it.  Out: a Route, or a Refusal with the reply for the
client and the reason for the log.  It knows nothing of sockets.
"""
from __future__ import annotations

from mailproxy.net.addr import is_ip, normal
from mailproxy.net.proxyhdr import KINDS as HAPROXY_KINDS
from mailproxy.proto.lmtp import address
from mailproxy.proto.lmtp.address import Address
from mailproxy.proto.smtp.wire import to_xtext

#: Seconds that a message may wait for its answer, unless proxy_timeout says otherwise.
TIMEOUT = 125.0
PORT, PORT_SMTP = 24, 25
_ANY_CERT = "any-cert"
#: Digits of a number.
_DIGITS = 9

Connection = tuple[bool, str, str, str | None, int, str, bool]


class Route:
    """`connection`: recipients with an equal one share it."""

    __slots__ = ("any_cert", "forward", "haproxy", "host", "ip", "mode", "port", "smtp", "source", "timeout",
                 "to", "trusted")

    def __init__(self, host: str, ip: str, to: Address) -> None:
        self.host = host
        self.ip = ip
        self.to = to
        self.port = 0
        self.smtp = False
        self.mode = ""                  # "", "ssl", "starttls"
        self.any_cert = False
        self.source: str | None = None
        self.haproxy = False            # a PROXY header goes first
        self.timeout = TIMEOUT
        self.trusted = True             # send XCLIENT and XRCPTFORWARD
        self.forward: list[tuple[str, str]] = []

    @property
    def connection(self) -> Connection:
        return (self.smtp, self.host, self.ip, self.source, self.port,
                f"{self.mode}{self.any_cert}{self.haproxy}", self.trusted)


class Refusal:
    """`reply`: code, enhanced code, text behind the recipient; `reason`: for the log, "" for none."""

    __slots__ = ("reason", "reply")

    def __init__(self, code: int, enhanced: bytes, text: str, reason: str = "") -> None:
        self.reply = (code, enhanced, text)
        self.reason = reason


def lookup_failure(reason: str = "") -> Refusal:
    return Refusal(451, b"4.3.0", "Temporary user lookup failure", reason)


def split_detail(to: Address, delimiters: str) -> tuple[Address, bytes]:
    """The address without its detail, and the detail with its delimiter."""
    places = [place for char in delimiters.encode() if (place := to.local.find(char)) > 0]
    if not places:
        return to, b""
    return Address(to.local[:min(places)], to.domain), to.local[min(places):]


def choose(fields: dict[str, str], original: Address, detail: bytes, local: tuple[str, int],
           ttl: int | None) -> Route | Refusal:
    """Of fields that have `proxy`.  `local`: the client's idea of our address; `ttl`: of the client, None: unknown."""
    name = fields["destuser"] if "destuser" in fields else fields.get("user", "")
    to = address.from_user(name.encode("utf-8", "surrogateescape"))
    host = fields.get("host", "")
    if not host:
        return lookup_failure("proxy: host not given")
    hostip = fields.get("hostip", "")
    ip = normal(hostip) if hostip else host
    if ip is None:
        return lookup_failure(f"proxy: Invalid hostip {hostip}")
    if not is_ip(ip):
        return lookup_failure(f"proxy: host {host} is not an IP (auth should have changed it)")
    route = Route(host, ip, original)
    problem = _options(route, fields, local)
    if problem:
        return lookup_failure(f"proxy: {problem}")
    if to is None:
        user = original.user().decode("utf-8", "replace")
        return Refusal(550, b"5.3.5", "Internal user lookup failure",
                       f"{user}: Username `{name}' returned by passdb lookup is not a valid SMTP address")
    route.to = Address(to.local + detail, to.domain)
    target = bytes(route.to).decode("utf-8", "replace")
    if route.port == local[1] and ip == local[0] and route.to == original:
        return Refusal(554, b"5.4.6", "Proxying loops to itself", f"Proxying to <{target}> loops to itself")
    if ttl == 0:
        return Refusal(554, b"5.4.6", "Proxying appears to be looping (TTL=0)",
                       f"Proxying to <{target}> appears to be looping (TTL=0)")
    return route


def _options(route: Route, fields: dict[str, str], local: tuple[str, int]) -> str:
    """Everything but host and user; answers what is wrong."""
    protocol = fields.get("protocol", "lmtp")
    if protocol not in ("lmtp", "smtp"):
        return f"Unknown protocol {protocol}"
    route.smtp = protocol == "smtp"
    if "port" in fields:
        port = fields["port"]
        if not (_is_number(port) and 0 < int(port) < 65536):
            return f"Invalid port number {port}"
        route.port = int(port)
    elif "protocol" in fields:
        route.port = PORT_SMTP if route.smtp else PORT
    else:
        route.port = local[1] or PORT
    if "proxy_timeout" in fields:
        timeout = fields["proxy_timeout"]
        if not _is_number(timeout):
            return f"Invalid proxy_timeout value {timeout}"
        route.timeout = float(timeout) or TIMEOUT
    if "source_ip" in fields:
        route.source = normal(fields["source_ip"])
        if route.source is None:
            return f"Invalid source_ip {fields['source_ip']}"
    route.mode = "starttls" if "starttls" in fields else "ssl" if "ssl" in fields else ""
    route.any_cert = bool(route.mode) and fields[route.mode] == _ANY_CERT
    kind = fields.get("proxy_haproxy")
    if kind is not None and kind not in HAPROXY_KINDS:
        return f"Unsupported proxy_haproxy {kind}"
    route.haproxy = kind is not None
    route.trusted = "proxy_not_trusted" not in fields
    route.forward = [(key[8:], value) for key, value in fields.items() if key[:8].lower() == "forward_"]
    return ""


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= _DIGITS


def parameters(route: Route, original: Address, orcpt: bytes) -> bytes:
    """The path and the parameters of RCPT: the address before we changed it goes along."""
    if not orcpt and route.to != original:
        orcpt = b"rfc822;" + to_xtext(bytes(original))
    return b"<%b>%b" % (bytes(route.to), b" ORCPT=" + orcpt if orcpt else b"")


def forwarded(route: Route, received: bytes) -> bytes:
    """The XRCPTFORWARD parameter: what came with the recipient, changed and continued by what the passdb said."""
    variables: dict[bytes, bytes] = {}
    for word in received.split(b"\t") if received else ():
        key, equals, value = word.partition(b"=")
        variables[key] = equals + value
    for name, text in route.forward:
        value = text.encode("utf-8", "surrogateescape")
        variables[name.encode("utf-8", "surrogateescape")] = b"=" + value if value else b""
    if not variables or not route.trusted:
        return b""
    return b" XRCPTFORWARD=" + to_xtext(b"\t".join(key + value for key, value in variables.items()))
