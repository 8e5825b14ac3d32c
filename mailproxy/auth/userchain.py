"""The userdb chain: what is to be known of a user besides the password.

A UserPlan is the compiled form for one protocol.  In: a request whose user is settled, after a login or instead of one.
Out: `done(request)` with `request.result` OK (fields in request.userdb), UNKNOWN or INTERNAL, at once or later.
What the passdb has said in userdb_ fields is where it starts.
"""
from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from mailproxy.auth.cache import Cache
from mailproxy.auth.fields import FieldSet
from mailproxy.auth.journal import Journal
from mailproxy.auth.outcome import DISABLED, EXPIRED, INTERNAL, MISMATCH, OK, PENDING, UNKNOWN
from mailproxy.auth.passdb.driver import Answer
from mailproxy.auth.request import Request
from mailproxy.auth.userfields import set_user_field
from mailproxy.auth.usersections import UserSection
from mailproxy.variables import ExpandError

Done = Callable[[Request], None]


class Workers(Protocol):
    """Where blocking lookups are sent."""

    def look_up_user(self, section: UserSection, request: Request, done: Callable[[Answer], None]) -> None: ...


class _Lookup:
    """The state of one walk along the chain.  `saved`: the fields at the last success.  `known`: a passdb has said that
    the user exists."""

    __slots__ = ("at", "done", "known", "request", "saved", "seen_internal", "stale", "success")

    def __init__(self, request: Request, done: Done) -> None:
        self.request = request
        self.done = done
        self.at = 0
        self.known = not request.lookup
        self.saved = dict(request.userdb or {})
        self.success = self.seen_internal = False
        self.stale: FieldSet | None = None


class UserPlan:
    """The userdbs of one protocol."""

    __slots__ = ("_cache", "_journal", "_workers", "sections")

    def __init__(self, sections: Sequence[UserSection], journal: Journal, workers: Workers,
                 cache: Cache | None) -> None:
        self.sections = tuple(sections)
        self._journal = journal
        self._workers = workers
        self._cache = cache

    def run(self, request: Request, done: Done) -> None:
        self._go(_Lookup(request, done))

    def _go(self, lookup: _Lookup) -> None:
        """`skip` does not hold for the first one, there is nothing found yet and nothing missing."""
        while True:
            result = self._begin(lookup, self.sections[lookup.at])
            if result == PENDING or not self._settle(lookup, result):
                return

    def _resume(self, lookup: _Lookup, result: int) -> None:
        if self._settle(lookup, result):
            self._go(lookup)

    # -- one database ---------------------------------------------------------------------------------------------

    def _begin(self, lookup: _Lookup, section: UserSection) -> int:
        request = lookup.request
        lookup.stale = None
        if section.defaults and not self._apply(section, section.defaults.expand(request), request, "default_fields"):
            return INTERNAL
        driver = section.driver
        if driver.prefetches:
            return self._prefetched(section, request)
        if driver.asks_passdb and not lookup.known:
            self._ask_passdb(lookup, section)
            return PENDING
        key = self._key(section, request)
        if key is not None and self._cache is not None:
            entry, fresh = self._cache.look(key)
            lookup.stale = entry.fields if entry is not None else None
            if fresh and entry is not None:
                return self._remembered(section, request, entry.fields)
            if self._journal.debug:
                self._journal.trace(section.name, request, "userdb cache expired" if entry else "userdb cache miss")
        if driver.blocking:
            self._workers.look_up_user(section, request, lambda answer: self._answered(lookup, section, answer))
            return PENDING
        return self._judge(lookup, section, driver.lookup(request))

    def _prefetched(self, section: UserSection, request: Request) -> int:
        if request.userdb:
            return OK
        if len(self.sections) > 1:
            return UNKNOWN
        self._journal.error(section.name, request, "userdb lookup not possible with only userdb prefetch"
                            if request.lookup else "passdb didn't return userdb entries")
        return INTERNAL

    def _answered(self, lookup: _Lookup, section: UserSection, answer: Answer) -> None:
        self._resume(lookup, self._judge(lookup, section, answer))

    def _ask_passdb(self, lookup: _Lookup, section: UserSection) -> None:
        """A database that knows everybody: the passdbs tell who is a user."""
        request = lookup.request

        def asked(request: Request) -> None:
            result = request.result
            if result in (OK, MISMATCH):            # whose password could be wrong exists
                lookup.known = True
                result = self._judge(lookup, section, section.driver.lookup(request))
            else:
                result = UNKNOWN if result in (UNKNOWN, DISABLED, EXPIRED) else INTERNAL
            self._resume(lookup, result)
        request.done = asked
        request.plan.run(request)

    def _key(self, section: UserSection, request: Request) -> tuple[object, ...] | None:
        variables = section.driver.variables
        if variables is None or not section.driver.blocking or self._cache is None:
            return None
        return ("U", section.number, request.master_user, *[request[name] for name in variables],
                *[request[name] for name in section.defaults.variables])

    def _judge(self, lookup: _Lookup, section: UserSection, answer: Answer) -> int:
        request = lookup.request
        if answer.error:
            self._journal.error(section.name, request, answer.error)
        key = self._key(section, request)
        if answer.result == OK:
            if key is not None and self._cache is not None:
                self._cache.put(key, FieldSet(answer.fields), None, True, request["user"])
            self._apply(section, answer.fields, request, "")
        elif answer.result == UNKNOWN:
            if key is not None and self._cache is not None:
                self._cache.put(key, None, None, False, request["user"])
            self._tell(section, request, answer.note or "unknown user")
        elif lookup.stale is not None:
            self._journal.info(section.name, request, "Falling back to expired data from cache")
            return self._remembered(section, request, lookup.stale)
        return INTERNAL if request.tempfail and answer.result == OK else answer.result

    def _remembered(self, section: UserSection, request: Request, fields: FieldSet | None) -> int:
        if self._journal.debug:
            shown = "\t".join(f"{key}={value}" for key, value in fields.pairs) if fields is not None else ""
            self._journal.trace(section.name, request, f"userdb cache hit: {shown}")
        if fields is None:
            self._tell(section, request, "unknown user")
            return UNKNOWN
        self._apply(section, fields.pairs, request, "")
        return INTERNAL if request.tempfail else OK

    def _tell(self, section: UserSection, request: Request, text: str) -> None:
        if self._journal.verbose if section.verbose is None else section.verbose:
            self._journal.info(section.name, request, text)

    # -- rules ----------------------------------------------------------------------------------------------------

    def _apply(self, section: UserSection, pairs: Iterable[tuple[str, str]], request: Request, setting: str) -> bool:
        """False: one of the pairs could not be made."""
        try:
            for key, value in pairs:
                set_user_field(request, key, value, self._journal, section.name)
        except ExpandError as error:
            self._journal.error(section.name, request, f"Failed to expand {setting}: {error}")
            return False
        return True

    def _settle(self, lookup: _Lookup, result: int) -> bool:
        """Apply the section's rule; whether the next one is to be asked."""
        request, section = lookup.request, self.sections[lookup.at]
        rule = section.rules[result]
        if rule.endswith("-ok"):
            lookup.success = True
        elif rule.endswith("-fail"):
            lookup.success = False
        lookup.at += 1
        while lookup.at < len(self.sections) and _skipped(self.sections[lookup.at], lookup):
            lookup.at += 1
        if not rule.startswith("continue") or lookup.at == len(self.sections):
            self._conclude(lookup, section, result)
            return False
        if result == INTERNAL:
            lookup.seen_internal = True
        if result == OK:
            if section.overrides and not self._apply(section, section.overrides.expand(request), request,
                                                     "override_fields"):
                request.tempfail = True
            lookup.saved = dict(request.userdb or {})
        elif result == UNKNOWN or not request.tempfail:         # what failed for good keeps its reason
            request.userdb = dict(lookup.saved)
        return True

    def _conclude(self, lookup: _Lookup, section: UserSection, result: int) -> None:
        request = lookup.request
        if lookup.success and self._apply(
                section, section.overrides.expand(request), request, "override_fields") and not request.tempfail:
            request.result = OK
        elif lookup.success or lookup.seen_internal or result == INTERNAL or request.tempfail:
            request.result = INTERNAL
        else:
            request.result = UNKNOWN
        lookup.done(request)


def _skipped(section: UserSection, lookup: _Lookup) -> bool:
    return section.skip == ("found" if lookup.success else "notfound")
