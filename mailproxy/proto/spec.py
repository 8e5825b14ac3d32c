"""The contract between a session and the machines of a protocol: interfaces, failure kinds and the login order.

A protocol is a folder with `wire`, `frontend` and `backend`; what it exports is a `Dialect`.  Everything here is
bytes and values: no sockets, no clocks, no settings language.
"""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from mailproxy.proto.events import Event
from mailproxy.secret import Secret

# Why a login is refused by this machine (not by a backend).  The frontend knows the words of its protocol for each.
AUTH_FAILED, TEMP_FAIL, AUTHZ_FAILED, PASS_EXPIRED, USER_DISABLED, ANONYMOUS_DENIED, LOGIN_DISABLED, REFERRAL, \
    INVALID_BASE64, BAD_CONTINUATION, ABORTED, MECHANISM_UNKNOWN, PLAINTEXT_DISABLED, TLS_REQUIRED, CERT_MISSING, \
    PROXY_UNAVAILABLE, PROXY_MISCONFIGURED, INTERNAL, TOO_MANY = range(19)

# What a backend machine reports after it was fed.
MORE, START_TLS, READY, REFUSED, FAILED = range(5)

# Classes of FAILED (reference: failure classes of the backend engine); each has its log prefix and retry rule.
CONNECT, REMOTE, PROTOCOL, INTERNAL_ERROR, REMOTE_CONFIG = range(5)


@dataclass(frozen=True, slots=True)
class Referral:
    """Where a refused user should go instead (passdb `nologin` with `host`)."""

    user: str
    mechanism: str
    host: str
    port: str


class Mechanism(Protocol):
    """The client half of a SASL exchange (package sasl has them)."""

    def initial(self) -> bytes | None: ...
    def respond(self, challenge: bytes) -> bytes: ...


@dataclass(slots=True)
class Order:
    """What a backend machine is to do: the credentials and the switches of one login."""

    user: str                           # destuser
    password: Secret
    mechanism: str = ""                 # "" : the protocol's plain login command
    sasl: Mechanism | None = None       # its client half, unused so far
    starttls: bool = False
    implicit_tls: bool = False
    pipelining: bool = True
    #: Canonical names of events.Identify: session, rip, rport, lip, lport, ttl, in this order, then forward_NAME;
    #: () sends nothing.
    identity: tuple[tuple[str, str], ...] = ()
    client_id: bytes = b""              # parameters of the client's own ID or HELO to pass on, protocol syntax
    client_listed: bool = False         # the client asked for capabilities before it logged in
    machine: str = ""                   # our name, where the protocol has us say it
    noauth: bool = False                # log in by the identity alone, if the protocol has a way to,
    anonymous: bool = False             # and if it has not, do without


Settings = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Offer:
    """What the frontends of a worker are to offer; `settings` are the protocol's own settings by name."""

    greeting: str
    mechanisms: tuple[tuple[str, bool], ...]        # (name, needs the password in clear)
    tls_available: bool
    plaintext_needs_tls: bool                       # clear-text logins need a secured connection
    tls_required: bool                              # every login does
    settings: Settings
    machine: str = ""                               # our name


class Dialect(Protocol):
    """One protocol: its constants, and makers of its machines."""

    name: str
    ports: tuple[int, int]                          # backend ports without and with implicit TLS
    mechanism: str                                  # of a login at a backend when the passdb names none; "": none,
                                                    # the protocol's plain login command
    apop: bool                                      # the banner may carry an APOP challenge
    final_reply: bool                               # a success reply has room for data of the mechanism
    unfinished: str                                 # behind the reason of a disconnection in the middle of a login

    def share(self, offer: Offer) -> Any:
        """What all frontends with this offer share."""

    def frontend(self, shared: Any) -> Frontend: ...
    def backend(self, order: Order) -> Backend: ...


class Frontend(Protocol):
    """The server side of a dialogue before login, towards a client that may be hostile."""

    state: int
    client_id: bytes
    listed: bool

    def greet(self, tls: bool, secured: bool, trusted: bool = False, challenge: str = "") -> None:
        """The banner.  `trusted`: the peer is a proxy of ours; `challenge`: for APOP, "" without it."""

    def secure(self) -> None: ...
    def feed(self, data: bytes) -> None: ...
    def next_event(self) -> Event | None: ...
    def resume(self) -> None: ...
    def take_output(self) -> bytes: ...
    def leftover(self) -> bytes: ...
    def mail_input(self) -> bytes: ...
    def challenge(self, data: bytes) -> None: ...
    def refuse(self, why: int, text: str = "") -> None: ...
    def refer(self, referral: Referral, text: str) -> None: ...
    def backend_refused(self, reply: bytes) -> None: ...
    def welcome(self, backend: Backend) -> None: ...
    def waiting(self) -> None: ...
    def bye(self, text: str, *, internal: bool = False) -> None: ...


class Backend(Protocol):
    """The client side of a dialogue with a backend, until it says yes or no."""

    failure: int                # class, when FAILED
    reason: str                 # for the log: why it FAILED, or what it said when it REFUSED
    reply: bytes                # REFUSED: what the client is to be told ("" : the frontend's own words)
    temporary: bool             # REFUSED: worth another attempt
    forward: bytes              # lines for the client that came before the answer
    ignored: tuple[str, ...]    # for the log: what it said that means nothing

    def feed(self, data: bytes) -> int: ...
    def tls_started(self) -> int: ...
    def take_output(self) -> bytes: ...
    def leftover(self) -> bytes: ...
    def describe(self) -> str: ...
