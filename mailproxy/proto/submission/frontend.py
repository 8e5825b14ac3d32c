"""The Submission server side before login: every command, its limits, and the words of every outcome.

In: bytes of the client through `feed`, outcomes of the session through the methods below.  Out: events through
`next_event`, bytes through `take_output`.  It must not know of sockets, auth servers or backends.
Limits: PARAMETERS_MAX bytes behind a command's name, SASL_MAX per SASL line, BAD_MAX bad commands in a row.
(Long, because the commands, their limits and their words are one state machine.)
"""
from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from dataclasses import dataclass

from mailproxy.errors import ProtocolError
from mailproxy.proto import spec
from mailproxy.proto.commands import CLOSED, CONTINUE, SASL, WAIT, Commands
from mailproxy.proto.events import Event, Identify, Quit, SaslAbort, SaslResponse, SaslStart, StartTls
from mailproxy.proto.smtp import message, wire, xclient
from mailproxy.proto.submission.backend import SubmissionBackend

#: Bytes behind a command's name, its space included.
PARAMETERS_MAX = 1026
NAME_MAX = 32
#: Bytes of a SASL response in base64, also behind AUTH: tokens of OAuth are longer than commands.
SASL_MAX = 8192
#: That many commands in a row may be bad; the next ends the connection.
BAD_MAX = 10

_NAME = re.compile(rb"([A-Za-z]{0,%d})(?= |\r?\n|\r?\Z)" % NAME_MAX)
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_STRING = re.compile(rb'[!#-\'*+\-./0-9=?A-Z^_`a-z{|}~$%&]+\Z')
_QUOTED = re.compile(rb'"(?:[ !#-\[\]-~]|\\[ -~])*"')

#: why -> (code, enhanced code, default text)
_REFUSALS: dict[int, tuple[int, bytes, bytes]] = {
    spec.AUTH_FAILED: (535, b"5.7.8", b"Authentication failed."),
    spec.TEMP_FAIL: (454, b"4.7.0", b"Temporary authentication failure."),
    spec.AUTHZ_FAILED: (535, b"5.7.8", b"Authorization failed"),
    spec.PASS_EXPIRED: (535, b"5.7.8", b"Authentication failed."),
    spec.USER_DISABLED: (535, b"5.7.8", b"Authentication failed."),
    spec.ANONYMOUS_DENIED: (525, b"5.7.13", b"Anonymous logins denied"),
    spec.LOGIN_DISABLED: (525, b"5.7.13", b"Login disabled for this user"),
    spec.REFERRAL: (535, b"5.7.8", b"Try this server instead."),
    spec.INVALID_BASE64: (501, b"5.5.2", b"Invalid base64 data in initial response"),
    spec.BAD_CONTINUATION: (535, b"5.7.8", b"Invalid base64 in response"),
    spec.ABORTED: (501, b"5.5.2", b"Authentication aborted by client."),
    spec.MECHANISM_UNKNOWN: (504, b"5.5.4", b"Unsupported authentication mechanism."),
    spec.PLAINTEXT_DISABLED: (523, b"5.7.10", b"Plaintext authentication disabled."),
    spec.TLS_REQUIRED: (530, b"5.7.0", b"TLS required."),
    spec.CERT_MISSING: (535, b"5.7.8", b"Client didn't present valid SSL certificate"),
    spec.PROXY_UNAVAILABLE: (454, b"4.7.0", b"Account is temporarily unavailable."),
    spec.PROXY_MISCONFIGURED: (454, b"4.7.0", b"Account is temporarily unavailable."),
    spec.INTERNAL: (454, b"4.7.0", b"Internal login failure. Refer to server log for more information."),
    spec.TOO_MANY: (421, b"4.7.0", b""),
}
#: Replies with these codes count as bad commands; any other ends the row.
_BAD_CODES = (500, 501, 503)


@dataclass(frozen=True, slots=True)
class SubmissionSettings:
    """What every frontend of a worker shares; all of it ready to be sent."""

    machine: bytes
    greeting: bytes
    before_auth: tuple[bytes, ...]      # capabilities by their place
    before_tls: tuple[bytes, ...]
    last: tuple[bytes, ...]
    auth: bytes | None                  # mechanisms, secured or where clear text is allowed
    auth_insecure: bytes | None         # on other connections; None: AUTH is not offered
    tls_available: bool
    xclient: bytes


class SubmissionFrontend(Commands):
    """One client's dialogue.  `client_id`: HELO, PROTO and perhaps LOGIN as XCLIENT parameters for the backend."""

    __slots__ = ("_bad", "_forwarded", "_hello", "_name", "_quit", "_secured", "_set", "_skip_bytes", "_tls",
                 "_trusted", "_words")

    def __init__(self, settings: SubmissionSettings) -> None:
        super().__init__()
        self._set = settings
        self._name = b""
        self._bad = 0
        self._tls = self._secured = self._trusted = False
        self._hello: dict[str, str] = {}                # of the client's own EHLO or HELO
        self._forwarded: dict[str, str] = {}            # of a trusted peer's XCLIENT
        self._skip_bytes = 0                            # of a chunk that belongs to a refused BDAT
        self._words = b""                               # why a SASL exchange ends, if not by the client's wish
        self._quit: Quit | None = None

    # --- what the session calls ------------------------------------------------------------------------------------

    def greet(self, tls: bool, secured: bool, trusted: bool = False, challenge: str = "") -> None:
        self._tls, self._secured, self._trusted = tls, secured, trusted
        self._banner()

    def _banner(self) -> None:
        self._out.append(b"220 %b %b\r\n" % (self._set.machine, self._set.greeting))

    def secure(self) -> None:
        """STARTTLS has happened: nothing that was said before counts."""
        self.forget()
        self._skip_bytes = 0
        self._hello = {}
        self._tell()
        self._tls = self._secured = True

    def next_event(self) -> Event | None:
        event = super().next_event() if self._quit is None else None
        if self._quit is not None:
            event, self._quit = self._quit, None
        return event

    def challenge(self, data: bytes) -> None:
        """The auth server wants more: `data` is base64."""
        self._out.append(b"334 " + data + b"\r\n")
        self.state = SASL

    def refuse(self, why: int, text: str = "") -> None:
        """Tell the client and go back to commands."""
        code, enhanced, words = _REFUSALS[why]
        if why == spec.ABORTED and self._words:
            code, enhanced, words = 500, b"5.5.2", self._words
            self._words = b""
        self._say(code, enhanced, text.encode("utf-8", "surrogateescape") or words)
        self.resume()

    def refer(self, referral: spec.Referral, text: str) -> None:
        """There is no referral in SMTP: the text has to do."""
        self.refuse(spec.REFERRAL, text)

    def backend_refused(self, reply: bytes) -> None:
        """The backend's own reply; with 421 it is also the end."""
        super().backend_refused(reply)
        if reply.startswith(b"421"):
            self.state = CLOSED
            line = reply.partition(b"\r\n")[0].decode("utf-8", "backslashreplace")
            self._quit = Quit(f"Server closed the connection: {line}")

    def welcome(self, backend: spec.Backend) -> None:
        """The backend said yes."""
        assert isinstance(backend, SubmissionBackend)
        self._out.append(backend.reply + b"\r\n")

    def mail_input(self) -> bytes:
        own = self._hello.get("helo", "")
        return f"{own}\0{self._forwarded.get('helo') or own}\0".encode()

    def bye(self, text: str, *, internal: bool = False) -> None:
        kind = b"4.4.2" if "inactivity" in text or text.startswith("Timeout") else b"4.3.2"
        self._out.append(b"421 %b %b %b\r\n" % (kind, self._set.machine, text.encode()))
        self.state = CLOSED

    # --- reading commands ------------------------------------------------------------------------------------------

    def _say(self, code: int, enhanced: bytes, text: bytes) -> None:
        """A reply, unless it is one bad command too many."""
        self._bad = self._bad + 1 if code in _BAD_CODES else 0
        if self._bad <= BAD_MAX:
            self._out.append(wire.reply(code, text, enhanced))
            return
        self._out.append(b"421 4.7.0 %b Too many invalid commands.\r\n" % self._set.machine)
        self.state = CLOSED
        unfinished = f" (unfinished {self._name.decode()} command)" if self._name in _COMMANDS else ""
        self._quit = Quit("Too many invalid commands." + unfinished)

    def command(self) -> Event | None:
        buf = self._buf
        if not self._skipped():
            return None
        pos = self._pos
        end = buf.find(b"\n", pos)
        match = _NAME.match(buf, pos)
        self._name = name = match[1].upper() if match is not None else b""
        limit = len(name) + (SASL_MAX + NAME_MAX if name == b"AUTH" else PARAMETERS_MAX)
        if end < 0 and len(buf) - pos <= max(limit, NAME_MAX + 1) + 1:
            return None
        if match is None:
            return self._broken(b"Invalid command syntax")
        if end < 0 or end - pos - (buf[end - 1:end] == b"\r") > limit:
            self._name = b""
            return self._broken(b"Line too long")
        line = buf[pos + len(name):end].removesuffix(b"\r")
        parameters = line[1:].rstrip(b" \t")
        if parameters[:1] == b" " or _CONTROL.search(line) or not _is_utf8(line):
            return self._broken(b"Invalid command syntax")
        self._pos = end + 1
        handler = _COMMANDS.get(name)
        if handler is not None:
            if name not in _IN_THE_CLEAR and self._set.auth_insecure is None and not self._secured:
                self._leave_out(name, parameters)
                self._say(*_REFUSALS[spec.TLS_REQUIRED])
                return CONTINUE
            return handler(self, parameters)
        self._say(500, b"5.5.1", b"Unknown command")
        return CONTINUE

    def _skipped(self) -> bool:
        """Leave out what is not to be read; True if that is done and something is left."""
        if self._skip_bytes:
            skip = min(self._skip_bytes, len(self._buf) - self._pos)
            self._pos += skip
            self._skip_bytes -= skip
        if self._skip:
            self.skip_line()
        return self._pos < len(self._buf)

    def _broken(self, words: bytes) -> Event:
        """A line that cannot be read: answered at once, the rest of it is dropped."""
        self._name = b""
        self._skip = True
        self._say(500, b"5.5.2", words)
        return CONTINUE

    # --- the commands ----------------------------------------------------------------------------------------------

    def _ehlo(self, parameters: bytes) -> Event:
        if not self._greeted("ESMTP", parameters):
            return CONTINUE
        settings = self._set
        lines = [settings.machine, *settings.before_auth]
        auth = settings.auth if self._secured else settings.auth_insecure
        if auth is not None:
            lines.append(b"AUTH " + auth)
        lines += settings.before_tls
        if settings.tls_available and not self._tls:
            lines.append(b"STARTTLS")
        lines += settings.last
        if self._trusted:
            lines.append(b"XCLIENT " + settings.xclient)
        self._say(250, b"", b"\n".join(lines))
        return CONTINUE

    def _helo(self, parameters: bytes) -> Event:
        if self._greeted("SMTP", parameters):
            self._say(250, b"", self._set.machine)
        return CONTINUE

    def _greeted(self, protocol: str, parameters: bytes) -> bool:
        if not parameters:
            self._say(501, b"", b"Missing hostname")
            return False
        word = parameters.split(b" ", 1)[0]
        self._hello = {"proto": protocol, "helo": xclient.domain(word).decode()}
        self._tell()
        return True

    def _tell(self) -> None:
        """What the backend is told of it."""
        said = self._hello | {name: value for name, value in self._forwarded.items() if value}
        self.client_id = b" ".join(b"%b=%b" % (name.upper().encode(), wire.to_xtext(_bytes(said[name])))
                                   for name in _TOLD if said.get(name))

    def _noop(self, parameters: bytes) -> Event:
        wrong = _string_problem(parameters)
        if wrong:
            self._say(501, b"5.5.4", b"Invalid string parameter: " + wrong)
        else:
            self._say(250, b"2.0.0", b"OK")
        return CONTINUE

    def _bare(self, parameters: bytes) -> bool:
        """The command takes no parameters."""
        if parameters:
            self._say(501, b"5.5.4", b"Invalid parameters")
        return not parameters

    def _rset(self, parameters: bytes) -> Event:
        if self._bare(parameters):
            self._say(250, b"2.0.0", b"OK")
        return CONTINUE

    def _quit_command(self, parameters: bytes) -> Event:
        if not self._bare(parameters):
            return CONTINUE
        self._out.append(b"221 2.0.0 Bye\r\n")
        self.state = CLOSED
        return Quit("Aborted login by logging out")

    def _starttls(self, parameters: bytes) -> Event:
        if self._tls:
            self._say(502, b"5.5.1", b"TLS is already active.")
        elif not self._set.tls_available:
            self._say(502, b"5.5.1", b"TLS support is not enabled.")
        elif self._bare(parameters):
            self._say(220, b"2.0.0", b"Begin TLS negotiation now.")
            self.state = WAIT
            return StartTls()
        return CONTINUE

    def _not_yet(self, parameters: bytes) -> Event:
        """A command of those who are logged in."""
        self._leave_out(self._name, parameters)
        self._say(530, b"5.7.0", b"Authentication required.")
        return CONTINUE

    def _leave_out(self, name: bytes, parameters: bytes) -> None:
        """The chunk behind BDAT comes in any case, and must not be read as commands."""
        if name == b"BDAT":
            with contextlib.suppress(ProtocolError):
                self._skip_bytes, _ = message.bdat(parameters)

    # --- AUTH ------------------------------------------------------------------------------------------------------

    def _auth(self, parameters: bytes) -> Event:
        if not parameters:
            self._say(501, b"5.5.4", b"Missing SASL mechanism parameter")
            return CONTINUE
        mechanism, *rest = parameters.split(b" ")
        if len(rest) > 1:
            self._say(501, b"5.5.4", b"Invalid parameters")
            return CONTINUE
        self.state = WAIT
        initial = rest[0] if rest else None
        return SaslStart(mechanism.upper(), b"" if initial == b"=" else initial)

    def sasl_response(self) -> Event | None:
        buf, pos = self._buf, self._pos
        end = buf.find(b"\n", pos)
        if end < 0 and len(buf) - pos <= SASL_MAX + 1:
            return None
        line = buf[pos:end].removesuffix(b"\r") if end >= 0 else buf[pos:]
        if len(line) > SASL_MAX:
            self._skip = end < 0
            self._words = b"Line too long"
        elif _CONTROL.search(line):
            self._words = b"Invalid AUTH response syntax"
        self._pos = end + 1 if end >= 0 else len(buf)
        self._name = b"AUTH"
        self.state = WAIT
        line = line.rstrip(b" \t")
        return SaslAbort() if self._words or line == b"*" else SaslResponse(line)

    # --- XCLIENT ---------------------------------------------------------------------------------------------------

    def _xclient(self, parameters: bytes) -> Event:
        if not self._trusted:
            self._say(550, b"5.7.14", b"You are not from trusted IP")
            return CONTINUE
        try:
            said = xclient.parse(parameters)
        except ProtocolError as error:
            self._say(501, b"5.5.4", str(error).encode())
            return CONTINUE
        self._forwarded |= {name: said.pop(name) for name in _TOLD if name in said}
        self._tell()
        self._bad = 0
        self._banner()
        return Identify(said, [], True)


def _is_utf8(line: bytes) -> bool:
    if line.isascii():
        return True
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _string_problem(text: bytes) -> bytes:
    """What is wrong with a String (RFC 5321: a word or a quoted text); b"" for nothing."""
    if not text or _STRING.match(text) is not None:
        return b""
    if text[:1] == b'"':
        match = _QUOTED.match(text)
        if match is None:
            return b"Premature end of quoted string"
        if match.end() == len(text):
            return b""
    return b"Invalid character in string"


#: What is heard without TLS where TLS is required.
_IN_THE_CLEAR = frozenset((b"EHLO", b"HELO", b"STARTTLS", b"NOOP", b"QUIT"))
#: What a backend is told of how the client greeted, in this order.
_TOLD = ("helo", "proto", "login")
_COMMANDS: dict[bytes, Callable[[SubmissionFrontend, bytes], Event | None]] = {
    b"EHLO": SubmissionFrontend._ehlo,
    b"HELO": SubmissionFrontend._helo,
    b"AUTH": SubmissionFrontend._auth,
    b"STARTTLS": SubmissionFrontend._starttls,
    b"XCLIENT": SubmissionFrontend._xclient,
    b"NOOP": SubmissionFrontend._noop,
    b"RSET": SubmissionFrontend._rset,
    b"QUIT": SubmissionFrontend._quit_command,
    b"MAIL": SubmissionFrontend._not_yet,
    b"RCPT": SubmissionFrontend._not_yet,
    b"DATA": SubmissionFrontend._not_yet,
    b"VRFY": SubmissionFrontend._not_yet,
    b"BDAT": SubmissionFrontend._not_yet,
}
