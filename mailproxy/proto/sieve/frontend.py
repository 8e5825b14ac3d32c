"""The ManageSieve server side before login: every pre-login command, its limits, and the words of every outcome.

In: bytes of the client through `feed`, outcomes of the session through the methods below.  Out: events through
`next_event`, bytes through `take_output`.  It must not know of sockets, auth servers or backends.
Limits: wire.TOKEN_MAX and LINE_MAX per command, SASL_MAX per SASL string, BAD_MAX bad commands per connection.
"""
from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from mailproxy.errors import ProtocolError
from mailproxy.proto import forward, spec
from mailproxy.proto.commands import CLOSED, CONTINUE, SASL, SASL_MAX, WAIT, Commands
from mailproxy.proto.events import Event, Identify, Quit, SaslAbort, SaslResponse, SaslStart, StartTls
from mailproxy.proto.sieve import wire
from mailproxy.proto.sieve.backend import SieveBackend
from mailproxy.proto.sieve.wire import ATOM, STRING, TOKEN_MAX, Argument, Arguments, Overflow

BAD_MAX = 3

_HEAD = re.compile(rb"[^ \r\n]*")
_BAD = b'NO "Error in MANAGESIEVE command received by server."\r\n'
_NO, _LATER, _TLS_FIRST = b"NO ", b"NO (TRYLATER) ", b"NO (ENCRYPT-NEEDED) "

#: why -> (beginning, default text)
_REFUSALS: dict[int, tuple[bytes, str]] = {
    spec.AUTH_FAILED: (_NO, "Authentication failed."),
    spec.TEMP_FAIL: (_LATER, "Temporary authentication failure."),
    spec.AUTHZ_FAILED: (_NO, "Authorization failed"),
    spec.PASS_EXPIRED: (_NO, "Authentication failed."),
    spec.USER_DISABLED: (_NO, "Authentication failed."),
    spec.ANONYMOUS_DENIED: (_NO, "Anonymous logins denied"),
    spec.LOGIN_DISABLED: (_NO, "Login disabled for this user"),
    spec.INVALID_BASE64: (_NO, "Invalid base64 data in initial response"),
    spec.BAD_CONTINUATION: (_NO, "Invalid base64 in response"),
    spec.ABORTED: (_NO, "Authentication aborted by client."),
    spec.MECHANISM_UNKNOWN: (_NO, "Unsupported authentication mechanism."),
    spec.PLAINTEXT_DISABLED: (_NO, "Plaintext authentication disabled."),
    spec.TLS_REQUIRED: (_TLS_FIRST, "Authentication not allowed until SSL/TLS is enabled."),
    spec.CERT_MISSING: (_NO, "Client didn't present valid SSL certificate"),
    spec.PROXY_UNAVAILABLE: (_LATER, "Account is temporarily unavailable."),
    spec.PROXY_MISCONFIGURED: (_NO, "Account is temporarily unavailable."),
    spec.INTERNAL: (_LATER, "Internal login failure. Refer to server log for more information."),
    spec.TOO_MANY: (_NO, ""),
}


@dataclass(frozen=True, slots=True)
class SieveSettings:
    """What every frontend of a worker shares; all of it ready to be sent."""

    greeting: bytes                     # quoted
    capabilities: bytes                 # IMPLEMENTATION, SIEVE and NOTIFY, whole lines
    sasl: bytes                         # quoted mechanisms when secured, or when clear text is allowed
    sasl_insecure: bytes                # what remains of them on an insecure connection
    login_disabled: bool                # clear-text logins need a secured connection
    tls_available: bool


class SieveFrontend(Commands):
    """One client's dialogue."""

    __slots__ = ("_args", "_bad", "_name", "_secured", "_set", "_tls", "_trusted")

    def __init__(self, settings: SieveSettings) -> None:
        super().__init__()
        self._set = settings
        self._args: Arguments | None = None
        self._name = b""
        self._bad = 0
        self._secured = False
        self._tls = False
        self._trusted = False

    # --- what the session calls ------------------------------------------------------------------------------------

    def greet(self, tls: bool, secured: bool, trusted: bool = False, challenge: str = "") -> None:
        self._tls, self._secured, self._trusted = tls, secured, trusted
        self._out.append(b"%bOK %b\r\n" % (self._capabilities(), self._set.greeting))

    def secure(self) -> None:
        """TLS stands: say again what can be done (RFC 5804 section 2.2)."""
        self.forget()
        self._tls = self._secured = True
        self._out.append(self._capabilities() + b'OK "TLS negotiation successful."\r\n')

    def _capabilities(self) -> bytes:
        settings = self._set
        plain = self._secured or not settings.login_disabled
        out = settings.capabilities + b'"SASL" %b\r\n' % (settings.sasl if plain else settings.sasl_insecure)
        if settings.tls_available and not self._tls:
            out += b'"STARTTLS"\r\n'
        return out + (b'"VERSION" "1.0"\r\n"XCLIENT"\r\n' if self._trusted else b'"VERSION" "1.0"\r\n')

    def challenge(self, data: bytes) -> None:
        """The auth server wants more: `data` is base64."""
        self._out.append(b'"%b"\r\n' % data)
        self.state = SASL

    def refuse(self, why: int, text: str = "") -> None:
        """Tell the client, in ManageSieve's words, and go back to commands."""
        head, default = _REFUSALS[why]
        self._out.append(head + wire.text(text or default) + b"\r\n")
        self.resume()

    def refer(self, referral: spec.Referral, text: str) -> None:
        """RFC 5804 section 1.3."""
        where = f"{referral.user};AUTH={referral.mechanism}@{referral.host}"
        if referral.port not in ("", "4190"):
            where += f":{referral.port}"
        self._out.append(b"NO (REFERRAL sieve://%b) %b\r\n" % (
            where.encode("utf-8", "surrogateescape"), wire.text(text or "Try this server instead.")))
        self.resume()

    def welcome(self, backend: spec.Backend) -> None:
        """The backend said yes."""
        assert isinstance(backend, SieveBackend)
        self._out.append(backend.success())

    def bye(self, text: str, *, internal: bool = False) -> None:
        self._out.append(b"BYE %b%b\r\n" % (b"(TRYLATER) " if internal else b"", wire.text(text)))
        self.state = CLOSED

    # --- reading commands ------------------------------------------------------------------------------------------

    def command(self) -> Event | None:
        if self._skip and not self.skip_line():
            return None
        args = self._args
        if args is None:
            match = _HEAD.match(self._buf, self._pos)
            assert match is not None            # it can match nothing at all
            end = match.end()
            if end - self._pos >= TOKEN_MAX:
                return self.overflow()
            if end == len(self._buf) or self._buf[end:] == b"\r":
                return None
            self._name = match[0].upper()
            self._pos = end
            if self._name not in _COMMANDS:
                self._skip = True
                return self._bad_command()
            args = self._args = Arguments(SASL_MAX) if self._name == b"AUTHENTICATE" else Arguments()
        return self._read(args, _COMMANDS[self._name])

    def _read(self, args: Arguments, handler: Callable[[SieveFrontend, list[Argument]], Event]) -> Event | None:
        try:
            done, self._pos = args.read(self._buf, self._pos)
        except Overflow:
            self._args = None
            if args.items and self._name == b"AUTHENTICATE":
                return self.too_large(args.items[0][1].upper())
            return self.overflow()
        except ProtocolError as error:
            self._args = None
            self._pos = args.failed_at
            self._skip = True
            return self._say(_NO + wire.text(str(error)))
        if not done:
            return None
        self._args = None
        return handler(self, args.items)

    def _bad_command(self) -> Event:
        self._bad += 1
        if self._bad >= BAD_MAX:
            self.bye("Too many invalid MANAGESIEVE commands.")
            return Quit("Too many invalid commands.")
        self._out.append(_BAD)
        return CONTINUE

    def _say(self, line: bytes) -> Event:
        self._out.append(line + b"\r\n")
        return CONTINUE

    # --- the commands ----------------------------------------------------------------------------------------------

    def _capability(self, args: list[Argument]) -> Event:
        if args:
            return self._bad_command()
        return self._say(self._capabilities() + b'OK "Capability completed."')

    def _noop(self, args: list[Argument]) -> Event:
        if not args:
            return self._say(b'OK "NOOP Completed"')
        if len(args) > 1:
            return self._bad_command()
        if args[0][0] != STRING:
            return self._say(b'NO "Invalid echo tag."')
        return self._say(b'OK (TAG %b) "Done"' % wire.string(args[0][1]))

    def _logout(self, args: list[Argument]) -> Event:
        if args:
            return self._bad_command()
        self._out.append(b'OK "Logout completed."\r\n')
        self.state = CLOSED
        return Quit("Aborted login by logging out")

    def _starttls(self, args: list[Argument]) -> Event:
        if args:
            return self._bad_command()
        if self._tls:
            return self._say(b'NO "TLS is already active."')
        if not self._set.tls_available:
            return self._say(b'NO "TLS support isn\'t enabled."')
        self._out.append(b'OK "Begin TLS negotiation now."\r\n')
        self.state = WAIT
        return StartTls()

    def _xclient(self, args: list[Argument]) -> Event:
        if not self._trusted:
            return self._say(b'NO "You are not from trusted IP"')
        if any(kind != ATOM for kind, _ in args):
            return self._bad_command()
        found, valid = forward.parse([word for _, word in args if word.upper() != b"FORWARD="])
        if valid:
            self._out.append(b'OK "Updated"\r\n')
            return Identify(found, [], True)
        said = self._bad_command()
        return Identify(found, [], True) if said is CONTINUE else said

    # --- SASL ------------------------------------------------------------------------------------------------------

    def _authenticate(self, args: list[Argument]) -> Event:
        if not args or args[0][0] != STRING or any(kind != STRING for kind, _ in args[1:2]):
            return self._bad_command()
        self.state = WAIT
        return SaslStart(args[0][1].upper(), args[1][1] if len(args) > 1 else None)

    def sasl_response(self) -> Event | None:
        """A quoted string or a literal with base64 in it, or with `*`."""
        args = self._args
        if args is None:
            args = self._args = Arguments(SASL_MAX)
        try:
            done, self._pos = args.read(self._buf, self._pos)
        except Overflow:
            return self.too_large()
        except ProtocolError:
            self._pos = args.failed_at
            self._skip = True
            return self._broken_response()
        if not done:
            return None
        if not args.items or args.items[0][0] != STRING:
            return self._broken_response()
        self._args = None
        self.state = WAIT
        data = args.items[0][1]
        return SaslAbort() if data == b"*" else SaslResponse(data)

    def _broken_response(self) -> Event:
        self._args = None
        self.state = WAIT
        return SaslAbort("Invalid AUTHENTICATE client response.")


_COMMANDS: dict[bytes, Callable[[SieveFrontend, list[Argument]], Event]] = {
    b"AUTHENTICATE": SieveFrontend._authenticate,
    b"CAPABILITY": SieveFrontend._capability,
    b"NOOP": SieveFrontend._noop,
    b"LOGOUT": SieveFrontend._logout,
    b"STARTTLS": SieveFrontend._starttls,
    b"XCLIENT": SieveFrontend._xclient,
}
