"""passdb sections of the configuration, checked and with their drivers made.

In: the configuration.  Out: one Section per passdb section (shared between protocols, numbered in order), or
ConfigInvalid with every problem.  Each section has its own driver object and its own filters, also when two sections
have equal driver and args.
"""
from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Container, Iterable, Sequence
from typing import Any, Protocol

from mailproxy.auth import outcome
from mailproxy.auth.fields import FieldTemplates
from mailproxy.auth.passdb.driver import ArgsInvalid, Driver, Verifier, Wearing
from mailproxy.auth.passdb.table import DRIVERS, NOT_BUILT, maker
from mailproxy.errors import DriverMissing, Problem
from mailproxy.variables.functions import wildcard

RULES = ("return", "return-ok", "return-fail", "continue", "continue-ok", "continue-fail")
_SKIPS = ("never", "authenticated", "unauthenticated")


class Section:
    """One passdb section.  `rules`: outcome -> rule word.  `verify`: the driver's, if it compares passwords itself.
    `needs`: the variables that the driver is asked with.  `max_requests`: of one worker, 0 for any number."""

    __slots__ = ("defaults", "deny", "driver", "driver_name", "fingerprint", "master", "max_requests", "mechanisms",
                 "name", "needs", "number", "overrides", "passes", "rules", "skip", "username_filter", "verbose",
                 "verify")

    def __init__(self, number: int, passdb: Any, driver: Driver) -> None:
        self.number = number
        self.driver = driver
        verifier = driver if isinstance(driver, Verifier) else None
        self.verify = verifier.verify if verifier is not None else None
        self.needs = verifier.needs if verifier is not None else driver.variables or ()
        self.max_requests = driver.max_requests if isinstance(driver, Wearing) else 0
        self.driver_name: str = passdb.driver
        self.name: str = passdb.name or passdb.driver
        self.defaults = FieldTemplates(passdb.default_fields)
        self.overrides = FieldTemplates(passdb.override_fields)
        self.mechanisms = frozenset(word.upper() for text in passdb.mechanisms for word in re.split("[ ,]+", text)
                                    if word)
        self.username_filter = compile_filter(passdb.username_filter)
        self.skip: str = passdb.skip or "never"
        self.deny: bool = passdb.deny
        self.master: bool = passdb.master
        self.passes: bool = passdb.pass_
        verbose = passdb.auth_verbose or "default"
        self.verbose = {"yes": True, "no": False}.get(verbose)
        self.rules = {**rules_of(passdb), outcome.NEXT: "continue-only"}
        if passdb.pass_:
            self.rules[outcome.OK] = "continue"
        self.fingerprint = f"{number}\0{passdb.driver}\0{passdb.args}"


def compile_filter(patterns: Sequence[str]) -> Callable[[str], bool] | None:
    """`username_filter`: any `!pattern` that matches refuses; if there are others, one must match."""
    words = [word for text in patterns for word in re.split("[ ,]+", text) if word]
    if not words:
        return None
    excluded = [wildcard(word[1:]).match for word in words if word.startswith("!")]
    wanted = [wildcard(word).match for word in words if not word.startswith("!")]

    def accepts(user: str) -> bool:
        if any(match(user) for match in excluded):
            return False
        return not wanted or any(match(user) for match in wanted)
    return accepts


def rules_of(section: Any) -> dict[int, str]:
    """Outcome -> rule word, of a passdb or userdb section."""
    failure = section.result_failure or "continue"
    return {outcome.OK: section.result_success or "return-ok",
            outcome.INTERNAL: section.result_internalfail or "continue",
            **dict.fromkeys((outcome.MISMATCH, outcome.UNKNOWN, outcome.SCHEME_MISSING), failure)}


def check_common(section: Any, kind: str, drivers: Container[str], not_built: Container[str],
                 complain: Callable[[Any, str], None]) -> None:
    """What is wrong with the settings that passdb and userdb sections share.  `kind`: which of them it is."""
    if not section.driver:
        complain(section, f"{kind} is missing driver")
    elif section.driver in not_built:
        complain(section, f"Support not compiled in for {kind} driver '{section.driver}'")
    elif section.driver not in drivers:
        complain(section, f"Unknown {kind} driver '{section.driver}'")
    for setting in ("result_success", "result_failure", "result_internalfail"):
        value = getattr(section, setting)
        if value and value not in RULES:
            complain(section, f"{kind}: Unknown {setting}: {value}")


class Numbered(Protocol):
    """What passdb and userdb sections have in common."""

    @property
    def fingerprint(self) -> str: ...


def fingerprint_of(sections: Iterable[Numbered]) -> str:
    """Tells an auth-worker with another configuration apart."""
    text = "\n".join(section.fingerprint for section in sections)
    return hashlib.md5(text.encode("utf-8", "surrogateescape"), usedforsecurity=False).hexdigest()


class Sections:
    """Collects sections over all protocols, and the problems found on the way."""

    __slots__ = ("_known", "all", "problems")

    def __init__(self) -> None:
        self.all: list[Section] = []
        self.problems: list[Problem] = []
        self._known: dict[tuple[object, ...], Section | None] = {}

    def of(self, passdbs: Sequence[Any]) -> tuple[Section, ...]:
        """The usable sections of one protocol's list."""
        found = [section for passdb in passdbs if (section := self._section(passdb)) is not None]
        self._check_list(passdbs)
        return tuple(found)

    def _section(self, passdb: Any) -> Section | None:
        identity = (passdb.path, passdb.line, passdb.driver, passdb.name, passdb.args, passdb.default_fields,
                    passdb.override_fields, passdb.master, passdb.deny)
        if identity not in self._known:
            section = self._known[identity] = self._make(passdb)
            if section is not None:
                self.all.append(section)
        return self._known[identity]

    def _problem(self, passdb: Any, text: str) -> None:
        problem = Problem(passdb.path, passdb.line, text)
        if problem not in self.problems:
            self.problems.append(problem)

    def _make(self, passdb: Any) -> Section | None:
        before = len(self.problems)
        check_common(passdb, "passdb", DRIVERS, NOT_BUILT, self._problem)
        self._check(passdb)
        if passdb.driver not in DRIVERS or len(self.problems) > before:
            return None
        try:
            return Section(len(self.all) + 1, passdb, maker(passdb.driver)(passdb.args))
        except (ArgsInvalid, DriverMissing) as error:
            self._problem(passdb, str(error) if str(error).startswith(passdb.driver)
                          else f"passdb {passdb.driver}: {error}")
            return None

    def _check(self, passdb: Any) -> None:
        if passdb.skip and passdb.skip not in _SKIPS:
            self._problem(passdb, f"passdb: Unknown skip: {passdb.skip}")
        if passdb.pass_ and passdb.result_success not in ("", "return-ok", "continue"):
            self._problem(passdb, "passdb: pass=yes can't be used together with result_success")
        if passdb.deny and passdb.master:
            self._problem(passdb, "Master passdb can't have deny=yes")

    def _check_list(self, passdbs: Sequence[Any]) -> None:
        ordinary = [passdb for passdb in passdbs if not passdb.master]
        if ordinary and ordinary[-1].pass_:
            self._problem(ordinary[-1], "Last passdb can't have pass=yes")
        for passdb in passdbs:
            if passdb.master and passdb.pass_ and not ordinary:
                self._problem(passdb, "Master passdb can't have pass=yes if there are no passdbs")
