"""One authentication: who asks, what the client claimed, what the databases said so far.

Answers the %variables of auth templates (`request["user"]`).  Fields keep the order of their first insertion; a later
value replaces the text, not the place.  Knows nothing of sockets: `owner` is only passed through.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mailproxy.auth import outcome
from mailproxy.ipc.authwire import escape, unescape

if TYPE_CHECKING:
    from mailproxy.auth.chain import Plan, Step
    from mailproxy.auth.sections import Section

#: Fields that are kept for variables but never leave the auth process.
HIDDEN = frozenset(("allow_nets", "allow_real_nets", "fail", "delay_until", "login_user"))
#: (fields, hidden, userdb fields) at the last success.
Snapshot = tuple[dict[str, str], dict[str, str] | None, dict[str, str] | None]


class Request:
    """`user` is None until a name was accepted.  `login_user`: whom a master user wants to be, until the master
    password was right; `master_user`: who did that, afterwards."""

    __slots__ = ("_args", "_parts", "asked", "delay_until", "done", "failed", "fields", "final", "held", "hidden",
                 "holder", "id", "key", "login_user", "lookup", "master_user", "mech", "noauthenticate", "nopassword",
                 "original_user", "owner", "password", "penalty", "plan", "realm", "refused_by_policy", "result",
                 "sasl", "saved", "seen_internal", "stale", "state", "step", "success", "tempfail", "timer", "user",
                 "userdb", "verified", "wanted")

    #: Of a database behind the cache: the name that it was asked for.
    asked: str
    #: Where `held` is from; what belongs to names in the scheme `wanted`.  Both only with `wanted`.
    holder: Section
    realm: str | None
    #: Only if it is true.
    refused_by_policy: bool

    def __init__(self, owner: Any, number: int, mech: str, parts: list[str], plan: Plan,
                 done: Callable[[Request], None]) -> None:
        """`parts`: the parameters as they came, `key=value`; taken apart when one is asked for, which most logins
        never do."""
        self._parts = parts
        self._args: dict[str, str] | None = None
        self.owner = owner
        self.id = number
        self.mech = mech
        self.plan = plan
        self.done = done
        self.user: str | None = None
        self.original_user: str | None = None
        self.login_user = ""
        self.master_user = ""
        self.password = ""
        self.wanted = ""                # the scheme of a mechanism that compares by itself
        self.final = b""                # the last words of the mechanism, for a client that is right
        self.held: str | None = None    # what the databases have for it
        self.fields: dict[str, str] = {}
        self.hidden: dict[str, str] | None = None
        self.userdb: dict[str, str] | None = None
        self.saved: Snapshot | None = None
        self.result = outcome.INTERNAL
        self.success = self.verified = self.failed = self.nopassword = self.noauthenticate = False
        self.seen_internal = False
        self.tempfail = False           # of userdb fields: they cannot be used
        self.delay_until = 0.0
        self.lookup = False             # of fields only, without a password
        self.penalty = 0                # the value for which it had to wait
        self.step: Step | None = None
        self.state = 0
        self.key: Any = None
        self.stale: Any = None
        self.sasl: Any = None
        self.timer: Any = None

    # -- variables ------------------------------------------------------------------------------------------------

    def __getitem__(self, key: str) -> str:
        getter = _GETTERS.get(key)
        if getter is not None:
            return getter(self)
        prefix, _, rest = key.partition(":")
        name, _, default = rest.partition(":")
        if prefix == "passdb":
            value = self.fields.get(name)
            if value is None and self.hidden is not None:
                value = self.hidden.get(name)
        else:
            value = self.userdb.get(name) if self.userdb is not None else None
        return default if value is None else value

    @property
    def args(self) -> dict[str, str]:
        args = self._args
        if args is None:
            args = self._args = {}
            for part in self._parts:
                key, _, value = part.partition("=")
                args[key] = unescape(value)
        return args

    def arg(self, name: str) -> str:
        return self.args.get(name, "")

    # -- fields ---------------------------------------------------------------------------------------------------

    def keep(self) -> None:
        """What is set now survives later failures."""
        self.saved = (self.fields.copy(), self.hidden and self.hidden.copy(), self.userdb and self.userdb.copy())

    def roll_back(self) -> None:
        saved = self.saved
        if saved is None:
            self.fields, self.hidden, self.userdb = {}, None, None
        else:
            self.fields, self.hidden, self.userdb = (
                saved[0].copy(), saved[1] and saved[1].copy(), saved[2] and saved[2].copy())

    def hide(self, name: str, value: str) -> None:
        if self.hidden is None:
            self.hidden = {}
        self.hidden[name] = value

    def set_userdb(self, name: str, value: str) -> None:
        if self.userdb is None:
            self.userdb = {}
        self.userdb[name] = value


def _local_part(name: str) -> str:
    return name.partition("@")[0]


def _domain(name: str) -> str:
    return name.partition("@")[2]


def _auth_user(request: Request) -> str:
    return request.master_user or request.original_user or ""


def _section_number(request: Request) -> str:
    return "0" if request.step is None else str(request.step.section.number)


def _argument(name: str, fallback: str = "") -> Callable[[Request], str]:
    if fallback:
        return lambda request: request.arg(name) or request.arg(fallback)
    return lambda request: request.arg(name)


def _port(name: str, fallback: str = "") -> Callable[[Request], str]:
    return lambda request: request.args.get(name) or request.args.get(fallback, "") or "0"


def _secured(request: Request) -> str:
    value = request.args.get("secured")
    if value is None:
        return ""
    return "TLS" if value == "tls" else "secured"


def _listed(fields: dict[str, str]) -> str:
    return "\t".join(f"{escape(key)}={escape(value)}" for key, value in fields.items())


_GETTERS: dict[str, Callable[[Request], str]] = {
    "user": lambda request: request.user or "",
    "username": lambda request: _local_part(request.user or ""),
    "domain": lambda request: _domain(request.user or ""),
    "service": _argument("service"),
    "home": lambda request: "",
    "lip": _argument("lip"),
    "rip": _argument("rip"),
    "pid": lambda request: str(request.owner.pid if request.owner is not None else 0),
    "password": lambda request: request.password,
    "id": _section_number,
    "mech": lambda request: request.mech,
    "secured": _secured,
    "lport": _port("lport"),
    "rport": _port("rport"),
    "cert": lambda request: "valid" if "valid-client-cert" in request.args else "",
    "login_user": lambda request: request.login_user,
    "login_username": lambda request: _local_part(request.login_user),
    "login_domain": lambda request: _domain(request.login_user),
    "session": _argument("session"),
    "real_lip": _argument("real_lip", "lip"),
    "real_rip": _argument("real_rip", "rip"),
    "real_lport": _port("real_lport", "lport"),
    "real_rport": _port("real_rport", "rport"),
    "domain_first": lambda request: _domain(request.user or "").partition("@")[0],
    "domain_last": lambda request: (request.user or "").rpartition("@")[2] if "@" in (request.user or "") else "",
    "master_user": lambda request: request.master_user,
    "session_pid": _argument("session_pid"),
    "orig_user": lambda request: request.original_user or "",
    "orig_username": lambda request: _local_part(request.original_user or ""),
    "orig_domain": lambda request: _domain(request.original_user or ""),
    "auth_user": _auth_user,
    "auth_username": lambda request: _local_part(_auth_user(request)),
    "auth_domain": lambda request: _domain(_auth_user(request)),
    "local_name": _argument("local_name"),
    "wanted_scheme": lambda request: request.wanted,            # for drivers; no template has a name for it
    "client_id": _argument("client_id"),
    # for scripts; no %variable has such a name
    "passdb fields": lambda request: _listed({**request.fields, **(request.hidden or {})}),
    "userdb fields": lambda request: _listed(request.userdb or {}),
    "skip_password_check": lambda request: "yes" if request.verified else "",
    "passdbs_seen_internal_failure": lambda request: "yes" if request.seen_internal else "",
}
