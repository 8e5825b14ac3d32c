"""From the fields of a successful authentication to where and how a session is proxied.

In: the fields of the auth server's OK, what the session knows.  Out: a Target, or the reason why it cannot be proxied
(the text of the log line).  Presence counts for switches: `proxy=no` proxies, `ssl=no` means verified TLS.
"""
from __future__ import annotations

import re

from mailproxy import sasl
from mailproxy.net.addr import is_ip, normal
from mailproxy.net.proxyhdr import KINDS as HAPROXY_KINDS
from mailproxy.secret import Secret

#: SASL mechanisms that `proxy_mech` may name.
MECHANISMS = sasl.CLIENT_NAMES
ANY_CERT = "any-cert"
#: The value of `proxy_noauth` that does without an identity of the user.
ANONYMOUS = "anonymous"
_INTERVAL = re.compile(r"([0-9]{1,18})\s*([a-z]*)\Z", re.I)
_UNITS = (("milliseconds", 0.001), ("millisecs", 0.001), ("mseconds", 0.001), ("msecs", 0.001), ("seconds", 1.0),
          ("secs", 1.0), ("minutes", 60.0), ("mins", 60.0), ("hours", 3600.0), ("days", 86400.0), ("weeks", 604800.0))


class Target:
    """A checked destination with credentials."""

    __slots__ = ("anonymous", "any_cert", "destuser", "forward", "haproxy", "host", "host_down_after", "ip", "master",
                 "mechanism", "noauth", "password", "pipelining", "port", "refresh", "source", "starttls", "timeout",
                 "tls", "trusted", "warnings")

    def __init__(self, host: str, ip: str, port: int, destuser: str, password: Secret) -> None:
        self.host = host
        self.ip = ip
        self.port = port
        self.destuser = destuser
        self.password = password
        self.master = ""
        self.mechanism = ""
        self.source: str | None = None
        self.timeout = 0.0              # 0: login_proxy_timeout
        self.host_down_after = 30.0
        self.tls = False                # implicit TLS
        self.starttls = False
        self.any_cert = False
        self.pipelining = True
        self.trusted = True             # send ID / XCLIENT
        self.noauth = False             # where the protocol has a way: log in by XCLIENT alone,
        self.anonymous = False          # or without any identity
        self.refresh = 0                # seconds between words that the user is still there
        self.haproxy = ""               # the kind of PROXY header that goes first
        self.forward: tuple[tuple[str, str], ...] = ()
        self.warnings: tuple[str, ...] = ()     # errors in fields that have a default to fall back to



class Refused:
    """Why a session cannot be proxied; for the log."""

    __slots__ = ("reason",)

    def __init__(self, reason: str) -> None:
        self.reason = reason


def interval(text: str, *, bare_seconds: bool) -> float | str:
    """Seconds of a time with unit; a str says what is wrong.  `bare_seconds`: a plain number means seconds."""
    match = _INTERVAL.match(text.strip())
    if match is None:
        return f"Invalid time interval: {text}"
    number, unit = int(match[1]), match[2].lower()
    if not unit:
        if bare_seconds or number == 0:
            return float(number)
        return f"Time interval '{text}' is missing units (add e.g. 's' for seconds)"
    if unit == "m":
        return number * 60.0
    for name, factor in _UNITS:
        if name.startswith(unit) and (factor >= 1 or len(unit) > 1):
            return number * factor
    return f"Invalid time interval: {text}"


_SPECIAL = frozenset(("proxy", "host", "hostip", "port", "destuser", "pass", "master", "proxy_mech", "proxy_timeout",
                      "ssl", "starttls", "source_ip", "proxy_nopipelining", "proxy_not_trusted",
                      "proxy_host_immediate_failure_after", "proxy_refresh", "proxy_haproxy", "proxy_noauth"))

_COMMON = frozenset(("proxy", "host", "port", "pass", "hostip", "destuser"))


def choose(fields: dict[str, str], user: str, password: Secret | None, ports: tuple[int, int],
           local: tuple[str, int]) -> Target | Refused:
    """Check in the order in which Dovecot checks, so that the same reason is logged.

    `user`: the name that was logged in; `password`: what the client gave, if that is known; `ports`: the protocol's
    default without and with implicit TLS; `local`: the client's idea of our address, for the loop check.
    """
    given = fields.get("pass")
    secret = Secret(given) if given is not None else password
    if secret is None:
        return Refused("password not given")
    host = fields.get("host", "")
    if not host:
        return Refused("host not given")
    literal = is_ip(host)
    hostip = fields.get("hostip")
    ip = host
    if hostip:
        found = normal(hostip)
        if found is None:
            return Refused(f"Invalid hostip {hostip}")
        ip = found
    elif not literal:
        return Refused(f"BUG: host {host} is not an IP (auth should have changed it)")
    target = Target(host, ip, 0, fields.get("destuser") or user, secret)
    target.starttls = "starttls" in fields
    target.tls = "ssl" in fields and not target.starttls
    problem = _options(target, fields)
    if problem:
        return Refused(problem)
    target.port = target.port or ports[1 if target.tls else 0]
    if target.port == local[1] and literal and ip == local[0] and target.destuser == user:
        return Refused("Proxying loops to itself")
    return target


def _options(target: Target, fields: dict[str, str]) -> str:
    """The less common fields; answers a reason to refuse."""
    rest = fields.keys() - _SPECIAL
    if rest:
        target.forward = tuple((key, value) for key, value in fields.items()
                               if key[:8].lower() == "forward_")
    port = fields.get("port")
    if port is not None:
        if port.isdecimal() and port.isascii() and len(port) <= 18 and 0 < int(port) < 65536:
            target.port = int(port)
        else:
            return f"Auth service returned invalid port number: {port}"
    if fields.keys() <= _COMMON:
        return ""                       # what nearly every login has
    target.any_cert = fields.get("starttls" if target.starttls else "ssl") == ANY_CERT
    target.pipelining = "proxy_nopipelining" not in fields
    target.trusted = "proxy_not_trusted" not in fields
    target.master = fields.get("master", "")
    target.noauth = "proxy_noauth" in fields
    target.anonymous = fields.get("proxy_noauth") == ANONYMOUS
    kind = fields.get("proxy_haproxy")
    if kind is not None:
        if kind not in HAPROXY_KINDS:
            return f"Unsupported proxy_haproxy {kind}"
        target.haproxy = kind
    mechanism = fields.get("proxy_mech")
    if mechanism is not None:
        target.mechanism = mechanism.upper()
        if target.mechanism not in MECHANISMS:
            return f"Unsupported SASL mechanism {mechanism}"
    elif target.master:
        target.mechanism = "PLAIN"
    return _times_and_source(target, fields)


def _times_and_source(target: Target, fields: dict[str, str]) -> str:
    timeout = fields.get("proxy_timeout")
    if timeout is not None:
        value = interval(timeout, bare_seconds=True)
        if isinstance(value, str):
            return f"BUG: Auth service returned invalid proxy_timeout value '{timeout}': {value}"
        target.timeout = value
    after = fields.get("proxy_host_immediate_failure_after")
    if after is not None:
        value = interval(after, bare_seconds=False)
        if isinstance(value, str):
            target.warnings += (
                f"BUG: Auth service returned invalid proxy_host_immediate_failure_after value '{after}': {value}",)
        else:
            target.host_down_after = value
    refresh = fields.get("proxy_refresh")
    if refresh is not None and refresh.isascii() and refresh.isdecimal() and len(refresh) < 10:
        target.refresh = int(refresh)
    elif refresh is not None:
        target.warnings += (f"BUG: Auth service returned invalid proxy_refresh value: {refresh}",)
    source = fields.get("source_ip")
    if source:
        target.source = normal(source)
        if target.source is None:
            target.warnings += (f"Auth service returned invalid source_ip: {source}",)
    return ""
