r"""The language that clients and backends of a scenario are written in.

One step a line, `#` begins a comment line:

    > TEXT        send TEXT and CRLF              >> TEXT      send TEXT as it is
    < REGEX       read lines up to one that matches (all are recorded)
    eof           read until the peer closes      quiet S      nothing may arrive for S seconds
    wait S        sleep                           took LO HI   since the last send LO..HI seconds went by
    tls [NAME]    TLS handshake from here on; a client shows, a backend uses certificate NAME
    shut          half-close                      close | rst  end the connection
    notify      TLS close_notify, then close
    connect [tls] [from IP] [NAME]                (client) leave this connection, open one to listener NAME
    serve [PROTOCOL]  (backend) be a small IMAP (or other) server until EOF
    ---           (backend) script of the next connection; the last one is used for all that follow

In texts and expressions: `$u` the scenario's user, `$port` its backend's port, `$dead` a port that refuses, `$imap`,
`$imaps` and so on the listeners, `$b64(TEXT)` base64, `${TEXT*N}` repetition; texts know `\r \n \t \0 \\ \xNN`.
"""
from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass

_ESCAPE = re.compile(r"\\(x[0-9A-Fa-f]{2}|[rnt0\\])")
_PLAIN = {"r": "\r", "n": "\n", "t": "\t", "0": "\0", "\\": "\\"}
_REPEAT = re.compile(r"\$\{([^}]*)\*(\d+)\}")
_BASE64 = re.compile(r"\$b64\(([^)]*)\)")
_NAME = re.compile(r"\$([a-z][a-z0-9]*)")


@dataclass(frozen=True, slots=True)
class Step:
    """One line of a script."""

    verb: str
    arg: str = ""


def parse(text: str) -> tuple[Step, ...]:
    """The steps of one connection."""
    steps = []
    for line in text.splitlines():
        verb, _, arg = line.lstrip().partition(" ")
        if verb and not verb.startswith("#"):
            steps.append(Step(verb, arg))
    return tuple(steps)


def parse_connections(text: str) -> tuple[tuple[Step, ...], ...]:
    """A backend's script: one tuple of steps for each connection."""
    return tuple(parse(part) for part in re.split(r"(?m)^\s*---\s*$", text))


def _unescape(text: str) -> str:
    return _ESCAPE.sub(lambda m: chr(int(m[1][1:], 16)) if m[1][0] == "x" else _PLAIN[m[1]], text)


def _names(text: str, names: Mapping[str, str]) -> str:
    return _NAME.sub(lambda m: names.get(m[1], m[0]), text)


def fill(text: str, names: Mapping[str, str]) -> str:
    """The characters (Latin-1: one a byte) that a text stands for."""
    text = _names(text, names)
    text = _BASE64.sub(lambda m: base64.b64encode(_unescape(m[1]).encode("latin-1")).decode(), text)
    return _unescape(_REPEAT.sub(lambda m: m[1] * int(m[2]), text))


def expression(text: str, names: Mapping[str, str]) -> re.Pattern[str]:
    """The compiled expression of a `<` step."""
    return re.compile(_names(text, {name: re.escape(value) for name, value in names.items()}))
