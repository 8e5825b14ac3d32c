"""What the scripts of `python` databases may import and are given.

A script answers with (result, fields): one of the numbers below, and a dict or a text of `name=value` words.  Beside a
result that is not OK a text is for the log, and fields do not count.  It knows nothing of processes and sockets.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mailproxy.auth import outcome
from mailproxy.auth.schemes import SchemeError, split, verify
from mailproxy.auth.variables import NAMES, template
from mailproxy.errors import DriverMissing
from mailproxy.ipc.authwire import unescape
from mailproxy.variables import Values

PASSDB_RESULT_OK = outcome.OK
PASSDB_RESULT_PASSWORD_MISMATCH = outcome.MISMATCH
PASSDB_RESULT_INTERNAL_FAILURE = outcome.INTERNAL
PASSDB_RESULT_SCHEME_NOT_AVAILABLE = outcome.SCHEME_MISSING
PASSDB_RESULT_USER_UNKNOWN = outcome.UNKNOWN
PASSDB_RESULT_USER_DISABLED = outcome.DISABLED
PASSDB_RESULT_PASS_EXPIRED = outcome.EXPIRED
PASSDB_RESULT_NEXT = outcome.NEXT
USERDB_RESULT_OK = outcome.OK
USERDB_RESULT_INTERNAL_FAILURE = outcome.INTERNAL
USERDB_RESULT_USER_UNKNOWN = outcome.UNKNOWN

_FLAGS = ("skip_password_check", "passdbs_seen_internal_failure")
#: Everything of a request that a script may look at.
NEEDS = (*dict.fromkeys(NAMES.values()), *_FLAGS, "passdb fields", "userdb fields")
#: Characters of one line that a script writes to the log.
_MAX_LINE = 16384
#: Kinds of lines.
LEVELS = ("debug", "info", "warning", "error")


class Timeout(BaseException):
    """A call took too long.  Not an Exception, so that no script swallows it by accident."""


class Request:
    """What a hook is given.  Variables are attributes, by each of their long names (`request.user`,
    `request.remote_ip`); `passdb` and `userdb` are the fields that earlier databases have set.
    `write(level, text)` takes what the script logs."""

    def __init__(self, values: Values, write: Callable[[str, str], None]) -> None:
        self._values = values
        self._write = write
        self.passdb = _table(values["passdb fields"])
        self.userdb = _table(values["userdb fields"])

    def __getattr__(self, name: str) -> Any:
        if name in _FLAGS:
            return self._values[name] == "yes"
        key = NAMES.get(name)
        if key is None or len(name) == 1:
            raise AttributeError(f"a request has no {name}")
        return self._values[key]

    def __repr__(self) -> str:
        return "<request>"

    def __getitem__(self, key: str) -> str:
        """The variables of a template."""
        table, _, rest = key.partition(":")
        if table not in ("passdb", "userdb"):
            return self._values[key]
        name, _, default = rest.partition(":")
        return (self.passdb if table == "passdb" else self.userdb).get(name, default)

    def var_expand(self, text: str) -> str:
        """The text with its %variables filled in; an exception for an unknown one."""
        return template(text).expand(self)

    def response_from_template(self, text: str) -> dict[str, str]:
        """`name=value` words with %variables, as fields; other words are left out."""
        words = (word.partition("=") for word in text.split())
        return {name: self.var_expand(value) for name, equals, value in words if equals}

    def password_verify(self, stored: str, plain: str) -> tuple[int, str]:
        """(1, "") if the plain password fits the stored one, (0, "") if not, (-1, why) if that cannot be told."""
        scheme, data = split(stored, "PLAIN")
        try:
            return int(verify("{" + scheme + "}" + data, plain, self._values["user"])), ""
        except (SchemeError, DriverMissing) as error:
            return -1, str(error)

    def log_debug(self, text: object) -> None:
        self._write("debug", str(text)[:_MAX_LINE])

    def log_info(self, text: object) -> None:
        self._write("info", str(text)[:_MAX_LINE])

    def log_warning(self, text: object) -> None:
        self._write("warning", str(text)[:_MAX_LINE])

    def log_error(self, text: object) -> None:
        self._write("error", str(text)[:_MAX_LINE])


def _table(listed: str) -> dict[str, str]:
    pairs = (word.partition("=") for word in listed.split("\t") if word)
    return {unescape(name): unescape(value) for name, _, value in pairs}
