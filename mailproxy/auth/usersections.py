"""userdb sections of the configuration, checked and with their drivers made.

In: the configuration.  Out: one UserSection per userdb section (shared between protocols, numbered in order), and the
problems found.  Without any section there is a `static` one without fields, as in Dovecot: who a passdb knows is a
user.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mailproxy.auth.fields import FieldTemplates
from mailproxy.auth.passdb.driver import ArgsInvalid
from mailproxy.auth.sections import check_common, rules_of
from mailproxy.auth.userdb import accounts
from mailproxy.auth.userdb.driver import Driver
from mailproxy.auth.userdb.static import Static
from mailproxy.auth.userdb.table import DRIVERS, NOT_BUILT, maker
from mailproxy.errors import DriverMissing, Problem

_SKIPS = ("never", "found", "notfound")
_NUMBERS = {"uid": accounts.user_number, "gid": accounts.group_number}


class UserSection:
    """One userdb section.  `rules`: outcome -> rule word.  `needs`: the variables that the driver is asked with."""

    __slots__ = ("defaults", "driver", "driver_name", "fingerprint", "name", "needs", "number", "overrides", "rules",
                 "skip", "verbose")

    def __init__(self, number: int, userdb: Any, driver: Driver) -> None:
        self.number = number
        self.driver = driver
        self.needs: tuple[str, ...] = getattr(driver, "needs", driver.variables) or ()
        self.driver_name: str = userdb.driver
        self.name: str = userdb.name or userdb.driver
        self.defaults = FieldTemplates(_resolved(userdb.default_fields))
        self.overrides = FieldTemplates(_resolved(userdb.override_fields))
        self.skip: str = userdb.skip or "never"
        self.verbose = {"yes": True, "no": False}.get(userdb.auth_verbose or "default")
        self.rules = rules_of(userdb)
        self.fingerprint = f"userdb {number}\0{userdb.driver}\0{userdb.args}"


def _resolved(text: str) -> str:
    """Names of accounts as numbers: the system is asked once."""
    words = []
    for word in text.split():
        key, _, value = word.partition("=")
        resolve = _NUMBERS.get(key.partition(":")[0])
        if resolve is not None and not (value.isascii() and value.isdigit()):
            number = resolve(value)
            if number is None:
                raise ArgsInvalid(f"Invalid {key.partition(':')[0].upper()} value '{value}'")
            word = f"{key}={number}"
        words.append(word)
    return " ".join(words)


class UserSections:
    """Collects sections over all protocols."""

    __slots__ = ("_fallback", "_known", "all", "problems")

    def __init__(self) -> None:
        self.all: list[UserSection] = []
        self.problems: list[Problem] = []
        self._known: dict[Any, UserSection | None] = {}
        self._fallback: UserSection | None = None

    def of(self, userdbs: Sequence[Any]) -> tuple[UserSection, ...]:
        """The usable sections of one protocol's list, at least one."""
        found = tuple(section for userdb in userdbs if (section := self._section(userdb)) is not None)
        return found if userdbs else (self._nobody_configured(),)

    def _nobody_configured(self) -> UserSection:
        if self._fallback is None:
            self._fallback = UserSection(0, _Fallback(), Static(""))
        return self._fallback

    def _section(self, userdb: Any) -> UserSection | None:
        identity = (userdb.path, userdb.line, userdb.driver, userdb.name, userdb.args, userdb.default_fields,
                    userdb.override_fields)
        if identity not in self._known:
            section = self._known[identity] = self._make(userdb)
            if section is not None:
                self.all.append(section)
        return self._known[identity]

    def _problem(self, userdb: Any, text: str) -> None:
        problem = Problem(userdb.path, userdb.line, text)
        if problem not in self.problems:
            self.problems.append(problem)

    def _make(self, userdb: Any) -> UserSection | None:
        before = len(self.problems)
        check_common(userdb, "userdb", DRIVERS, NOT_BUILT, self._problem)
        if userdb.skip and userdb.skip not in _SKIPS:
            self._problem(userdb, f"userdb: Unknown skip: {userdb.skip}")
        if userdb.driver not in DRIVERS or len(self.problems) > before:
            return None
        try:
            return UserSection(len(self.all) + 1, userdb, maker(userdb.driver)(userdb.args))
        except (ArgsInvalid, DriverMissing) as error:
            self._problem(userdb, str(error) if str(error).startswith((userdb.driver, "userdb"))
                          else f"userdb {userdb.driver}: {error}")
            return None


class _Fallback:
    """What stands for a section where none is written."""

    driver = "static"
    name = args = default_fields = override_fields = skip = auth_verbose = ""
    result_success = result_failure = result_internalfail = ""
