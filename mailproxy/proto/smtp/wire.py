"""SMTP words (RFC 5321): replies read and written, parameters, xtext, XCLIENT lines, capabilities of EHLO and LHLO.

In and out: bytes.  It must not know of sockets, sessions or which of Submission and LMTP it serves.
Limits: REPLY_LINE_MAX bytes a line, REPLY_LINES_MAX lines a reply, XCLIENT_LINE_MAX bytes an XCLIENT line.
"""
from __future__ import annotations

import re

from mailproxy.errors import ProtocolError
from mailproxy.proto import forward
from mailproxy.proto.lines import shown

#: Bytes of one line of a peer's reply.
REPLY_LINE_MAX = 4096
#: Lines of one reply.
REPLY_LINES_MAX = 128
#: An XCLIENT command with its line end; more parameters go into further commands.
XCLIENT_LINE_MAX = 512
#: XCLIENT parameters that carry what is canonically named so (see events.Identify), in the order in which they go out.
XCLIENT_NAMES = (("ttl", b"TTL"), ("rport", b"PORT"), ("rip", b"ADDR"), ("session", b"SESSION"))
UNAVAILABLE = b"[UNAVAILABLE]"

_STATUS = re.compile(rb"([2-5][0-9][0-9])(?:([ -])([^\r\n\0]*))?\Z")
_ENHANCED = re.compile(rb"([245]\.[0-9]{1,3}\.[0-9]{1,3}) ")
_NOT_XTEXT = re.compile(rb"[^!-*,-<>-~]")
_XTEXT = re.compile(rb"(?:[!-*,-<>-~]|\+[0-9A-F]{2})*\Z")
_XTEXT_ESCAPE = re.compile(rb"\+([0-9A-F]{2})")
_VALUE = re.compile(rb"[!-<>-~\x80-\xff]*\Z")
_KEYWORD = re.compile(rb"[A-Za-z0-9][A-Za-z0-9-]*\Z")


class Reply:
    """One reply.  `enhanced`: the RFC 2034 code of the first line, b"" for none; `lines`: the texts behind codes."""

    __slots__ = ("code", "enhanced", "lines", "raw")

    def __init__(self, code: int, enhanced: bytes, lines: tuple[bytes, ...], raw: bytes) -> None:
        self.code = code
        self.enhanced = enhanced
        self.lines = lines
        self.raw = raw          # all of it as it came, line ends made CRLF: what can be passed on

    def is_success(self) -> bool:
        return 200 <= self.code < 300

    def text(self) -> bytes:
        """All texts in one line, for logs."""
        return b" ".join(self.lines)


class BadReply(ProtocolError):
    """A reply that breaks the grammar.  The text is for a log; `line`: where; `first`: it was to begin a reply."""

    def __init__(self, text: str, line: bytes, *, first: bool = False) -> None:
        super().__init__(text)
        self.line = line
        self.first = first


class ReplyReader:
    """A peer's replies, however its packets are cut.  `enhanced`: the peer has promised enhanced codes; without that
    they stay part of the text."""

    __slots__ = ("_buf", "_code", "_enhanced", "_lines", "_raw", "enhanced")

    def __init__(self, *, enhanced: bool = False) -> None:
        self.enhanced = enhanced
        self._buf = b""
        self._clear()

    def _clear(self) -> None:
        self._code = 0
        self._enhanced = b""
        self._lines: list[bytes] = []
        self._raw: list[bytes] = []

    def feed(self, data: bytes) -> None:
        self._buf = self._buf + data if self._buf else data

    def leftover(self) -> bytes:
        """What came behind the last reply that was taken."""
        return b"".join(self._raw) + self._buf

    def drop(self) -> None:
        """Forget what has not been taken: bytes from before a TLS handshake."""
        self._buf = b""
        self._clear()

    def next_reply(self) -> Reply | None:
        """The next whole reply, None if more bytes are needed."""
        while True:
            line = self.next_line()
            if line is None:
                return None
            reply = self._line(line)
            if reply is not None:
                return reply

    def next_line(self) -> bytes | None:
        """One line without its end, whatever it says."""
        end = self._buf.find(b"\n")
        if end < 0:
            if len(self._buf) > REPLY_LINE_MAX + 1:
                raise BadReply("Too long input line", self._buf)
            return None
        line = self._buf[:end].removesuffix(b"\r")
        if len(line) > REPLY_LINE_MAX:
            raise BadReply("Too long input line", line)
        self._buf = self._buf[end + 1:]
        return line

    def _line(self, line: bytes) -> Reply | None:
        match = _STATUS.match(line)
        code = int(match[1]) if match is not None else 0
        if self._code not in (0, code):
            raise BadReply(f"Inconsistent SMTP reply: {shown(line)} (status != {self._code})", line)
        if match is None:
            raise BadReply("Invalid SMTP reply: " + shown(line), line, first=True)
        text = match[3] or b""
        self._code = code
        self._raw.append(line + b"\r\n")
        if self.enhanced:
            found = _ENHANCED.match(text)
            if found is not None and text[0] == line[0]:
                self._enhanced = self._enhanced or found[1]
                text = text[found.end():]
        self._lines.append(text)
        if match[2] != b"-":
            reply = Reply(code, self._enhanced, tuple(self._lines), b"".join(self._raw))
            self._clear()
            return reply
        if len(self._lines) >= REPLY_LINES_MAX:
            raise BadReply("Too many lines in reply", line)
        return None


def reply(code: int, text: bytes, enhanced: bytes = b"") -> bytes:
    """A reply; `text` may hold line feeds, the code and the enhanced code stand on each line."""
    middle = enhanced + b" " if enhanced else b""
    lines = text.split(b"\n")
    return b"".join(b"%d%b%b%b\r\n" % (code, b"-" if number < len(lines) else b" ", middle, line)
                    for number, line in enumerate(lines, 1))


def parameters(text: bytes) -> list[tuple[bytes, bytes | None]]:
    """`KEY=value KEY ...` with keys in upper case; None: no value.  ProtocolError says what is wrong."""
    found: list[tuple[bytes, bytes | None]] = []
    for word in text.split(b" ") if text else ():
        key, equals, value = word.partition(b"=")
        if not word:
            raise ProtocolError("Parameter is empty")
        if _KEYWORD.match(key) is None:
            raise ProtocolError("Unexpected character in parameter keyword")
        if _VALUE.match(value) is None:
            raise ProtocolError("Unexpected character in parameter value")
        found.append((key.upper(), value if equals else None))
    return found


def to_xtext(value: bytes) -> bytes:
    """RFC 3461: `+`, `=` and what is not printable ASCII become +XX."""
    if _NOT_XTEXT.search(value) is None:
        return value
    return _NOT_XTEXT.sub(lambda match: b"+%02X" % ord(match[0]), value)


def from_xtext(value: bytes) -> bytes | None:
    """None: not xtext."""
    if _XTEXT.match(value) is None:
        return None
    return _XTEXT_ESCAPE.sub(lambda match: bytes.fromhex(match[1].decode()), value) if b"+" in value else value


def xclient_pairs(identity: tuple[tuple[str, str], ...], *, ipv6_prefix: bool = True) -> list[tuple[bytes, bytes]]:
    """An Order's identity as XCLIENT parameters, raw values, in the order in which they go out; forward_NAME last."""
    said = dict(identity)
    pairs: list[tuple[bytes, bytes]] = []
    for name, key in XCLIENT_NAMES:
        value = said.get(name, "")
        if value:
            if name == "rip" and ":" in value and ipv6_prefix:
                value = "IPV6:" + value
            pairs.append((key, value.encode("utf-8", "surrogateescape")))
    variables = tuple(pair for pair in identity if pair[0][:8].lower() == "forward_")
    if variables:
        pairs.append((b"FORWARD", forward.encode(variables)))
    return pairs


def xclient_lines(pairs: list[tuple[bytes, bytes]]) -> list[bytes]:
    """Commands with their CRLF, as many as it takes; a parameter that is too long for any line has one of its own."""
    lines: list[bytes] = []
    line = b"XCLIENT"
    for key, value in pairs:
        word = b" %b=%b" % (key, to_xtext(value) if value != UNAVAILABLE else value)
        if len(line) + len(word) + 2 > XCLIENT_LINE_MAX and line != b"XCLIENT":
            lines.append(line + b"\r\n")
            line = b"XCLIENT"
        line += word
    if line != b"XCLIENT":
        lines.append(line + b"\r\n")
    return lines


def capabilities(lines: tuple[bytes, ...]) -> dict[bytes, tuple[bytes, ...]]:
    """What an EHLO or LHLO reply offers: NAME -> its words.  The first line greets."""
    found: dict[bytes, tuple[bytes, ...]] = {}
    for line in lines[1:]:
        words = line.split()
        if words:
            found.setdefault(words[0].upper(), tuple(words[1:]))
    return found
