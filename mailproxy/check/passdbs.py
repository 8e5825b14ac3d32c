"""The fields that passdbs answer with, where they can be seen: static args, default_fields, override_fields, the users
of a passwd-file, the columns of an SQL query.

In: the configuration.  Out: findings at the passdb section, or at the user's line.  No database is asked.
"""
from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from mailproxy.auth.passdb import settings_file
from mailproxy.check.files import path_of
from mailproxy.check.findings import Findings
from mailproxy.check.proxyfields import Fields, complaints
from mailproxy.config import includes
from mailproxy.config.loader import Config
from mailproxy.config.schema.sections import Passdb

#: Users of a passwd-file that are looked at, and bytes; complaints about one file.
MAX_USERS = 10_000
MAX_SIZE = 1 << 24
MAX_COMPLAINTS = 20
_QUERY = re.compile(r"^[ \t]*password_query[ \t]*=[ \t]*(.*?)[ \t]*$", re.MULTILINE)
_CONTINUED = re.compile(r"[ \t]*\\[ \t]*\n[ \t]*")
_FROM = re.compile(r"\bfrom\b", re.IGNORECASE)
_SELECT = re.compile(r"\s*select\s+(?:distinct\s+)?", re.IGNORECASE)
_COLUMN = re.compile(r"""(?P<value>.*?)(?:(?:\bas\b)?\s*[`"'\[]?(?P<name>[A-Za-z_][A-Za-z0-9_:]*)[`"'\]]?)\s*\Z""",
                     re.IGNORECASE | re.DOTALL)
_LITERAL = re.compile(r"""(?:'([^'%]*)'|([0-9]+))\s*\Z""")


class _Answer(NamedTuple):
    """One answer of a source.  `line` 0: the section's own place.  `complete`: these are all its fields."""

    path: str
    line: int
    fields: Fields
    complete: bool


def look(conf: Config, findings: Findings) -> None:
    seen: dict[Passdb, None] = {}
    for protocol in ("", *conf.protocols):
        seen.update(dict.fromkeys(conf.passdbs(protocol)))
    answers = {passdb: list(_answers(passdb)) for passdb in seen}
    hosts = {passdb: any("host" in answer.fields or not answer.complete for answer in found)
             for passdb, found in answers.items()}
    count = sum(hosts.values())
    for passdb in seen:
        if passdb.deny or passdb.master:
            continue
        alone = count == hosts[passdb]          # no other can name a host
        told = 0
        for answer in answers[passdb]:
            for complaint in complaints(answer.fields, complete=answer.complete and alone):
                told += 1
                if told <= MAX_COMPLAINTS:
                    tell = findings.error if complaint.fatal else findings.warning
                    label = "" if answer.line else f"passdb {passdb.driver}: "
                    tell(answer.path or passdb.path, answer.line or passdb.line, label + complaint.text)


def _words(text: str) -> dict[str, str | None]:
    pairs = (word.partition("=") for word in text.split())
    return {key: None if "%" in value else value for key, _, value in pairs}


def _answers(passdb: Passdb) -> Iterator[_Answer]:
    defaults, overrides = _words(passdb.default_fields), _words(passdb.override_fields)
    if passdb.driver == "static":
        yield _Answer("", 0, {**defaults, **_words(passdb.args), **overrides}, True)
    elif passdb.driver == "passwd-file":
        users = list(_users(path_of(passdb.args)))
        for path, number, fields in users:
            yield _Answer(path, number, {**defaults, **fields, **overrides}, True)
        if not users:
            yield _Answer("", 0, {**defaults, **overrides}, False)
    elif passdb.driver == "sql":
        columns = _columns(passdb.args)
        yield _Answer("", 0, {**defaults, **(columns or {}), **overrides}, columns is not None)
    else:
        yield _Answer("", 0, {**defaults, **overrides}, False)


def _users(path: str) -> Iterator[tuple[str, int, dict[str, str | None]]]:
    if not path:
        return
    try:
        with open(path, "rb", opener=includes.open_at_once) as file:
            text = (file.read(MAX_SIZE) or b"").decode("utf-8", "replace")
    except OSError:             # said elsewhere
        return
    for number, line in enumerate(text.split("\n", MAX_USERS)[:MAX_USERS], 1):
        parts = line.rstrip("\r").split(":", 7)
        if line[:1] not in "#:" and len(parts) == 8:
            yield path, number, _words(parts[7].removeprefix(":"))


def _columns(args: str) -> dict[str, str | None] | None:
    """The columns of a password_query; None: they cannot be told."""
    query = _query(args.strip())
    found = _SELECT.match(query)
    parts = _split(query[found.end():]) if found else None
    if parts is None:
        return None
    columns: dict[str, str | None] = {}
    for part in parts:
        column = _COLUMN.match(part)
        if column is None or part.rstrip().endswith("*"):
            return None
        literal = _LITERAL.match(column["value"].strip())
        columns[column["name"]] = (literal[1] if literal[1] is not None else literal[2]) if literal else None
    return columns


def _query(path: str) -> str:
    """The password_query of a driver's file; "" if it is not there.  What is wrong with the file, the driver says."""
    try:
        found = _QUERY.findall(_CONTINUED.sub(" ", includes.read(path, settings_file.MAX_SIZE)))
    except OSError:
        return ""
    return str(found[-1]).strip("\"") if found else ""


def _split(text: str) -> list[str] | None:
    """What stands between commas up to FROM, outside of brackets and quotes."""
    parts, depth, quote, begin = [], 0, "", 0
    for at, char in enumerate(text):
        if quote:
            quote = "" if char == quote else quote
        elif char in "'\"`":
            quote = char
        elif char in "()":
            depth += 1 if char == "(" else -1
        elif not depth and char == ",":
            parts.append(text[begin:at])
            begin = at + 1
        elif not depth and char in "fF" and text[at - 1:at].isspace() and _FROM.match(text, at):
            return [*parts, text[begin:at]]
    return [*parts, text[begin:]] if not quote and not depth else None
