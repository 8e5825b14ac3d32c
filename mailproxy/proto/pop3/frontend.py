"""The POP3 server side before login: every pre-login command, its limits, and the words of every outcome.

In: bytes of the client through `feed`, outcomes of the session through the methods below.  Out: events through
`next_event`, bytes through `take_output`.  It must not know of sockets, auth servers or backends.
Limits: NAME_MAX and LINE_MAX per command, SASL_MAX per SASL line, BAD_MAX bad commands one after the other.
"""
from __future__ import annotations

import binascii
from collections.abc import Callable
from dataclasses import dataclass

from mailproxy.proto import forward, spec
from mailproxy.proto.commands import CLOSED, CONTINUE, SASL, SASL_MAX, WAIT, Commands
from mailproxy.proto.events import Event, Identify, PlainLogin, Quit, Remark, SaslStart, StartTls
from mailproxy.proto.pop3.backend import Pop3Backend

#: Longest command word; a longer one is unknown.
NAME_MAX = 8
#: What follows the word and its space, with the end of the line (Dovecot: the login input buffer).
LINE_MAX = 1026
BAD_MAX = 3
#: Hexadecimal digits of an APOP digest.
_DIGEST = 32

_CAPABILITIES = b"+OK\r\nCAPA\r\nTOP\r\nUIDL\r\nRESP-CODES\r\nPIPELINING\r\nAUTH-RESP-CODE\r\n"
_NOT_SECURE = b"Plaintext authentication disallowed on non-secure (SSL/TLS) connections."
_ERR, _AUTH, _TEMP = b"-ERR ", b"-ERR [AUTH] ", b"-ERR [SYS/TEMP] "

#: why -> (beginning, default text)
_REFUSALS: dict[int, tuple[bytes, bytes]] = {
    spec.AUTH_FAILED: (_AUTH, b"Authentication failed."),
    spec.TEMP_FAIL: (_TEMP, b"Temporary authentication failure."),
    spec.AUTHZ_FAILED: (_AUTH, b"Authorization failed"),
    spec.PASS_EXPIRED: (_AUTH, b"Authentication failed."),
    spec.USER_DISABLED: (_AUTH, b"Authentication failed."),
    spec.ANONYMOUS_DENIED: (_ERR, b"Anonymous logins denied"),
    spec.LOGIN_DISABLED: (_AUTH, b"Login disabled for this user"),
    spec.INVALID_BASE64: (_AUTH, b"Invalid base64 data in initial response"),
    spec.BAD_CONTINUATION: (_AUTH, b"Invalid base64 in response"),
    spec.ABORTED: (_ERR, b"Authentication aborted by client."),
    spec.MECHANISM_UNKNOWN: (_AUTH, b"Unsupported authentication mechanism."),
    spec.PLAINTEXT_DISABLED: (_AUTH, b"Plaintext authentication disabled."),
    spec.TLS_REQUIRED: (_AUTH, b"Authentication not allowed until SSL/TLS is enabled."),
    spec.CERT_MISSING: (_AUTH, b"Client didn't present valid SSL certificate"),
    spec.PROXY_UNAVAILABLE: (_TEMP, b"Account is temporarily unavailable."),
    spec.PROXY_MISCONFIGURED: (_ERR, b"Account is temporarily unavailable."),
    spec.INTERNAL: (_TEMP, b"Internal login failure. Refer to server log for more information."),
    spec.TOO_MANY: (b"-ERR [IN-USE] ", b""),
}


@dataclass(frozen=True, slots=True)
class Pop3Settings:
    """What every frontend of a worker shares."""

    greeting: bytes
    mechanisms: tuple[bytes, ...]
    mechanisms_insecure: tuple[bytes, ...]      # what remains of them on an insecure connection
    login_disabled: bool                        # clear-text logins need a secured connection
    tls_available: bool


class Pop3Frontend(Commands):
    """One client's dialogue."""

    __slots__ = ("_bad", "_challenge", "_plain", "_secured", "_set", "_tls", "_trusted", "_user")

    def __init__(self, settings: Pop3Settings) -> None:
        super().__init__()
        self._set = settings
        self._bad = 0
        self._challenge = b""
        self._plain = False                     # the login in progress is USER and PASS
        self._secured = False
        self._tls = False
        self._trusted = False
        self._user: bytes | None = None

    # --- what the session calls ------------------------------------------------------------------------------------

    def greet(self, tls: bool, secured: bool, trusted: bool = False, challenge: str = "") -> None:
        self._tls, self._secured, self._trusted = tls, secured, trusted
        self._challenge = challenge.encode("utf-8", "surrogateescape")
        self._out.append(b"+OK %b%b%b\r\n" % (b"[XCLIENT] " if trusted else b"", self._set.greeting,
                                              b" " + self._challenge if challenge else b""))

    def secure(self) -> None:
        self.forget()
        self._tls = self._secured = True
        self._user = None

    def challenge(self, data: bytes) -> None:
        """The auth server wants more: `data` is base64."""
        self._out.append(b"+ " + data + b"\r\n")
        self.state = SASL

    def refuse(self, why: int, text: str = "") -> None:
        """Tell the client, in POP3's words, and go back to commands."""
        head, default = _REFUSALS[why]
        words = text.encode("utf-8", "surrogateescape") or default
        if self._plain and why in (spec.PLAINTEXT_DISABLED, spec.TLS_REQUIRED):
            words = _NOT_SECURE
        if head == _AUTH and words.startswith(b"["):
            head = _ERR
        self._out.append(head + words + b"\r\n")
        self.resume()

    def refer(self, referral: spec.Referral, text: str) -> None:
        """POP3 has no referrals."""
        self._out.append(_ERR + (text or "Try this server instead.").encode("utf-8", "surrogateescape") + b"\r\n")
        self.resume()

    def welcome(self, backend: spec.Backend) -> None:
        """The backend said yes."""
        assert isinstance(backend, Pop3Backend)
        self._out.append(backend.success())

    def bye(self, text: str, *, internal: bool = False) -> None:
        self._out.append((_TEMP if internal else _ERR) + text.encode() + b"\r\n")
        self.state = CLOSED

    # --- reading commands ------------------------------------------------------------------------------------------

    def command(self) -> Event | None:
        buf, pos = self._buf, self._pos
        space = buf.find(b" ", pos, pos + NAME_MAX + 1)
        end = buf.find(b"\n", pos)
        if space < 0 or 0 <= end < space:
            space = min(end if end >= 0 else len(buf), pos + NAME_MAX)
        name = buf[pos:space].rstrip(b"\r").upper()
        if name == b"AUTH":
            return self._authenticate(space, end)
        if (end if end >= 0 else len(buf)) - space > LINE_MAX:
            return self.overflow()
        if end < 0:
            return None
        self._pos = end + 1
        rest = buf[space + 1:end]
        if rest[-1:] == b"\r":
            rest = rest[:-1]
        handler = _COMMANDS.get(name)
        if handler is None or buf[space] not in b" \r\n":
            return self._bad_command()
        self._bad = 0
        return handler(self, rest)

    def _bad_command(self) -> Event:
        self._out.append(b"-ERR Unknown command.\r\n")
        self._bad += 1
        if self._bad >= BAD_MAX:
            self.bye("Too many invalid bad commands.")
            return Quit("Disconnected: Too many bad commands")
        return CONTINUE

    def _say(self, line: bytes) -> Event:
        self._out.append(line + b"\r\n")
        return CONTINUE

    # --- the commands ----------------------------------------------------------------------------------------------

    def _mechanisms(self) -> tuple[bytes, ...]:
        settings = self._set
        return settings.mechanisms if self._secured or not settings.login_disabled else settings.mechanisms_insecure

    def _capa(self, rest: bytes) -> Event:
        out = _CAPABILITIES
        if self._set.tls_available and not self._tls:
            out += b"STLS\r\n"
        if self._secured or not self._set.login_disabled:
            out += b"USER\r\n"
        return self._say(out + b" ".join((b"SASL", *self._mechanisms())) + b"\r\n.")

    def _quit(self, rest: bytes) -> Event:
        self._out.append(b"+OK Logging out\r\n")
        self.state = CLOSED
        return Quit("Aborted login by logging out")

    def _stls(self, rest: bytes) -> Event:
        if self._tls:
            return self._say(b"-ERR TLS is already active.")
        if not self._set.tls_available:
            return self._say(b"-ERR TLS support isn't enabled.")
        self._out.append(b"+OK Begin TLS negotiation now.\r\n")
        self.state = WAIT
        return StartTls()

    def _name(self, rest: bytes) -> Event:
        if self._set.login_disabled and not self._secured:
            return self._login(rest, b"")       # the session refuses it, before a password is sent
        self._user = rest
        return self._say(b"+OK")

    def _pass(self, rest: bytes) -> Event:
        if self._user is None:
            if not self._set.login_disabled or self._secured:
                return self._say(b"-ERR No username given.")
            self._user = b""
        user, self._user = self._user, None
        return self._login(user, rest)

    def _login(self, user: bytes, password: bytes) -> Event:
        self.state = WAIT
        self._plain = True
        return PlainLogin(user, password)

    def _apop(self, rest: bytes) -> Event:
        """RFC 1939: the digest of the banner's challenge and the password."""
        if not self._challenge:
            return self._bad_apop("APOP not enabled")
        user, _, text = rest.partition(b" ")
        if len(text) != _DIGEST:
            return self._bad_apop("Invalid parameters")
        try:
            digest = binascii.unhexlify(text)
        except binascii.Error:
            return self._bad_apop("Invalid characters in MD5 response")
        self.state = WAIT
        self._plain = False
        return SaslStart(b"APOP", binascii.b2a_base64(b"%b\0%b\0%b" % (self._challenge, user, digest), newline=False),
                         private=True)

    def _bad_apop(self, problem: str) -> Event:
        self._out.append(b"-ERR %b.\r\n" % problem.encode())
        return Remark(f"APOP failed: {problem}")

    def _xclient(self, rest: bytes) -> Event:
        return self._identify(rest.split(b" "))

    def _xoip(self, rest: bytes) -> Event:
        """What came before XCLIENT."""
        return self._identify([b"ADDR=" + rest])

    def _identify(self, words: list[bytes]) -> Event:
        if not self._trusted:
            return self._say(b"+OK You are not from trusted IP - ignoring")
        found, valid = forward.parse(words)
        self._out.append(b"+OK Updated\r\n" if valid else b"-ERR Invalid parameters\r\n")
        return Identify(found, [], True)

    def _authenticate(self, space: int, end: int) -> Event | None:
        """The initial response may be longer than other arguments."""
        buf = self._buf
        if end < 0 and len(buf) - space <= SASL_MAX + 1:
            return None
        rest = buf[space + 1:end if end >= 0 else None].rstrip(b"\r")
        mechanism, _, initial = rest.partition(b" ")
        if len(mechanism) >= LINE_MAX:
            return self.overflow()
        if end < 0 or len(initial) > SASL_MAX:
            return self.too_large(mechanism.upper())
        self._pos = end + 1
        self._bad = 0
        if not mechanism:
            return self._say(b"\r\n".join((b"+OK", *self._mechanisms(), b".")))
        self.state = WAIT
        self._plain = False
        initial = initial.strip(b" ")
        return SaslStart(mechanism.upper(), b"" if initial == b"=" else initial or None)


_COMMANDS: dict[bytes, Callable[[Pop3Frontend, bytes], Event]] = {
    b"USER": Pop3Frontend._name,
    b"PASS": Pop3Frontend._pass,
    b"CAPA": Pop3Frontend._capa,
    b"QUIT": Pop3Frontend._quit,
    b"STLS": Pop3Frontend._stls,
    b"APOP": Pop3Frontend._apop,
    b"XCLIENT": Pop3Frontend._xclient,
    b"XOIP": Pop3Frontend._xoip,
}
