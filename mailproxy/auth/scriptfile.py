"""The file of a `python` database: reading it, running it, and what its answers mean.

A script defines some of

    script_init()                           when a worker starts; anything but None and 0 is a failure
    script_deinit()                         when it ends
    auth_passdb_lookup(request)             -> (result, fields)
    auth_password_verify(request, password) -> (result, fields); without it passwords are compared with the field
    auth_userdb_lookup(request)             -> (result, fields)
    auth_userdb_iterate()                   -> the names of all users

The file is compiled where the configuration is read, so it changes with the configuration and at no other time; it
runs in auth-workers only, each of which has its own.  A call may take `timeout` seconds; then the script gets a
Timeout, once a second until it ends.  One that is stuck where Python cannot interrupt it takes its worker along.
"""
from __future__ import annotations

import faulthandler
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import CodeType, FrameType
from typing import Any

from mailproxy.auth import outcome
from mailproxy.auth.passdb.driver import Answer, ArgsInvalid, Pairs, failure
from mailproxy.auth.schemes import split
from mailproxy.auth.script import LEVELS, Request, Timeout
from mailproxy.auth.variables import template
from mailproxy.errors import MailproxyError, describe
from mailproxy.log.pipe import Log
from mailproxy.variables import Values

MAX_SIZE = 1024 * 1024
#: Seconds of one call if args do not say, and at most.
TIMEOUT, MAX_TIMEOUT = 30, 50
#: Seconds after which nobody waits for this worker any more: it may die.
_END = 65
#: Fields of an answer, characters of all of them.
MAX_FIELDS = 1000
MAX_ANSWER = 32768
#: Seconds between two attempts to run a file that failed.
_RETRY = 5.0
_RESULTS = {"passdb": frozenset((outcome.OK, outcome.MISMATCH, outcome.INTERNAL, outcome.SCHEME_MISSING,
                                 outcome.UNKNOWN, outcome.DISABLED, outcome.EXPIRED, outcome.NEXT)),
            "userdb": frozenset((outcome.OK, outcome.INTERNAL, outcome.UNKNOWN))}
#: Of these the text tells more than the place, and nothing of a user.
_TELLING = (ImportError, NameError, AttributeError, SyntaxError)


class ScriptFailed(MailproxyError):
    """The text is for the log."""


class Args:
    """`args` of a section: [file=]PATH[:FUNCTION] [cache_key=%u] [scheme=PLAIN] [timeout=30].  `function`: which one
    answers lookups, "" for the usual name."""

    __slots__ = ("function", "path", "scheme", "timeout", "variables")

    def __init__(self, database: str, args: str) -> None:
        self.path = self.function = ""
        self.scheme = "PLAIN"
        self.timeout = TIMEOUT
        self.variables: tuple[str, ...] | None = None
        for word in args.split():
            key, _, value = word.partition("=")
            if key == "file" or word.startswith("/"):
                self._file(value if key == "file" else word)
            elif key == "scheme":
                self.scheme = value.upper()
            elif key == "cache_key":
                self.variables = template(value).key_variables or None
            elif key == "timeout" and value.isascii() and value.isdigit() and 0 < int(value[:3]) <= MAX_TIMEOUT:
                self.timeout = int(value)
            elif word != "blocking=yes":
                raise ArgsInvalid(f"python {database}: Unknown or wrong setting: {word}")
        if not self.path.startswith("/"):
            raise ArgsInvalid(f"python {database}: args need the full path of a script: file=/path/script.py")

    def _file(self, text: str) -> None:
        found = re.fullmatch(r"(.+):([A-Za-z_][A-Za-z0-9_]*)", text)
        self.path, self.function = (found[1], found[2]) if found else (text, "")


class Script:
    """One file, compiled.  Sections that name the same file share it."""

    __slots__ = ("_code", "_names", "_users", "path")

    def __init__(self, path: str, code: CodeType) -> None:
        self.path = path
        self._code = code
        self._names: dict[str, Any] | None = None
        self._users = 0

    @property
    def running(self) -> bool:
        return self._names is not None

    def run(self) -> None:
        """The file, and its script_init.  Raises what the script raises."""
        directory = os.path.dirname(self.path)
        if directory not in sys.path:
            sys.path.append(directory)          # behind everything: it must not replace modules of ours
        names: dict[str, Any] = {"__name__": os.path.basename(self.path).removesuffix(".py"), "__file__": self.path}
        exec(self._code, names)
        begin = names.get("script_init")
        if begin is not None and begin() not in (None, 0):
            raise ScriptFailed("script_init() did not return 0")
        self._names = names

    def enter(self) -> None:
        self._users += 1

    def leave(self) -> None:
        self._users -= 1
        if self._users == 0 and self._names is not None:
            end = self._names.get("script_deinit")
            self._names = None
            if end is not None:
                end()

    def hook(self, name: str) -> Callable[..., Any] | None:
        found = self._names.get(name) if self._names is not None else None
        return found if callable(found) else None


_scripts: dict[str, Script] = {}


def load(path: str) -> Script:
    """Read and compile.  The same text is the same Script.  ArgsInvalid."""
    try:
        with open(path, "rb") as file:
            source = file.read(MAX_SIZE + 1)
        if len(source) > MAX_SIZE:
            raise ArgsInvalid(f"python: {path} is larger than {MAX_SIZE} bytes")
        code = compile(source, path, "exec", dont_inherit=True)
    except OSError as error:
        raise ArgsInvalid(f"python: open({path}) failed: {error.strerror}") from None
    except (SyntaxError, ValueError) as error:
        line = f" line {error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
        text = error.msg if isinstance(error, SyntaxError) else str(error)
        raise ArgsInvalid(f"python: {path}{line}: {text}") from None
    known = _scripts.get(path)
    if known is None or known._code != code:
        known = _scripts[path] = Script(path, code)
    return known


class Caller:
    """One section's way to its script.  `database`: passdb or userdb."""

    __slots__ = ("_args", "_clock", "_database", "_failed", "_script", "log")

    def __init__(self, database: str, args: Args, clock: Callable[[], float] = time.monotonic) -> None:
        self._args = args
        self._clock = clock
        self._database = database
        self._script = load(args.path)
        self._failed = float("-inf")
        self.log: Log | None = None

    def open(self) -> None:
        """A script that fails is run again later."""
        self._script.enter()
        self._run()

    def _run(self) -> str:
        """"" or why the script does not run."""
        if self._script.running:
            return ""
        if self._clock() - self._failed < _RETRY:
            return f"{self._args.path} has failed just now"
        try:
            with _limited(self._args.timeout):
                self._script.run()
        except (Exception, SystemExit, Timeout) as error:
            self._failed = self._clock()
            text = f"{self._args.path}: {_told(error)}"
            if self.log is not None:
                self.log.error(f"python: {text}")
            return text
        return ""

    def close(self) -> None:
        try:
            with _limited(self._args.timeout):
                self._script.leave()
        except (Exception, SystemExit, Timeout) as error:
            if self.log is not None:
                self.log.error(f"python: {self._args.path}: {_told(error)}")

    def has(self, name: str) -> bool:
        return not self._run() and self._script.hook(name) is not None

    def ask(self, name: str, values: Values, *more: str) -> Answer:
        """Call a hook with a request.  Every way to fail is an answer."""
        trouble = self._run()
        hook = self._script.hook(name)
        if trouble or hook is None:
            return failure(trouble or f"{self._args.path} has no function {name}")
        try:
            with _limited(self._args.timeout):
                given = hook(Request(values, self._writer(values)), *more)
                return self._answer(given)
        except ScriptFailed as error:
            return failure(f"{self._args.path}: {name}(): {error}")
        except (Exception, SystemExit, Timeout) as error:
            return failure(f"{self._args.path}: {_told(error)}")

    def names(self) -> Iterator[str]:
        """What auth_userdb_iterate gives.  ScriptFailed."""
        trouble = self._run()
        hook = self._script.hook("auth_userdb_iterate")
        if trouble or hook is None:
            raise ScriptFailed(trouble or f"{self._args.path} has no function auth_userdb_iterate")
        try:
            for name in hook():
                yield str(name)
        except (Exception, SystemExit) as error:
            raise ScriptFailed(f"{self._args.path}: {_told(error)}") from None

    def _writer(self, values: Values) -> Callable[[str, str], None]:
        log = self.log

        def write(level: str, text: str) -> None:
            if log is not None and level in LEVELS:
                who = ",".join(part for part in (values["user"], values["rip"],
                                                 values["session"] and f"<{values['session']}>") if part)
                getattr(log, level)(f"python({who}): {text}")
        return write

    def _answer(self, given: Any) -> Answer:
        if not isinstance(given, tuple) or len(given) != 2:
            raise ScriptFailed("must return (result, fields)")
        result, value = given
        if isinstance(result, bool) or not isinstance(result, int) or result not in _RESULTS[self._database]:
            raise ScriptFailed("returned an unknown result")
        if result != outcome.OK:
            text = value if isinstance(value, str) else ""
            return failure(text or "the script says internal failure") if result == outcome.INTERNAL \
                else Answer(result, note=text)
        answer = Answer(result)
        for name, text in _fields(value):
            if name == "password" and self._database == "passdb":
                scheme, data = split(text, self._args.scheme)
                answer.password = "{" + scheme + "}" + data
            elif name == "password_noscheme" and self._database == "passdb":
                answer.password = "{" + self._args.scheme + "}" + text
            else:
                answer.fields.append((name, text))
        return answer


def _fields(value: Any) -> Pairs:
    """A dict, or `name=value` words.  ScriptFailed."""
    if value is None:
        return []
    if isinstance(value, str):
        pairs = [(name, text) for name, _, text in (word.partition("=") for word in value.split(" ")) if name]
    elif isinstance(value, Mapping):
        pairs = [(name, _text(name, inner)) for name, inner in value.items() if inner is not None]
    else:
        raise ScriptFailed("fields must be a dict or a text")
    for name, _ in pairs:
        if not isinstance(name, str) or not name or not name.isprintable() or "=" in name or " " in name:
            raise ScriptFailed("a field's name is no word")
    if len(pairs) > MAX_FIELDS or sum(len(name) + len(text) for name, text in pairs) > MAX_ANSWER:
        raise ScriptFailed(f"more than {MAX_FIELDS} fields or {MAX_ANSWER} characters")
    return pairs


def _text(name: Any, value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (str, int, float)):
        return str(value)
    raise ScriptFailed(f"field {str(name)[:50]} is neither text, number nor truth")


def _told(error: BaseException) -> str:
    if isinstance(error, ScriptFailed):
        return str(error)
    if isinstance(error, Timeout):
        return "took too long"
    return f"{describe(error)}: {error}" if isinstance(error, _TELLING) else describe(error)


@contextmanager
def _limited(seconds: int) -> Iterator[None]:
    armed = [True]

    def expired(_number: int, _frame: FrameType | None) -> None:
        if armed[0]:
            raise Timeout
    before = signal.signal(signal.SIGALRM, expired)
    with open(os.devnull, "w", encoding="ascii") as nowhere:
        faulthandler.dump_traceback_later(_END, exit=True, file=nowhere)
        signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)
        try:
            yield
        finally:
            try:
                armed[0] = False
            finally:                            # it may come in this very moment
                armed[0] = False
                signal.setitimer(signal.ITIMER_REAL, 0)
                signal.signal(signal.SIGALRM, before)
                faulthandler.cancel_dump_traceback_later()
