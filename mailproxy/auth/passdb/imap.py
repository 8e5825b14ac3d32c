"""imap: whoever can log in to another IMAP server has the right password.

args: host=… [port=…] [username=%u] [ssl=imaps|starttls] [ssl_ca_file=…] [ssl_ca_dir=…] [allow_invalid_cert=yes].
A refusal without a reason, or for a wrong password, is a wrong password; any other one is a temporary failure.
Blocking: for auth-workers.  Limits: LINE_MAX bytes a line, LINES_MAX lines an answer, TIMEOUT seconds in all.
"""
from __future__ import annotations

import base64
import re
import socket
import ssl
import time

from mailproxy.auth import outcome
from mailproxy.auth.passdb.driver import Answer, ArgsInvalid, failure, without_password
from mailproxy.auth.variables import template
from mailproxy.errors import ProtocolError
from mailproxy.variables import ExpandError, Values

LINE_MAX = 65536
LINES_MAX = 1000
#: Seconds: until connected, for the whole login.
CONNECT_TIMEOUT = 5.0
TIMEOUT = 30.0
_CODE = re.compile(rb"[^ ]+ NO \[([A-Za-z0-9-]+)[^\]]*\]")
_CAPABILITIES = re.compile(rb"\[CAPABILITY ([^\]]*)\]|\* CAPABILITY (.*)", re.IGNORECASE)
_LITERAL = re.compile(rb"\{(\d{1,9})\}\Z")
_SAYS_WRONG = frozenset((b"", b"AUTHENTICATIONFAILED", b"AUTHORIZATIONFAILED", b"ALERT"))
_SETTINGS = frozenset(("host", "port", "username", "ssl", "ssl_ca_dir", "ssl_ca_file", "allow_invalid_cert",
                       "rawlog_dir"))
_TLS = ("", "imaps", "starttls")


class Imap:
    __slots__ = ("_context", "_host", "_mode", "_port", "_user", "needs", "variables")

    default_scheme = "PLAIN"
    blocking = True

    def __init__(self, args: str) -> None:
        given: dict[str, str] = {}
        for word in args.split():
            key, _, value = word.partition("=")
            if key not in _SETTINGS:
                raise ArgsInvalid(f"imap: Unknown parameter: {word}")
            given[key] = value
        if not given.get("host"):
            raise ArgsInvalid("imap: Missing host parameter")
        self._mode = given.get("ssl", "")
        if self._mode not in _TLS:
            raise ArgsInvalid(f"imap: Invalid ssl mode: {self._mode}")
        port = given.get("port") or ("993" if self._mode == "imaps" else "143")
        if not port.isascii() or not port.isdigit() or not 0 < int(port[:6]) < 65536:
            raise ArgsInvalid(f"imap: Invalid port: {port}")
        self._port = int(port)
        self._host = template(given["host"])
        self._user = template(given.get("username") or "%u")
        self._context = _context(given) if self._mode else None
        self.variables: tuple[str, ...] | None = None
        self.needs = tuple(dict.fromkeys(("user", *self._host.key_variables, *self._user.key_variables)))

    def open(self) -> None:
        """A connection per login."""

    def close(self) -> None:
        """Nothing stays open."""

    def lookup(self, values: Values) -> Answer:
        return without_password()

    def verify(self, values: Values, password: str) -> Answer:
        try:
            host, user = self._host.expand(values), self._user.expand(values)
        except ExpandError as error:
            return failure(f"Failed to expand args: {error}")
        if any(char in text for text in (user, password) for char in "\0\r\n"):
            return Answer(outcome.MISMATCH, note="NUL or line break in user name or password")
        dialogue = None
        try:
            dialogue = _Dialogue(host, self._port, self._context, self._mode)
            return _meaning(dialogue.login(_raw(user), _raw(password)))
        except (OSError, ProtocolError, UnicodeError) as error:         # UnicodeError: no host name at all
            text = error.strerror if isinstance(error, OSError) and error.strerror else str(error) or "timed out"
            return failure(f"imap({host}:{self._port}): {text}")
        finally:
            if dialogue is not None:
                dialogue.close()


def _context(given: dict[str, str]) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=given.get("ssl_ca_file") or None,
                                             capath=given.get("ssl_ca_dir") or None)
    except OSError as error:
        raise ArgsInvalid(f"imap: Can't load ssl_ca_file or ssl_ca_dir: {error.strerror or error}") from None
    if given.get("allow_invalid_cert", "no") != "no":
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _meaning(line: bytes) -> Answer:
    """Of the tagged answer to the login."""
    word = line.split(b" ", 2)[1:2]
    if word == [b"OK"]:
        return Answer(outcome.OK)
    text = line.decode("utf-8", "replace")[:200]
    if word != [b"NO"]:
        return failure(f"the server says: {text}")
    found = _CODE.match(line)
    code = found[1].upper() if found else b""
    if code == b"EXPIRED":
        return Answer(outcome.EXPIRED, note=f"the server says: {text}")
    if code in _SAYS_WRONG:
        return Answer(outcome.MISMATCH, note="Password mismatch")
    return failure(f"the server says: {text}")


class _Dialogue:
    """One connection, with a deadline for everything on it."""

    __slots__ = ("_buffer", "_capabilities", "_end", "_socket", "_tag")

    def __init__(self, host: str, port: int, context: ssl.SSLContext | None, mode: str) -> None:
        self._end = time.monotonic() + TIMEOUT
        self._buffer = b""
        self._tag = 0
        self._capabilities: set[bytes] | None = None
        self._socket = socket.create_connection((host, port), CONNECT_TIMEOUT)
        try:
            if context is not None and mode == "imaps":
                self._socket = context.wrap_socket(self._socket, server_hostname=host)
            greeting = self._line()
            if not greeting.upper().startswith((b"* OK", b"* PREAUTH")):
                raise ProtocolError(f"unexpected greeting: {greeting[:100].decode('utf-8', 'replace')}")
            self._learn(greeting)
            if context is not None and mode == "starttls":
                if not self._command(b"STARTTLS").upper().split(b" ")[1:2] == [b"OK"]:
                    raise ProtocolError("STARTTLS was refused")
                self._buffer = b""                      # nothing that came before counts behind TLS
                self._capabilities = None
                self._socket = context.wrap_socket(self._socket, server_hostname=host)
        except BaseException:
            self._socket.close()
            raise

    def close(self) -> None:
        self._socket.close()

    def login(self, user: bytes, password: bytes) -> bytes:
        """The tagged answer."""
        if self._capabilities is None:
            self._command(b"CAPABILITY")
        if {b"SASL-IR", b"AUTH=PLAIN"} <= (self._capabilities or set()):
            return self._command(b"AUTHENTICATE PLAIN " + base64.b64encode(b"\0" + user + b"\0" + password))
        return self._command(b"LOGIN", user, password)

    def _command(self, line: bytes, *literals: bytes) -> bytes:
        self._tag += 1
        tag = b"%d" % self._tag
        ready = tag + b" " + line
        for literal in literals:
            self._send(b"%s {%d}\r\n" % (ready, len(literal)))
            answer = self._answer(tag)
            if not answer.startswith(b"+"):
                return answer
            ready = literal
        self._send(ready + b"\r\n")
        answer = self._answer(tag)
        if answer.startswith(b"+"):
            raise ProtocolError("unexpected continuation request")
        return answer

    def _answer(self, tag: bytes) -> bytes:
        """The next line that is not untagged."""
        for _ in range(LINES_MAX):
            line = self._line()
            if line.startswith((tag + b" ", b"+")):
                self._learn(line)
                return line
            if not line.startswith(b"* "):
                raise ProtocolError(f"unexpected line: {line[:100].decode('utf-8', 'replace')}")
            if line[:5].upper() == b"* BYE":
                raise ProtocolError(f"the server says: {line[:200].decode('utf-8', 'replace')}")
            self._learn(line)
        raise ProtocolError(f"more than {LINES_MAX} untagged lines")

    def _learn(self, line: bytes) -> None:
        found = _CAPABILITIES.search(line)
        if found:
            self._capabilities = set((found[1] or found[2]).upper().split())

    def _line(self) -> bytes:
        """One logical line; literals in it are dropped."""
        whole = b""
        while True:
            while b"\n" not in self._buffer:
                self._receive()
            line, _, self._buffer = self._buffer.partition(b"\n")
            whole += line.rstrip(b"\r")
            literal = _LITERAL.search(whole)
            if len(whole) > LINE_MAX or (literal and int(literal[1]) > LINE_MAX):
                raise ProtocolError(f"a line has more than {LINE_MAX} bytes")
            if literal is None:
                return whole
            while len(self._buffer) < int(literal[1]):
                self._receive()
            whole = whole[:literal.start()]
            self._buffer = self._buffer[int(literal[1]):]

    def _receive(self) -> None:
        if len(self._buffer) > 2 * LINE_MAX:
            raise ProtocolError(f"a line has more than {LINE_MAX} bytes")
        self._socket.settimeout(self._left())
        data = self._socket.recv(16384)
        if not data:
            raise ProtocolError("the server closed the connection")
        self._buffer += data

    def _send(self, data: bytes) -> None:
        self._socket.settimeout(self._left())
        self._socket.sendall(data)

    def _left(self) -> float:
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        return left


def _raw(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
