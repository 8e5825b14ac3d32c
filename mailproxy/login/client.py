"""What is known of a client: its addresses, its TLS, its session id, and what a trusted proxy forwards about it.

In: the connection's addresses; the forwarded values of `events.Identify`.  Out: the parameters of an auth request and
the identity that a backend is told.  Limits: SESSION_ID_MAX, FORWARD_MAX variables of FORWARD_SIZE bytes in all.
"""
from __future__ import annotations

import binascii
import time

from mailproxy.ipc.authwire import escape
from mailproxy.login.setup import Setup
from mailproxy.net.addr import normal, packed
from mailproxy.net.proxyhdr import Address, Header, TlsInfo, build

#: Hops that a chain of proxies may have.
TTL = 5
TTL_MAX = 0xFFFFFFFF
SESSION_ID_MAX = 64
#: Variables that a trusted proxy may forward, and their size: what fits an auth request with room for the rest.
FORWARD_MAX = 32
FORWARD_SIZE = 4096


class Client:
    """Addresses are what the client's connection has, or the PROXY header in front of it says, until a trusted proxy
    forwards others; `real_*` are always the connection's, and `peer` is who must be trusted to forward."""

    __slots__ = ("_id", "cert_name", "forward", "lip", "local_name", "lport", "outer_tls", "peer", "real_lip",
                 "real_lport", "real_rip", "real_rport", "rip", "rport", "secured", "shared", "tls", "ttl")

    shared: Setup
    rip: str
    lip: str
    rport: int
    lport: int
    real_rip: str
    real_lip: str
    real_rport: int
    real_lport: int
    local_name: str

    def __init__(self, shared: Setup, remote: tuple[str, int], local: tuple[str, int]) -> None:
        self.shared = shared
        self.rip, self.rport = self.real_rip, self.real_rport = remote
        self.lip, self.lport = self.real_lip, self.real_lport = local
        self.peer = remote[0]
        self.tls = self.outer_tls = False       # outer: a load balancer's, which has taken it off
        self.secured = remote[0] == local[0] or remote[0] in shared.policy.trusted
        self.cert_name: str | None = None       # the user in the client's valid certificate; None without one
        self.local_name = ""
        self.forward: dict[str, str] = {}
        self.ttl = TTL
        self._id = ""

    def behind(self, header: Header, remote: Address, local: Address) -> None:
        """A PROXY header stood in front; the connection itself has these addresses."""
        self.real_rip, self.real_rport = remote
        self.real_lip, self.real_lport = local
        self.outer_tls, self.local_name, self.cert_name = header.tls, header.local_name, header.cert_name
        # from here to here is the load balancer's machine, not the client's
        self.secured = header.tls or self.trusted()

    def session_id(self) -> str:
        """Made when first needed: 48 bits of the time in microseconds, the client's port and address, base64."""
        if not self._id:
            stamp = time.time_ns() // 1000 & 0xFFFFFFFFFFFF
            raw = stamp.to_bytes(6, "little") + self.rport.to_bytes(2, "little") + packed(self.rip)
            self._id = binascii.b2a_base64(raw, newline=False).decode().rstrip("=")
        return self._id

    def trusted(self) -> bool:
        """The peer is a proxy of ours."""
        return self.peer in self.shared.policy.trusted

    def adopt(self, forwarded: dict[str, str]) -> None:
        """Take over what a trusted proxy says about its client; an invalid value is as good as none."""
        session = forwarded.get("session", "")
        if 0 < len(session) <= SESSION_ID_MAX:
            self._id = session
        self.rip = normal(forwarded.get("rip", "")) or self.rip
        self.lip = normal(forwarded.get("lip", "")) or self.lip
        self.rport = _number(forwarded.get("rport"), 65535, self.rport) or self.rport
        self.lport = _number(forwarded.get("lport"), 65535, self.lport) or self.lport
        self.ttl = _number(forwarded.get("ttl"), TTL_MAX, self.ttl)
        room = FORWARD_SIZE
        variables: dict[str, str] = {}
        for key, value in forwarded.items():
            room -= len(key) + len(value)
            if key.startswith("forward_") and len(variables) < FORWARD_MAX and room > 0:
                variables[key[8:]] = value
        if variables:
            self.forward = variables        # all of an earlier command's go

    def identity(self, forward: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
        """What a backend is told of the client; `forward`: the variables that the passdb adds."""
        return (("session", self.session_id()), ("rip", self.rip), ("rport", str(self.rport)),
                ("lip", self.lip), ("lport", str(self.lport)), ("ttl", str(self.ttl - 1)), *forward)

    def proxy_header(self, tls: TlsInfo | None) -> bytes:
        """What a backend behind a PROXY header is told."""
        return build((packed(self.rip), self.rport), (packed(self.lip), self.lport), tls,
                     self.local_name if tls is not None else "")

    def auth_parameters(self, client_id: bytes) -> str:
        """The fields of an auth request between the mechanism and the initial response."""
        # in the order of Dovecot's own client library
        text = f"service={self.shared.protocol}"
        if self.shared.dialect.final_reply:
            text += "\tfinal-resp-ok"
        if self.tls:
            text += "\tsecured=tls"
            if self.shared.policy.wants_cert:
                text += self._cert_parameters()
        elif self.outer_tls:
            text += "\tsecured=tls" + self._cert_parameters()
        elif self.secured:
            text += "\tsecured"
        if self.trusted():
            text += "\tno-penalty"
        text += (f"\tsession={escape(self.session_id())}\tlip={self.lip}\trip={self.rip}"
                 f"\tlport={self.lport}\trport={self.rport}")
        if self.real_rip != self.rip:
            text += f"\treal_rip={self.real_rip}"
        if self.real_lip != self.lip:
            text += f"\treal_lip={self.real_lip}"
        if self.real_lport != self.lport:
            text += f"\treal_lport={self.real_lport}"
        if self.real_rport != self.rport:
            text += f"\treal_rport={self.real_rport}"
        if self.local_name:
            text += f"\tlocal_name={escape(self.local_name)}"
        if client_id and self.shared.protocol == "imap":        # other protocols' auth clients have none
            text += f"\tclient_id={escape(client_id.decode('utf-8', 'surrogateescape').strip())}"
        if self.forward:
            nested = "\t".join(escape(f"{key}={value}") for key, value in self.forward.items())
            text += f"\tforward_fields={escape(nested)}"
        return text

    def _cert_parameters(self) -> str:
        name = self.cert_name
        if name is None:
            return ""
        return "\tvalid-client-cert" + (f"\tcert_username={escape(name)}" if name else "")


def _number(text: str | None, largest: int, otherwise: int) -> int:
    if text is None or not text.isascii() or not text.isdecimal() or len(text) > 18 or int(text) > largest:
        return otherwise
    return int(text)
