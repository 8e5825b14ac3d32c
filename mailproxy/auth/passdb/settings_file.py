"""External settings files of drivers: `name = value` lines, `#` comments, `\\` at the end continues a line.

In: a path and the settings it may hold with their defaults.  Out: a dict.  ArgsInvalid names file and line.
"""
from __future__ import annotations

import os
from collections.abc import Mapping

from mailproxy.auth.passdb.driver import ArgsInvalid
from mailproxy.config import includes

MAX_SIZE = 1024 * 1024
MAX_INCLUDES = 16


def load(path: str, defaults: Mapping[str, str]) -> dict[str, str]:
    """The settings of the file over the defaults."""
    settings = dict(defaults)
    _load(path, settings, 0)
    return settings


def _load(path: str, settings: dict[str, str], depth: int) -> None:
    if depth > MAX_INCLUDES:
        raise ArgsInvalid(f"{path}: includes are nested too deep")
    for number, line in lines_of(path):
        _line(path, number, line, settings, depth)


def lines_of(path: str) -> list[tuple[int, str]]:
    """(number, text) of each line, without comments, continued ones joined."""
    try:
        text = includes.read(path, MAX_SIZE)
    except OSError as error:
        raise ArgsInvalid(f"Can't open configuration file {path}: {error.strerror}") from None
    return _logical_lines(text)


def _logical_lines(text: str) -> list[tuple[int, str]]:
    lines: list[tuple[int, str]] = []
    joined = ""
    start = 0
    for number, line in enumerate(text.split("\n"), 1):
        line = line.strip()
        if not joined:
            start = number
        line = _without_comment(line).rstrip()
        if line.endswith("\\"):
            joined += line[:-1].rstrip() + " "
            continue
        lines.append((start, (joined + line).strip()))
        joined = ""
    if joined:
        lines.append((start, joined.strip()))
    return lines


def _without_comment(line: str) -> str:
    quote = ""
    skip = False
    for index, char in enumerate(line):
        if skip:
            skip = False
        elif quote:
            if char == "\\":
                skip = True
            elif char == quote:
                quote = ""
        elif char in "\"'":
            quote = char
        elif char == "#":
            return line[:index]
    return line


def _line(path: str, number: int, line: str, settings: dict[str, str], depth: int) -> None:
    if not line:
        return
    if line.startswith(("!include ", "!include_try ")):
        word, _, name = line.partition(" ")
        included = os.path.join(os.path.dirname(path), name.strip())
        if word == "!include" or os.path.exists(included):
            _load(included, settings, depth + 1)
        return
    key, equals, value = line.partition("=")
    key, value = key.strip(), value.strip()
    if not equals:
        raise ArgsInvalid(f"Error in configuration file {path} line {number}: Expecting '='")
    if key not in settings:
        raise ArgsInvalid(f"Error in configuration file {path} line {number}: Unknown setting: {key}")
    settings[key] = unquoted(value)


def unquoted(value: str) -> str:
    if len(value) >= 2 and value[0] == value[-1] and value[0] in "\"'":
        return value[1:-1].replace('\\"', '"').replace("\\'", "'").replace("\\\\", "\\")
    return value


def yes(settings: Mapping[str, str], name: str) -> bool:
    return settings[name].lower() in ("yes", "y", "1")


def number(settings: Mapping[str, str], name: str) -> int:
    value = settings[name]
    if not (value.isascii() and value.isdigit()) or len(value) > 9:
        raise ArgsInvalid(f"{name}: not a number: {value}")
    return int(value)
