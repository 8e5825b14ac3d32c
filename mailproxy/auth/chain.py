"""The passdb chain: which database is asked next, and what its answer means.

A Plan is the compiled form for one protocol: linked Steps for ordinary and for master databases.  A step that may be
cached or that runs in a worker is another class than one that is not, so that nothing is asked twice per request.
In: a Request with user and password.  Out: `request.done(request)` with `request.result` set, at once or later.
(Long, because the kinds of a step differ in a line or two each and are read beside one another.)
"""
from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any, Protocol

from mailproxy.auth import outcome
from mailproxy.auth.cache import Cache, Entry, Key
from mailproxy.auth.fields import FieldSet, set_field
from mailproxy.auth.journal import Journal
from mailproxy.auth.outcome import INTERNAL, MISMATCH, NEXT, OK, PENDING, UNKNOWN
from mailproxy.auth.passdb.driver import Answer
from mailproxy.auth.passdb.static import Static
from mailproxy.auth.request import Request
from mailproxy.auth.schemes import SchemeError, split, verify
from mailproxy.auth.sections import Section
from mailproxy.auth.username import Names
from mailproxy.errors import DriverMissing
from mailproxy.variables import ExpandError

#: Spellings of a password that is stored as it is.
_CLEAR_SCHEMES = frozenset(("PLAIN", "CLEAR", "CLEARTEXT"))
_RETRY = 101            # of a cached entry: cannot decide, ask the database


class Workers(Protocol):
    """Where blocking lookups are sent."""

    def lookup(self, section: Section, request: Request, check: bool, done: Callable[[Answer], None]) -> None: ...

    def verify(self, request: Request, stored: str, done: Callable[[bool | None, str], None]) -> None: ...


class Step:
    """One database in the chain, asked directly."""

    __slots__ = ("_conditional", "driver", "ends", "journal", "name", "next", "section", "verbose")

    def __init__(self, section: Section, journal: Journal) -> None:
        self.section = section
        self.driver = section.driver
        self.name = section.name
        self.journal = journal
        self.verbose = journal.verbose if section.verbose is None else section.verbose
        self.next: Step | None = None
        #: Nothing is left to do after its OK.
        self.ends = not section.overrides and not section.deny and section.rules[OK] == "return-ok"
        self._conditional = bool(section.mechanisms or section.username_filter or section.skip != "never")

    def skipped(self, request: Request) -> bool:
        if not self._conditional:
            return False
        section = self.section
        if section.mechanisms and (request.mech or "NONE") not in section.mechanisms:
            return True
        if section.username_filter is not None and not section.username_filter(request.user or ""):
            return True
        return section.skip == ("authenticated" if request.verified and not request.lookup else "unauthenticated")

    def begin(self, request: Request) -> int:
        """An outcome, or PENDING and later Plan.resume."""
        defaults: tuple[tuple[str, str], ...] = ()
        if self.section.defaults:
            try:
                defaults = self.section.defaults.apply(request, self.journal, self.name)
            except ExpandError as error:
                self.journal.error(self.name, request, f"Failed to expand default_fields: {error}")
                return INTERNAL
        return self.ask(request, defaults)

    def ask(self, request: Request, defaults: tuple[tuple[str, str], ...]) -> int:
        return self.judge(request, self.driver.lookup(request))

    def judge(self, request: Request, answer: Answer) -> int:
        """The answer's fields into the request, then the password."""
        if answer.error:
            self.journal.error(self.name, request, answer.error)
        if answer.result != OK:
            if answer.result == UNKNOWN:
                self._tell(request, answer.note or "unknown user", guess=not answer.note)
            return answer.result
        if answer.shared:
            if answer.prepared is None:
                answer.prepared = FieldSet(answer.fields)
            answer.prepared.apply(request, self.journal, self.name)
        else:
            for key, value in answer.fields:
                set_field(request, key, value, self.journal, self.name)
        return self.check(request, answer.password, answer)

    def check(self, request: Request, stored: str | None, answer: Answer | None) -> int:
        """Compare the password, unless this request or this database does not need it."""
        if request.noauthenticate:
            return NEXT
        if request.verified or self.section.deny:
            return OK
        if request.nopassword:
            if not stored or stored.endswith("}"):
                if self.journal.debug:
                    self.journal.trace(self.name, request, "Allowing any password")
                return OK
            self.journal.error(self.name, request, "nopassword set but password is non-empty")
        if stored is None:
            self._tell(request, "No password returned (and no nopassword)")
            return MISMATCH
        if answer is not None and answer.complaint:
            self.journal.error(self.name, request, answer.complaint)
            return INTERNAL
        if answer is not None and answer.verdict is not None:
            right: bool | None = answer.verdict
        else:
            right = self.compare(request, stored)
        if right is None:
            return INTERNAL
        if not right:
            self._tell(request, "Password mismatch", guess=True)
            return MISMATCH
        return OK

    def compare(self, request: Request, stored: str) -> bool | None:
        if request.proof is not None:
            return self._proved(request, stored, request.proof)
        try:
            return verify(stored, request.password, request.original_user or "")
        except (SchemeError, DriverMissing) as error:
            self.journal.error(self.name, request, str(error))
            return None

    def _proved(self, request: Request, stored: str, holds: Callable[[str], bool]) -> bool:
        """Only a password that is stored in clear can be examined."""
        scheme, plain = split(stored, "PLAIN")
        if scheme.upper() not in _CLEAR_SCHEMES:
            self._tell(request, f"Requested PLAIN scheme, but we have only {scheme.upper()}")
            return False
        return holds(plain)

    def _tell(self, request: Request, text: str, guess: bool = False) -> None:
        """`guess`: the wrong password may be shown (auth_verbose_passwords)."""
        if not self.verbose:
            return
        given = self.journal.given(request) if guess else ""
        if given and self.next is not None:
            given += " - trying the next passdb"
        self.journal.info(self.name, request, text + given)


class ConstantStep(Step):
    """A static database without variables and without a password to compare: its answer is a dict."""

    __slots__ = ("_fields",)

    def __init__(self, section: Section, journal: Journal, answer: Answer) -> None:
        super().__init__(section, journal)
        self._fields = FieldSet([pair for pair in answer.fields if pair[0] != "nopassword"])

    @staticmethod
    def fits(section: Section) -> Answer | None:
        driver = section.driver
        answer = driver.constant if isinstance(driver, Static) else None
        if answer is None or answer.password is not None or section.defaults or section.deny:
            return None
        names = [name for name, _ in answer.fields]
        return answer if "nopassword" in names and "noauthenticate" not in names else None

    def begin(self, request: Request) -> int:
        self._fields.apply(request, self.journal, self.name)
        if self.journal.debug:
            self.journal.trace(self.name, request, "Allowing any password")
        return OK


class WorkerStep(Step):
    """A blocking database: asked in an auth-worker."""

    __slots__ = ("_workers",)

    def __init__(self, section: Section, journal: Journal, workers: Workers) -> None:
        super().__init__(section, journal)
        self._workers = workers

    def ask(self, request: Request, defaults: tuple[tuple[str, str], ...]) -> int:
        check = not (request.verified or self.section.deny or request.proof is not None)

        def done(answer: Answer) -> None:
            request.plan.resume(request, self.judged(request, answer, defaults))
        self._workers.lookup(self.section, request, check, done)
        return PENDING

    def judged(self, request: Request, answer: Answer, defaults: tuple[tuple[str, str], ...]) -> int:
        return self.judge(request, answer)


class CachedStep(WorkerStep):
    """A blocking database behind the cache."""

    __slots__ = ("_cache", "_user_only", "_variables", "_verify_in_worker")

    def __init__(self, section: Section, journal: Journal, workers: Workers, cache: Cache, variables: tuple[str, ...],
                 verify_in_worker: bool) -> None:
        super().__init__(section, journal, workers)
        self._cache = cache
        self._variables = variables
        self._user_only = set(variables) in ({"user"}, {"username", "domain"}, {"user", "username", "domain"})
        self._verify_in_worker = verify_in_worker

    def key(self, request: Request) -> Key:
        if self._user_only:
            return (self.section.number, request.master_user, request.user)
        return (self.section.number, request.master_user, *[request[name] for name in self._variables])

    def begin(self, request: Request) -> int:
        key = self.key(request)
        entry, fresh = self._cache.look(key)
        request.key = key
        request.stale = None
        if fresh and entry is not None:
            result = self._from_cache(request, entry)
            if result != _RETRY:
                return result
        else:
            if self.journal.debug:
                self.journal.trace(self.name, request, "cache miss" if entry is None else "cache expired")
            request.stale = entry
        return super().begin(request)

    def _from_cache(self, request: Request, entry: Entry) -> int:
        if self.journal.debug:
            self.journal.trace(self.name, request, self._hit_text(entry))
        if entry.fields is None:
            self._tell(request, "unknown user", guess=True)
            return UNKNOWN
        stored = entry.password
        if request.verified or self.section.deny or stored is None:
            entry.fields.apply(request, self.journal, self.name)
            return OK
        if self._verify_in_worker and request.proof is None and not stored.startswith("{PLAIN}"):
            return self._ask_worker(request, entry, stored)
        right = self.compare(request, stored)
        if right:
            entry.success = True
            entry.fields.apply(request, self.journal, self.name)
            return OK
        if entry.success or self._cache.older_than_negative(entry):
            entry.success = False
            return _RETRY
        if right is None:
            return INTERNAL
        self._tell(request, "Password mismatch", guess=True)
        return MISMATCH

    def _hit_text(self, entry: Entry) -> str:
        if entry.fields is None:
            return "cache hit: "
        password = (entry.password or "") if self.journal.passwords else "<hidden>"
        return "cache hit: " + "\t".join([password, *(f"{key}={value}" for key, value in entry.fields.pairs)])

    def _ask_worker(self, request: Request, entry: Entry, stored: str) -> int:
        fields = entry.fields

        def done(right: bool | None, complaint: str) -> None:
            if complaint:
                self.journal.error(self.name, request, complaint)
            if right and fields is not None:
                fields.apply(request, self.journal, self.name)
            elif right is False:
                self._tell(request, "Password mismatch", guess=True)
            request.plan.resume(request, INTERNAL if right is None else OK if right else MISMATCH)
        self._workers.verify(request, stored, done)
        return PENDING

    def judged(self, request: Request, answer: Answer, defaults: tuple[tuple[str, str], ...]) -> int:
        result = self.judge(request, answer)
        entry: Entry | None = request.stale
        if result == INTERNAL:
            if entry is not None and answer.result == INTERNAL:
                return self._from_expired(request, entry)
            return result
        user = request["user"]
        if result == UNKNOWN:
            self._cache.put(request.key, None, None, False, user)
        elif result in (OK, MISMATCH) and (answer.password is not None or (result == OK and request.nopassword)):
            password = None if request.nopassword and not request.verified else answer.password
            self._cache.put(request.key, FieldSet([*defaults, *answer.fields]), password, result == OK, user)
        return result

    def _from_expired(self, request: Request, entry: Entry) -> int:
        """The database is down: old data is better than none, if it lets the user in."""
        self.journal.info(self.name, request, "Falling back to expired data from cache")
        if entry.fields is None:
            return UNKNOWN
        if not (request.verified or self.section.deny or entry.password is None) \
                and not self.compare(request, entry.password):
            return INTERNAL
        entry.fields.apply(request, self.journal, self.name)
        return OK


class Plan:
    """The databases of one protocol, compiled, with the names' rules that go with them."""

    __slots__ = ("_journal", "_masters", "_ordinary", "failure_delay", "names", "settings", "steps")

    def __init__(self, steps: list[Step], settings: Any, journal: Journal) -> None:
        self.steps = steps
        self.settings = settings
        self._journal = journal
        self._ordinary = _linked([step for step in steps if not step.section.master])
        self._masters = _linked([step for step in steps if step.section.master])
        self.names = Names(settings, self._masters is not None)
        self.failure_delay: float = settings.auth_failure_delay

    def run(self, request: Request) -> None:
        """Check the password of a prepared request."""
        if not request.password.isprintable() and not _ILLEGAL.isdisjoint(request.password):
            self._journal.info(request.mech.lower(), request, "Attempted login with password having illegal chars")
            request.result = UNKNOWN
            request.done(request)
            return
        first = self._masters if request.login_user else self._ordinary
        step = _unskipped(first, request)
        if step is None:
            self._journal.error(request.mech.lower(), request, "All password databases were skipped")
            request.result = INTERNAL
            request.done(request)
            return
        self._go(request, step)

    def resume(self, request: Request, result: int) -> None:
        """A pending step has its outcome."""
        step = request.step
        if step is None:
            return
        following = self._settle(request, step, result)
        if following is not None:
            self._go(request, following)

    def _go(self, request: Request, step: Step) -> None:
        following: Step | None = step
        while following is not None:
            request.step = step = following
            result = step.begin(request)
            if result == OK and step.ends and not request.failed and not request.login_user:
                request.result = OK
                request.step = None
                request.done(request)
                return
            if result == PENDING:
                return
            following = self._settle(request, step, result)

    def _settle(self, request: Request, step: Step, result: int) -> Step | None:
        """Apply the step's rule: the next step, or None when the request is done."""
        section = step.section
        if section.overrides:
            try:
                section.overrides.apply(request, self._journal, step.name)
            except ExpandError as error:
                self._journal.error(step.name, request, f"Failed to expand override_fields: {error}")
                result = INTERNAL
        if section.deny and result != UNKNOWN:
            if result != INTERNAL:
                self._journal.info(step.name, request, "User found from deny passdb")
                result = outcome.DISABLED
            self._finish(request, result)
            return None
        if request.failed:
            request.failed = False
            if result == OK:
                result = UNKNOWN
        if result in (outcome.DISABLED, outcome.EXPIRED):
            if result == outcome.EXPIRED:
                request.fields["reason"] = "Password expired"
            self._finish(request, result)
            return None
        rule = section.rules[result]
        continues = rule.startswith("continue")
        if rule.endswith("-ok"):
            request.success = True
        elif rule.endswith("-fail"):
            request.success = False
        if rule == "continue-ok" or (rule == "continue" and result == OK):
            request.verified = True
        request.nopassword = request.noauthenticate = False
        following = step.next
        if request.login_user and result == OK:
            self._switch(request, step)
            following = self._ordinary
        if result in (OK, NEXT):
            if continues:
                request.keep()
        else:
            request.roll_back()
        if continues:
            following = _unskipped(following, request)
            if following is not None:
                if result == INTERNAL:
                    request.seen_internal = True
                return following
        self._conclude(request, step, result)
        return None

    def _switch(self, request: Request, step: Step) -> None:
        """The master password was right: become the other user."""
        if step.verbose:
            self._journal.info(step.name, request, f"Master user logging in as {request.login_user}")
        request.master_user = request.user or ""
        request.user = request.login_user
        request.login_user = ""

    def _conclude(self, request: Request, step: Step, result: int) -> None:
        if result == NEXT:
            self._journal.error(step.name, request,
                                "Last passdb had noauthenticate field, cannot authenticate user")
            result = INTERNAL
        elif request.success:
            result = OK
        elif request.seen_internal:
            result = INTERNAL
        elif result == OK:
            result = MISMATCH
        self._finish(request, result)

    def _finish(self, request: Request, result: int) -> None:
        request.result = result
        request.step = None
        request.done(request)


_ILLEGAL = frozenset("\x01\t\r\n")


def _linked(steps: list[Step]) -> Step | None:
    for step, following in pairwise(steps):
        step.next = following
    return steps[0] if steps else None


def _unskipped(step: Step | None, request: Request) -> Step | None:
    while step is not None and step.skipped(request):
        step = step.next
    return step


def make_step(section: Section, journal: Journal, workers: Workers, cache: Cache | None, settings: Any) -> Step:
    """The right kind of step for a section."""
    constant = ConstantStep.fits(section)
    if constant is not None:
        return ConstantStep(section, journal, constant)
    if not section.driver.blocking:
        return Step(section, journal)
    variables = section.driver.variables
    if cache is None or variables is None:
        return WorkerStep(section, journal, workers)
    everything = tuple(dict.fromkeys((*variables, *section.defaults.variables)))
    return CachedStep(section, journal, workers, cache, everything, settings.auth_cache_verify_password_with_worker)
