"""passwd-file: `user:password:uid:gid:gecos:home:shell:fields`, kept in memory and read again when it changes.

The path may hold %variables (one file per domain, say).  A file that becomes unreadable keeps its old content and
logs; one that was never readable is an internal failure; one that does not exist knows nobody.
"""
from __future__ import annotations

import os
import time
from collections.abc import Callable

from mailproxy.auth import outcome
from mailproxy.auth.passdb.driver import Answer, ArgsInvalid, Pairs, failure, unknown
from mailproxy.auth.schemes import detect
from mailproxy.auth.variables import Said, template
from mailproxy.variables import ExpandError, Template, Values

#: Files kept at once when the path has variables; the oldest goes first.
MAX_FILES = 256
#: A larger file is a mistake, not a user database.
MAX_SIZE = 512 * 1024 * 1024
#: Seconds between two looks at a file's time stamp.
_STAT_INTERVAL = 1.0
_OLD_SCHEMES = {"13": "CRYPT", "34": "PLAIN-MD5", "56": "DIGEST-MD5"}


def _one_directory(value: str) -> str:
    """A user's name must not lead out of the directory."""
    name = value.partition("/")[0]
    return ".." + name if name and not name.strip(".") else name


def _backslashes(value: str) -> str:
    return value.translate({ord(char): "\\" + char for char in "\"'\\"})


#: What is kept of a line, the extra fields last; made of the line's fields.
Row = tuple[str, ...]
RowMaker = Callable[[list[str]], Row]


class _File:
    """One file.  `users`: name -> row, or the Answer made of it at the first lookup when it holds no variables.
    None: could not be read."""

    __slots__ = ("_checked", "_make_row", "_stamp", "error", "missing", "path", "users", "warnings")

    def __init__(self, path: str, make_row: RowMaker) -> None:
        self.path = path
        self._make_row = make_row
        self.users: dict[str, Row | Answer] | None = None
        self.missing = False
        self.error = ""
        self.warnings: list[str] = []
        self._stamp: tuple[int, int, int] | None = None
        self._checked = float("-inf")

    def refresh(self, now: float) -> None:
        if now - self._checked < _STAT_INTERVAL:
            return
        self._checked = now
        try:
            stat = os.stat(self.path)
        except FileNotFoundError:
            self.missing, self.users, self._stamp, self.error = True, None, None, ""
            return
        except (OSError, ValueError) as error:
            self.error = f"stat({self.path}) failed: {_reason(error)}"
            return
        self.missing = False
        stamp = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        if stamp != self._stamp:
            self._load(stat.st_size, stamp)

    def _load(self, size: int, stamp: tuple[int, int, int]) -> None:
        if size > MAX_SIZE:
            self.error = f"{self.path} is larger than {MAX_SIZE} bytes"
            return
        try:
            with open(self.path, encoding="utf-8", errors="surrogateescape", newline="\n") as file:
                self.users = self._parse(file.read())
        except OSError as error:
            self.error = f"open({self.path}) failed: {_reason(error)}"
            return
        self.error = ""
        self._stamp = stamp

    def _parse(self, text: str) -> dict[str, Row | Answer]:
        users: dict[str, Row | Answer] = {}
        for line in text.split("\n"):
            line = line.removesuffix("\r")
            if not line or line[0] in "#:":
                continue
            fields = line.split(":", 7)
            name = fields[0]
            if name in users:
                self.warnings.append(f"User {name} exists more than once")
                continue
            users[name] = self._make_row(fields)
        return users


def extra_fields(fields: list[str]) -> str:
    extra = fields[7] if len(fields) > 7 else ""
    if extra.startswith(":"):                                   # mail location of the oldest format
        extra = "userdb_mail=" + extra[1:].replace(" ", "\x01")
    return extra


def _password_and_extra(fields: list[str]) -> Row:
    return fields[1] if len(fields) > 1 else "", extra_fields(fields)


def _reason(error: Exception) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)


class PasswdFile:
    """The passdb; the userdb of the same name differs in what it keeps of a line and makes of it."""

    __slots__ = ("_clock", "_files", "_name", "_path", "_plain_name", "_templates", "default_scheme", "log_error")

    blocking = False
    variables: tuple[str, ...] | None = None        # it is a cache itself
    _make_row: RowMaker = staticmethod(_password_and_extra)

    def __init__(self, args: str, clock: Callable[[], float] = time.monotonic) -> None:
        scheme, name_format, path = "CRYPT", "%u", args.strip()
        while "=" in path.partition("/")[0].partition("%")[0].partition(" ")[0]:
            option, _, path = path.partition(" ")
            key, _, value = option.partition("=")
            path = path.lstrip()
            if key == "scheme":
                scheme = value.upper()
            elif key == "username_format":
                name_format = value
            else:
                raise ArgsInvalid(f"passwd-file: Unknown setting: {key}")
        if not path:
            raise ArgsInvalid("passwd-file: Missing args")
        self.default_scheme = scheme
        self._clock = clock
        self._path = template(path, _one_directory)
        self._plain_name = name_format == "%u"
        self._name = template(name_format, _backslashes)
        self._files: dict[str, _File] = {}
        self._templates: dict[str, Template] = {}
        self.log_error: Callable[[str], None] = lambda _text: None

    def open(self) -> None:
        if self._path.constant is not None:
            self._file(self._path.constant)

    def close(self) -> None:
        self._files.clear()

    def _file(self, path: str) -> _File:
        file = self._files.get(path)
        if file is None:
            if len(self._files) >= MAX_FILES:
                del self._files[next(iter(self._files))]
            file = self._files[path] = _File(path, self._make_row)
        file.refresh(self._clock())
        if file.warnings:
            for text in file.warnings:
                self.log_error(f"passwd-file {path}: {text}")
            file.warnings.clear()
        return file

    def lookup(self, values: Values) -> Answer:
        try:
            file = self._file(self._path.constant or self._path.expand(values))
            name = values["user"] if self._plain_name else self._name.expand(values)
            if file.users is None:
                return failure(file.error) if file.error else unknown(f"missing passwd file: {file.path}")
            if file.error:
                self.log_error(f"passwd-file {file.path}: {file.error}")
                file.error = ""
            if self._plain_name and not name.isalnum():
                name = _backslashes(name)
            row = file.users.get(name)
            if row.__class__ is Answer:
                return row
            if not isinstance(row, tuple):
                return unknown()
            answer = self._answer(row, values)
            if "%" not in row[-1]:
                answer.shared = True
                file.users[name] = answer
            return answer
        except ExpandError as error:
            return failure(f"Failed to expand passwd-file {self._path.source}: {error}")

    def _answer(self, row: Row, values: Values) -> Answer:
        return Answer(outcome.OK, self._password(row[0]), self._fields(row[-1], values))

    def _password(self, field: str) -> str | None:
        if not field:
            return None
        if field.endswith("]") and "[" in field and not field.startswith("{"):
            data, _, size = field[:-1].rpartition("[")
            scheme = _OLD_SCHEMES.get(size)
            if scheme is not None:
                return "{" + scheme + "}" + data
        return detect(field, self.default_scheme)

    def _fields(self, extra: str, values: Values) -> Pairs:
        pairs: Pairs = []
        said = Said(values, "passdb:") if "%{passdb:" in extra else None
        for word in extra.split(" ") if extra else ():
            key, _, value = word.partition("=")
            if not key:
                continue
            if "%" in value:
                compiled = self._templates.get(value)
                if compiled is None:
                    if len(self._templates) >= MAX_FILES:
                        self._templates.clear()
                    compiled = self._templates[value] = template(value)
                value = compiled.expand(said or values)
            if said is not None:
                said.say(key, value)
            pairs.append((key, value.replace("\x01", " ")))
        return pairs
