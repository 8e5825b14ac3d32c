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
from mailproxy.auth.outcome import INTERNAL, MISMATCH, NEXT, OK, PENDING, SCHEME_MISSING, UNKNOWN
from mailproxy.auth.passdb.driver import Answer
from mailproxy.auth.passdb.passwd_file import PasswdFile
from mailproxy.auth.passdb.static import Static
from mailproxy.auth.request import Request
from mailproxy.auth.schemes import SchemeError, fits, generate, slow, verify
from mailproxy.auth.sections import Section
from mailproxy.auth.username import Names
from mailproxy.errors import DriverMissing
from mailproxy.variables import ExpandError

_SECRET = frozenset(("pass", "token"))
_RETRY = 101            # of a cached entry: cannot decide, ask the database


class Workers(Protocol):
    """Where blocking lookups are sent."""

    def lookup(self, section: Section, request: Request, check: bool, done: Callable[[Answer], None]) -> None: ...

    def verify(self, request: Request, stored: str, done: Callable[[bool | None, str], None]) -> None: ...

    def make(self, stored: str, scheme: str, user: str, salt: bytes,
             done: Callable[[bytes | None, str], None]) -> None: ...

    def replace(self, section: Section, request: Request, stored: str, done: Callable[[str], None]) -> None: ...


class Step:
    """One database in the chain, asked directly."""

    __slots__ = ("_conditional", "_needs_password", "driver", "ends", "journal", "name", "next", "section", "verbose",
                 "workers")

    def __init__(self, section: Section, journal: Journal, workers: Workers) -> None:
        self.section = section
        self.workers = workers
        self.driver = section.driver
        self.name = section.name
        self.journal = journal
        self.verbose = journal.verbose if section.verbose is None else section.verbose
        self.next: Step | None = None
        #: Nothing is left to do after its OK.
        self.ends = not section.overrides and not section.deny and section.rules[OK] == "return-ok"
        self._conditional = bool(section.mechanisms or section.username_filter or section.skip != "never")
        #: Without a password, its answer says nothing of whether the user exists.
        self._needs_password = section.verify is None and not isinstance(section.driver, PasswdFile)

    def skipped(self, request: Request) -> bool:
        if not self._conditional:
            return False
        section = self.section
        if section.mechanisms and (request.mech or "NONE") not in section.mechanisms:
            return True
        if section.username_filter is not None and not section.username_filter(request.user or ""):
            return True
        return section.skip == ("authenticated" if request.verified else "unauthenticated")

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
            if answer.note or answer.result in (UNKNOWN, MISMATCH):
                self._tell(request,
                           answer.note or ("unknown user" if answer.result == UNKNOWN else "Password mismatch"),
                           guess=not answer.note or answer.result == MISMATCH)
            if answer.result == MISMATCH:           # the name that the database spells otherwise is shown to the client
                for key, value in answer.fields:
                    set_field(request, key, value, self.journal, self.name)
            return answer.result
        any_password = request.nopassword           # of default_fields: the database's password does not count then
        if answer.shared:
            if answer.prepared is None:
                answer.prepared = FieldSet(answer.fields)
            answer.prepared.apply(request, self.journal, self.name)
        else:
            for key, value in answer.fields:
                set_field(request, key, value, self.journal, self.name)
        return self.check(request, None if any_password else answer.password, answer)

    def check(self, request: Request, stored: str | None, answer: Answer | None) -> int:
        """Compare the password, unless this request or this database does not need it."""
        if request.noauthenticate:
            return NEXT
        if request.wanted and not self.section.deny:
            return self._hold(request, stored)
        if request.verified or request.lookup or self.section.deny:
            if stored is None and request.lookup and self._needs_password and not request.nopassword:
                return SCHEME_MISSING
            return OK
        if stored is None and answer is not None and answer.verdict:
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
        elif slow(stored):
            self.compare_later(request, stored, lambda right: request.plan.resume(request, self.said(request, right)))
            return PENDING
        else:
            right = self.compare(request, stored)
        return self.said(request, right)

    def said(self, request: Request, right: bool | None) -> int:
        """What a comparison means."""
        if right is None:
            return INTERNAL
        if not right:
            self._tell(request, "Password mismatch", guess=True)
            return MISMATCH
        return OK

    def compare(self, request: Request, stored: str) -> bool | None:
        try:
            return verify(stored, request.password, request.original_user or "")
        except (SchemeError, DriverMissing) as error:
            self.journal.error(self.name, request, str(error))
            return None

    def compare_later(self, request: Request, stored: str, done: Callable[[bool | None], None]) -> None:
        """In a worker: the login of one user must not keep all others waiting."""
        def compared(right: bool | None, complaint: str) -> None:
            if complaint:
                self.journal.error(self.name, request, complaint)
            done(right)
        self.workers.verify(request, stored, compared)

    def _hold(self, request: Request, stored: str | None) -> int:
        """Keep what the mechanism wants to compare with; with none here, that of an earlier database is good."""
        if stored is None and request.verified and request.held is not None:
            return OK
        if request.nopassword:
            problem = f"Requested {request.wanted} scheme, but any password is good (nopassword)"
        elif stored is None:
            problem = f"Requested {request.wanted} scheme, but we have a NULL password"
        else:
            try:
                problem = fits(stored, request.wanted)
            except SchemeError as error:
                self.journal.error(self.name, request, str(error))
                return SCHEME_MISSING
        if problem:
            self._tell(request, problem)
            return SCHEME_MISSING
        request.held = stored
        request.holder = self.section
        return OK

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

    def __init__(self, section: Section, journal: Journal, workers: Workers, answer: Answer) -> None:
        super().__init__(section, journal, workers)
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
        if request.wanted:
            request.nopassword = True
            return self._hold(request, None)
        if self.journal.debug:
            self.journal.trace(self.name, request, "Allowing any password")
        return OK


class WorkerStep(Step):
    """A blocking database: asked in an auth-worker."""

    __slots__ = ()

    def ask(self, request: Request, defaults: tuple[tuple[str, str], ...]) -> int:
        if self.section.verify is not None:
            check = not request.lookup and not request.wanted
        else:
            check = not (request.verified or request.lookup or self.section.deny or request.wanted)

        def done(answer: Answer) -> None:
            result = self.judged(request, answer, defaults)
            if result != PENDING:
                request.plan.resume(request, result)
        self.workers.lookup(self.section, request, check, done)
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
        request.asked = request.user or ""
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
        if request.wanted and not self.section.deny:
            entry.fields.apply(request, self.journal, self.name)
            return self.check(request, stored, None)
        if request.verified or request.lookup or self.section.deny or stored is None:
            entry.fields.apply(request, self.journal, self.name)
            return OK
        if slow(stored) or (self._verify_in_worker and not stored.startswith("{PLAIN}")):
            self.compare_later(request, stored, lambda right: self._compared_later(request, entry, right))
            return PENDING
        return self._compared(request, entry, self.compare(request, stored))

    def _compared(self, request: Request, entry: Entry, right: bool | None) -> int:
        if right and entry.fields is not None:
            entry.success = True
            entry.fields.apply(request, self.journal, self.name)
            return OK
        if entry.success or self._cache.older_than_negative(entry):
            entry.success = False
            return _RETRY
        if right is False and entry.fields is not None:
            entry.fields.apply(request, self.journal, self.name)    # as if the database had been asked
        return self.said(request, right)

    def _compared_later(self, request: Request, entry: Entry, right: bool | None) -> None:
        result = self._compared(request, entry, right)
        if result == _RETRY:
            result = super().begin(request)
        if result != PENDING:
            request.plan.resume(request, result)

    def _hit_text(self, entry: Entry) -> str:
        if entry.fields is None:
            return "cache hit: "
        password = (entry.password or "") if self.journal.passwords else "<hidden>"
        secret = frozenset() if self.journal.passwords else _SECRET
        return "cache hit: " + "\t".join([password, *(f"{key}={'<hidden>' if key in secret else value}"
                                                      for key, value in entry.fields.pairs)])

    def judged(self, request: Request, answer: Answer, defaults: tuple[tuple[str, str], ...]) -> int:
        result = self.judge(request, answer)
        entry: Entry | None = request.stale
        if result == INTERNAL:
            if entry is not None and answer.result == INTERNAL:
                return self._from_expired(request, entry)
            return result
        user = request.asked                # the name it has now may be what the database has made of it
        if result == UNKNOWN:
            self._cache.put(request.key, None, None, False, user)
        elif result == OK and answer.password is None and answer.verdict:
            self._cache.put(request.key, FieldSet([*defaults, *answer.fields]),
                            generate("SHA1", request.password), True, user)
        elif result in (OK, MISMATCH) and (answer.password is not None or (result == OK and request.nopassword)):
            unchecked = request.verified or request.lookup
            # what let everybody in just now, and nothing else: beside a password, nopassword is ignored
            anybody = request.nopassword and not unchecked and (
                not answer.password or answer.password.endswith("}")
                or any(key.partition(":")[0] == "nopassword" for key, _ in defaults))
            password = None if anybody else answer.password
            self._cache.put(request.key, FieldSet([*defaults, *answer.fields]), password, result == OK, user)
        return result

    def _from_expired(self, request: Request, entry: Entry) -> int:
        """The database is down: old data is better than none, if it lets the user in."""
        self.journal.info(self.name, request, "Falling back to expired data from cache")
        if entry.fields is None:
            return UNKNOWN
        fields, stored = entry.fields, entry.password
        if request.wanted or request.verified or request.lookup or self.section.deny or stored is None:
            fields.apply(request, self.journal, self.name)
            return self.check(request, stored, None) if request.wanted else OK

        def good(right: bool | None) -> int:
            if not right:
                return INTERNAL
            fields.apply(request, self.journal, self.name)
            return OK
        if slow(stored):
            self.compare_later(request, stored, lambda right: request.plan.resume(request, good(right)))
            return PENDING
        return good(self.compare(request, stored))


class Plan:
    """The databases of one protocol, compiled, with the names' rules that go with them.
    `openid_configuration_url`: where a client whose token was refused may learn how to get one."""

    __slots__ = ("_journal", "_masters", "_ordinary", "failure_delay", "names", "openid_configuration_url", "settings",
                 "steps")

    def __init__(self, steps: list[Step], settings: Any, journal: Journal) -> None:
        self.steps = steps
        self.settings = settings
        self._journal = journal
        self._ordinary = _linked([step for step in steps if not step.section.master])
        self._masters = _linked([step for step in steps if step.section.master])
        self.names = Names(settings, self._masters is not None)
        self.failure_delay: float = settings.auth_failure_delay
        self.openid_configuration_url: str = next(
            (url for step in steps if (url := getattr(step.driver, "openid_configuration_url", ""))), "")

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
        return ConstantStep(section, journal, workers, constant)
    if not section.driver.blocking:
        return Step(section, journal, workers)
    variables = section.driver.variables
    if cache is None or variables is None:
        return WorkerStep(section, journal, workers)
    everything = tuple(dict.fromkeys((*variables, *section.defaults.variables)))
    return CachedStep(section, journal, workers, cache, everything, settings.auth_cache_verify_password_with_worker)
