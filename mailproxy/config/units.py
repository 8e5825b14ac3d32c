"""The value types of the configuration language: text -> Python value, and back to the form a dump shows.

In: the text of one setting and its kind.  Out: bool, int, float seconds, int bytes, str, tuple of words or Secret;
`ValueError` with the text for the administrator when it does not fit.  Knows no setting by name and reads no file.
"""
from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from mailproxy.secret import Secret

BOOL, UINT, OCTAL, TIME, TIME_MS, SIZE, PORT, ENUM, TEXT, WORDS, SECRET = range(11)

UINT_MAX = 2**32 - 1
SIZE_MAX = 2**64 - 1
#: The greatest interval of a setting with millisecond resolution.
_MS_MAX = 2**32 - 1
#: The value that stands for "never" among times, and for "not set" among sizes.
NEVER = float(UINT_MAX)
UNSET_SIZE = SIZE_MAX

_TIME = re.compile(r"([0-9]+)[ \t]*([A-Za-z]*)\Z")
_SIZE = re.compile(r"([0-9]+)[ \t]*([A-Za-z]*)\Z")
#: (full words, milliseconds); a unit is any prefix of a word, the first row that fits wins.
_TIME_UNITS = (
    (("secs", "seconds"), 1000),
    (("mins", "minutes"), 60_000),
    (("msecs", "mseconds", "millisecs", "milliseconds"), 1),
    (("hours",), 3_600_000),
    (("days",), 86_400_000),
    (("weeks",), 604_800_000),
)
_SIZE_UNITS = {"": 0, "b": 0, "k": 10, "m": 20, "g": 30, "t": 40}


def _bool(text: str) -> bool:
    word = text.lower()
    if word in ("yes", "y", "1"):
        return True
    if word == "no":
        return False
    raise ValueError(f"Invalid boolean value: {text} (use yes or no)")


def _uint(text: str) -> int:
    if text.isascii() and text.isdigit():
        number = int(text[:30])
        if number <= UINT_MAX:
            return number
        raise ValueError(f"Invalid number {text}: Number too large")
    if re.match(r"-[0-9]+\Z", text):
        raise ValueError(f"Invalid number {text}: Number too small")
    raise ValueError(f"Invalid number {text}: Not a valid number")


def _octal(text: str) -> int:
    if text.startswith("0"):
        if not re.match(r"[0-7]{1,11}\Z", text):
            raise ValueError(f"Invalid number: {text}")
        return int(text, 8)
    number = _uint(text)
    # Dovecot takes this for a decimal number, so that 600 becomes 01130: never what was meant.
    raise ValueError(f"Invalid number {number}: a mode is octal and begins with 0 (0{number})")


def _milliseconds(text: str) -> int:
    found = _TIME.match(text)
    if not found:
        raise ValueError(f"Invalid time interval: {text}")
    number, unit = int(found[1][:30]), found[2].lower()
    if number > SIZE_MAX:
        raise ValueError(f"Invalid time interval: {text}")
    if not unit:
        if number:
            raise ValueError(f"Time interval '{text}' is missing units (add e.g. 's' for seconds)")
        return 0
    for words, factor in _TIME_UNITS:
        if any(word.startswith(unit) for word in words):
            return number * factor
    raise ValueError(f"Invalid time interval: {text}")


def _time(text: str) -> float:
    millis = _milliseconds(text)
    if millis % 1000:
        raise ValueError(f"Milliseconds not supported for this setting: {text}")
    if millis // 1000 > UINT_MAX:
        raise ValueError(f"Time interval is too large: {text}")
    return float(millis // 1000)


def _time_ms(text: str) -> float:
    millis = _milliseconds(text)
    if millis > _MS_MAX:
        raise ValueError(f"Time interval is too large: {text}")
    return millis / 1000


def _size(text: str) -> int:
    found = _SIZE.match(text)
    if not found:
        raise ValueError(f"Invalid size: {text}")
    number, unit = int(found[1][:30]), found[2].lower()
    if number > SIZE_MAX or unit[:1] not in _SIZE_UNITS or unit[1:] not in (("",) if unit == "b" else ("", "b", "ib")):
        raise ValueError(f"Invalid size: {text}")
    size = number << _SIZE_UNITS[unit[:1]]
    if size > SIZE_MAX:
        raise ValueError(f"Size is too large: {text}")
    return size


def _port(text: str) -> int:
    if text.isascii() and text.isdigit() and len(text) < 20 and int(text) <= 65535:
        return int(text)
    raise ValueError(f"Invalid port number {text}")


_PARSERS: dict[int, Callable[[str], Any]] = {
    BOOL: _bool, UINT: _uint, OCTAL: _octal, TIME: _time, TIME_MS: _time_ms, SIZE: _size, PORT: _port,
    TEXT: str, WORDS: lambda text: tuple(text.replace(",", " ").split()), SECRET: Secret,
}


def parse(kind: int, text: str, choices: tuple[str, ...] = ()) -> Any:
    """The value of `text`; ValueError says what is wrong with it.  `choices`: the words of an ENUM."""
    if kind == ENUM:
        if text not in choices:
            raise ValueError(f"Invalid value: {text}")
        return text
    return _PARSERS[kind](text)


def _render_time(seconds: float) -> str:
    millis = round(seconds * 1000)
    if not millis:
        return "0"
    for factor, word in ((604_800_000, "weeks"), (86_400_000, "days"), (3_600_000, "hours"), (60_000, "mins"),
                         (1000, "secs")):
        if not millis % factor:
            return f"{millis // factor} {word}"
    return f"{millis} ms"


def _render_size(size: int) -> str:
    if not size:
        return "0"
    for shift, word in ((40, "T"), (30, "G"), (20, "M"), (10, "k")):
        if not size & ((1 << shift) - 1):
            return f"{size >> shift} {word}"
    return f"{size} B"


def render(kind: int, text: str) -> str:
    """The normal form of a value that `parse` accepts: what a dump prints."""
    if kind == BOOL:
        return "yes" if _bool(text) else "no"
    if kind in (UINT, PORT):
        return str(int(text))
    if kind == OCTAL:
        return f"0{_octal(text):o}"
    if kind in (TIME, TIME_MS):
        return _render_time(_milliseconds(text) / 1000)
    if kind == SIZE:
        return _render_size(_size(text))
    return text
