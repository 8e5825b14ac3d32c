"""The IMAP server side before login: every pre-login command, its limits, and the words of every outcome.

In: bytes of the client through `feed`, outcomes of the session through the methods below.  Out: events through
`next_event`, bytes through `take_output`.  It must not know of sockets, auth servers or backends.
Limits: wire.TOKEN_MAX and LINE_MAX per command, SASL_MAX per SASL line, BAD_MAX bad commands per connection.
(Long, because the commands, their limits and their words are one state machine.)
"""
from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from mailproxy.errors import ProtocolError
from mailproxy.proto import spec
from mailproxy.proto.commands import CLOSED, CONTINUE, SASL, SASL_MAX, WAIT, Commands
from mailproxy.proto.events import Event, Identify, PlainLogin, Quit, SaslStart, StartTls
from mailproxy.proto.imap import wire
from mailproxy.proto.imap.backend import ImapBackend
from mailproxy.proto.imap.wire import LIST, NIL, STRING, TAG_MAX, TOKEN_MAX, Argument, Arguments, Overflow, TooLarge

BAD_MAX = 3
#: Longest key of an ID parameter (RFC 2971).
ID_KEY_MAX = 30
#: Bytes of the client's ID that are kept for the backend (imap_id_retain); the first parameter always is.
ID_RETAIN_MAX = 256
#: Parameters of one ID command that are looked at; RFC 2971 allows 30.
ID_PAIRS_MAX = 64
#: Bytes that an ID may have beyond those of other commands: RFC 2971 allows 30 pairs of 30 and 1024 bytes.
ID_ROOM = 57344

_HEAD = re.compile(rb"([^ \r\n]*)(?: ([^ \r\n]*))?")
_BAD_TAG = re.compile(rb'[*%+"(){\\\]\x00-\x1f\x7f-\xff]')
_BAD = b" BAD Error in IMAP command received by server.\r\n"
_TAG_IS_COMMAND = (b" BAD First parameter in line is IMAP's command tag, not the command name. Add that before the "
                   b"command, like: a login user pass\r\n")
_EXPOSED = (b"* BAD [ALERT] Plaintext authentication not allowed without SSL/TLS, but your client did it anyway. "
            b"If anyone was listening, the password was exposed.\r\n")
_NOT_SECURE = b"[PRIVACYREQUIRED] Plaintext authentication disallowed on non-secure (SSL/TLS) connections."

#: why -> (status, response code, default text)
_REFUSALS: dict[int, tuple[bytes, bytes, bytes]] = {
    spec.AUTH_FAILED: (b"NO", b"[AUTHENTICATIONFAILED] ", b"Authentication failed."),
    spec.TEMP_FAIL: (b"NO", b"[UNAVAILABLE] ", b"Temporary authentication failure."),
    spec.AUTHZ_FAILED: (b"NO", b"[AUTHORIZATIONFAILED] ", b"Authorization failed"),
    spec.PASS_EXPIRED: (b"NO", b"[EXPIRED] ", b"Authentication failed."),
    spec.USER_DISABLED: (b"NO", b"[ALERT] ", b""),
    spec.ANONYMOUS_DENIED: (b"NO", b"[CONTACTADMIN] ", b"Anonymous logins denied"),
    spec.LOGIN_DISABLED: (b"NO", b"[CONTACTADMIN] ", b"Login disabled for this user"),
    spec.INVALID_BASE64: (b"BAD", b"", b"Invalid base64 data in initial response"),
    spec.BAD_CONTINUATION: (b"NO", b"[ALERT] ", b"Invalid base64 in response"),
    spec.ABORTED: (b"BAD", b"", b"Authentication aborted by client."),
    spec.MECHANISM_UNKNOWN: (b"NO", b"[ALERT] ", b"Unsupported authentication mechanism."),
    spec.PLAINTEXT_DISABLED: (b"NO", b"[PRIVACYREQUIRED] ", b"Plaintext authentication disabled."),
    spec.TLS_REQUIRED: (b"NO", b"[PRIVACYREQUIRED] ", b"Authentication not allowed until SSL/TLS is enabled."),
    spec.CERT_MISSING: (b"NO", b"[ALERT] ", b"Client didn't present valid SSL certificate"),
    spec.PROXY_UNAVAILABLE: (b"NO", b"[UNAVAILABLE] ", b"Account is temporarily unavailable."),
    spec.PROXY_MISCONFIGURED: (b"NO", b"[SERVERBUG] ", b"Account is temporarily unavailable."),
    spec.INTERNAL: (b"NO", b"[UNAVAILABLE] ", b"Internal login failure. Refer to server log for more information."),
    spec.TOO_MANY: (b"NO", b"[LIMIT] ", b""),
}

#: ID keys that a trusted proxy uses -> canonical name
_FORWARDED = {
    b"x-session-id": "session", b"x-session-ext-id": "session", b"x-originating-ip": "rip",
    b"x-originating-port": "rport", b"x-connected-ip": "lip", b"x-connected-port": "lport", b"x-proxy-ttl": "ttl",
}
_FORWARD = b"x-forward-"


@dataclass(frozen=True, slots=True)
class ImapSettings:
    """What every frontend of a worker shares; all of it ready to be sent."""

    greeting: bytes                     # text after the capabilities
    capability: bytes                   # without STARTTLS, LOGINDISABLED and AUTH=
    auth: bytes                         # " AUTH=PLAIN AUTH=LOGIN": offered when secured or clear text is allowed
    auth_insecure: bytes                # what remains of it on an insecure connection
    login_disabled: bool                # clear-text logins need a secured connection
    tls_available: bool
    id_reply: bytes                     # whole untagged line
    id_retain: bool = False
    literal_minus: bool = False


class ImapFrontend(Commands):
    """One client's dialogue.  `listed`: it has asked for CAPABILITY; behind STARTTLS that does not count, as it does
    not for Dovecot.  `client_id`: parameters kept for the backend."""

    __slots__ = (
        "_args",
        "_bad",
        "_caps",
        "_ids",
        "_name",
        "_set",
        "_tag",
        "_tls",
        "_upgraded",
    )

    def __init__(self, settings: ImapSettings) -> None:
        super().__init__()
        self._set = settings
        self._tag = b"*"
        self._name = b""
        self._args: Arguments | None = None
        self._bad = 0
        self._caps = b""
        self._tls = False
        self._upgraded = False
        self._ids = 0

    # --- what the session calls ------------------------------------------------------------------------------------

    def greet(self, tls: bool, secured: bool, trusted: bool = False, challenge: str = "") -> None:
        """The banner.  `secured`: TLS, or a peer that needs none."""
        self._know(tls, secured)
        self._out.append(b"* OK [CAPABILITY %b] %b\r\n" % (self._caps, self._set.greeting))

    def secure(self) -> None:
        """STARTTLS has happened: forget every byte that came before it (CVE-2021-33515)."""
        self.forget()
        self._upgraded = True
        self._know(True, True)

    def _know(self, tls: bool, secured: bool) -> None:
        settings = self._set
        self._tls = tls
        caps = settings.capability
        if settings.tls_available and not tls:
            caps += b" STARTTLS"
        if settings.login_disabled and not secured:
            self._caps = caps + b" LOGINDISABLED" + settings.auth_insecure
        else:
            self._caps = caps + settings.auth

    def challenge(self, data: bytes) -> None:
        """The auth server wants more: `data` is base64."""
        self._out.append(b"+ " + data + b"\r\n")
        self.state = SASL

    def refuse(self, why: int, text: str = "") -> None:
        """Tell the client, in IMAP's words, and go back to commands."""
        status, code, default = _REFUSALS[why]
        words = text.encode("utf-8", "surrogateescape") if text else default
        if why in (spec.PLAINTEXT_DISABLED, spec.TLS_REQUIRED) and self._name == b"LOGIN":
            self._out.append(_EXPOSED + self._tag + b" NO " + _NOT_SECURE + b"\r\n")
        else:
            if why == spec.AUTH_FAILED and text:
                code = b"[ALERT] "
            if why == spec.USER_DISABLED and not text:
                status, code, words = _REFUSALS[spec.AUTH_FAILED]
            if code == b"[ALERT] " and words.startswith(b"["):
                code = b""
            self._out.append(b"%b %b %b%b\r\n" % (self._tag, status, code, words))
        self.resume()

    def refer(self, referral: spec.Referral, text: str) -> None:
        """RFC 2221 login referral."""
        where = wire.percent(referral.user) + f";AUTH={referral.mechanism}@{referral.host}"
        if referral.port not in ("", "143"):
            where += f":{referral.port}"
        words = text or "Try this server instead."
        self._out.append(f"{self._tag.decode('latin-1')} NO [REFERRAL imap://{where}/] {words}\r\n"
                         .encode("utf-8", "surrogateescape"))
        self.resume()

    def backend_refused(self, reply: bytes) -> None:
        """The backend's own refusal: shown if it is fit for the client, else replaced by our words."""
        if reply:
            self._out.append(self._tag + b" " + reply + b"\r\n")
            self.resume()
        else:
            self.refuse(spec.AUTH_FAILED)

    def welcome(self, backend: spec.Backend) -> None:
        """The backend said yes."""
        assert isinstance(backend, ImapBackend)
        self._out.append(backend.success(self._tag, self.listed))

    def mail_input(self) -> bytes:
        return b"%d%b\0" % (self.listed, self._tag)

    def waiting(self) -> None:
        self._out.append(b"* OK Waiting for authentication process to respond..\r\n")

    def bye(self, text: str, *, internal: bool = False) -> None:
        self._out.append(b"* BYE %b%b\r\n" % (b"[UNAVAILABLE] " if internal else b"", text.encode()))
        self.state = CLOSED

    # --- reading commands ------------------------------------------------------------------------------------------

    def command(self) -> Event | None:
        buf, pos = self._buf, self._pos
        if self._skip and not self.skip_line():
            return None
        pos = self._pos
        if pos >= len(buf):
            return None
        args = self._args
        if args is None:
            match = _HEAD.match(buf, pos)
            assert match is not None            # it can match nothing at all
            end = match.end()
            tag, name = match[1], match[2] or b""
            if len(tag) >= TOKEN_MAX or len(name) >= TOKEN_MAX:
                return self.overflow()
            if end == len(buf) or buf[end:] == b"\r":
                return None
            if not tag or len(tag) > TAG_MAX or _BAD_TAG.search(tag):
                self._tag = b"*"
                self._skip = True
                return self._bad_command()
            self._tag, self._name = tag, name.upper()
            if self._name == b"AUTHENTICATE":
                return self._authenticate(end)
            room = ID_ROOM if self._name == b"ID" else 0
            args = self._args = Arguments(end - pos - room, literal_minus=self._set.literal_minus)
            self._pos = pos = end
        return self._arguments(args, buf, pos)

    def _arguments(self, args: Arguments, buf: bytes, pos: int) -> Event | None:
        try:
            done, self._pos = args.read(buf, pos)
        except Overflow:
            self._args = None
            return self.overflow()
        except TooLarge as error:
            self._args = None
            self.bye(str(error))
            return Quit(str(error))
        except ProtocolError as error:
            self._pos = args.failed_at
            return self._unparsable(str(error))
        if not done:
            if args.wants_literal:
                args.wants_literal = False
                self._out.append(b"+ OK\r\n")
                return CONTINUE
            return self.overflow() if len(buf) - self._pos >= TOKEN_MAX else None
        self._args = None
        handler = _COMMANDS.get(self._name)
        if handler is not None:
            event = handler(self, args.items)
            if event is not None:
                return event
        if self._tag.upper() == b"LOGIN":
            self._out.append(self._tag + _TAG_IS_COMMAND)
            return CONTINUE
        return self._bad_command()

    def _unparsable(self, text: str) -> Event:
        """Arguments that break the grammar: answered, and the rest of the line is dropped."""
        self._args = None
        self._skip = True
        if self._name == b"ID" and text == "Too many '('" and b"(((" not in self._buf[self._pos:]:
            text = "Invalid ID parameters"
        elif text.startswith("Missing LF"):
            self._out.append(b"+ OK\r\n")
        self._out.append(b"%b BAD %b\r\n" % (self._tag, text.encode()))
        return CONTINUE

    def _bad_command(self) -> Event:
        self._bad += 1
        if self._bad >= BAD_MAX:
            self.bye("Too many invalid IMAP commands.")
            return Quit("Too many invalid commands")
        self._out.append(self._tag + _BAD)
        return CONTINUE

    # --- the commands ----------------------------------------------------------------------------------------------

    def _capability(self, args: list[Argument]) -> Event | None:
        self.listed = self.listed or not self._upgraded
        self._out.append(b"* CAPABILITY %b\r\n%b OK Pre-login capabilities listed, post-login capabilities have more."
                         b"\r\n" % (self._caps, self._tag))
        return CONTINUE

    def _noop(self, args: list[Argument]) -> Event | None:
        self._out.append(self._tag + b" OK NOOP completed.\r\n")
        return CONTINUE

    def _logout(self, args: list[Argument]) -> Event | None:
        self._out.append(b"* BYE Logging out\r\n%b OK Logout completed.\r\n" % self._tag)
        self.state = CLOSED
        return Quit("Aborted login by logging out")

    def _enable(self, args: list[Argument]) -> Event | None:
        self._out.append(b"* ENABLED\r\n%b OK ENABLE ignored in non-authenticated state.\r\n" % self._tag)
        return CONTINUE

    def _starttls(self, args: list[Argument]) -> Event | None:
        if self._tls:
            self._out.append(self._tag + b" BAD TLS is already active.\r\n")
        elif not self._set.tls_available:
            self._out.append(self._tag + b" BAD TLS support isn't enabled.\r\n")
        else:
            self._out.append(self._tag + b" OK Begin TLS negotiation now.\r\n")
            self.state = WAIT
            return StartTls()
        return CONTINUE

    def _login(self, args: list[Argument]) -> Event | None:
        if len(args) != 2 or args[0][0] == LIST or args[1][0] == LIST:
            return None
        user, password = args[0][1], args[1][1]
        assert isinstance(user, bytes)
        assert isinstance(password, bytes)
        self.state = WAIT
        return PlainLogin(user, password)

    def _id(self, args: list[Argument]) -> Event | None:
        said = _id_pairs(args)
        if said is None:
            self._out.append(self._tag + b" BAD Invalid ID parameters\r\n")
            return CONTINUE
        self._ids += 1
        if self._set.id_retain:
            self._retain(said)
        self._out.append(b"%b%b OK ID completed.\r\n" % (self._set.id_reply, self._tag))
        if not said:
            return CONTINUE
        return Identify(_forwarded(said), [(_text(key), None if value is None else _text(value))
                                           for key, value in said], self._ids == 1)

    def _retain(self, said: list[tuple[bytes, bytes | None]]) -> None:
        """Keep what fits, never the keys that are reserved for proxies."""
        kept = b""
        for key, value in said:
            low = key.lower()
            if low in _FORWARDED or low.startswith(_FORWARD) or wire.needs_literal(key):
                continue
            if value is not None and wire.needs_literal(value):
                continue
            pair = wire.quoted(key) + b" " + (b"NIL" if value is None else wire.quoted(value)) + b" "
            if not kept or len(kept) + len(pair) <= ID_RETAIN_MAX:
                kept += pair
        self.client_id = kept

    # --- SASL ------------------------------------------------------------------------------------------------------

    def _authenticate(self, pos: int) -> Event | None:
        """AUTHENTICATE is read as one line: the initial response may be longer than other arguments."""
        end = self._buf.find(b"\n", pos)
        if end < 0 and len(self._buf) - pos <= SASL_MAX + TOKEN_MAX + 2:
            return None
        words = self._buf[pos:end if end >= 0 else None].rstrip(b"\r").removeprefix(b" ").split(b" ", 1)
        if len(words[0]) >= TOKEN_MAX:
            return self.overflow()
        if end < 0 or len(words[-1]) > SASL_MAX:
            return self.too_large(words[0].upper())
        self._pos = end + 1
        if not words[0]:
            return self._bad_command()
        self.state = WAIT
        if len(words) == 1:
            return SaslStart(words[0].upper(), None)
        initial = words[1].strip(b" ").partition(b" ")[0]
        return SaslStart(words[0].upper(), b"" if initial == b"=" else initial or None)


def _text(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape")


def _id_pairs(args: list[Argument]) -> list[tuple[bytes, bytes | None]] | None:
    """The parameters of ID; [] for none; None if they are not well-formed (RFC 2971)."""
    if not args or args[0][0] == NIL:
        return []
    kind, items = args[0]
    if kind != LIST:
        return None
    assert isinstance(items, list)
    pairs: list[tuple[bytes, bytes | None]] = []
    for index in range(0, len(items), 2):
        kind, key = items[index]
        if kind != STRING or len(key) > ID_KEY_MAX:
            return None
        value: bytes | None = None
        if index + 1 < len(items):
            kind, text = items[index + 1]
            if kind not in (STRING, NIL):
                return None
            value = bytes(text) if kind == STRING else None
        if len(pairs) < ID_PAIRS_MAX:
            pairs.append((bytes(key), value))
    return pairs


def _forwarded(said: list[tuple[bytes, bytes | None]]) -> dict[str, str]:
    """Canonical names of the parameters that are reserved for proxies."""
    found: dict[str, str] = {}
    for key, value in said:
        low = key.lower()
        name = _FORWARDED.get(low)
        if name is None and low.startswith(_FORWARD):
            name = "forward_" + _text(key[len(_FORWARD):])
        if name is not None and value is not None:
            found[name] = _text(value)
    return found


def offered(mechanisms: tuple[tuple[str, bool], ...], *, plaintext: bool) -> bytes:
    """` AUTH=X AUTH=Y` of (name, is clear text)."""
    return b"".join(b" AUTH=" + name.encode() for name, clear in mechanisms if plaintext or not clear)


_COMMANDS: dict[bytes, Callable[[ImapFrontend, list[Argument]], Event | None]] = {
    b"LOGIN": ImapFrontend._login,
    b"CAPABILITY": ImapFrontend._capability,
    b"ID": ImapFrontend._id,
    b"NOOP": ImapFrontend._noop,
    b"LOGOUT": ImapFrontend._logout,
    b"STARTTLS": ImapFrontend._starttls,
    b"ENABLE": ImapFrontend._enable,
}
