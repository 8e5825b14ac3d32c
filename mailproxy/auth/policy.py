"""The policy server: somebody else who may refuse or slow down logins, and hears of every one (HTTP, JSON).

In: requests before and after the databases were asked, and their results.  Out: go on, wait, or no.  The server is
asked by auth-workers over connections of their own, so that a slow one keeps neither auth nor database lookups; an
answer later than auth_policy_server_timeout_msecs is none.
"""
from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

from mailproxy.auth import outcome
from mailproxy.auth.httpclient import Client, HttpFailure, Tls, check_header, check_url
from mailproxy.auth.journal import Journal
from mailproxy.auth.passdb.driver import ArgsInvalid
from mailproxy.auth.request import Request
from mailproxy.auth.variables import template
from mailproxy.auth.workers import Pool
from mailproxy.net.loop import Loop, Timer
from mailproxy.sasl.mechanism import to_bytes
from mailproxy.variables import ExpandError, Template

#: Connections to auth-workers for this alone.
WORKERS = 10
#: Seconds that a server may keep a client: the request itself does not live longer.
MAX_TARPIT = 150
_AGENT = "dovecot/auth-policy-client"
#: Seconds that an unused connection to the server is kept.
_IDLE = 10.0
_UNANSWERED = "Policy server HTTP error: "
ALLOW, REPORT = "allow", "report"

#: Nested objects of texts.
Tree = dict[str, Any]


class _Values:
    """What attributes may use: a request's variables and two more."""

    __slots__ = ("_hash", "_request")

    def __init__(self, request: Request, digest: str) -> None:
        self._request = request
        self._hash = digest

    def __getitem__(self, key: str) -> str:
        if key == "hashed_password":
            return self._hash
        if key == "requested_username":
            return _requested(self._request)
        return self._request[key]


def _requested(request: Request) -> str:
    return request.login_user or request.user or ""


def attributes(text: str) -> list[tuple[list[str], Template]]:
    """`name=value` and `a/b=value` in the order of names."""
    pairs = [word.partition("=")[::2] for word in text.split() if "=" in word]
    return [(name.split("/"), template(value, names=("hashed_password", "requested_username")))
            for name, value in sorted(pairs)]


def digest(mechanism: str, nonce: str, bits: int, user: str, password: str) -> str:
    """The leading bits of a hash, moved to the right in whole bytes."""
    data = hashlib.new(mechanism, to_bytes(f"{nonce}{user}\0{password}"), usedforsecurity=False).digest()
    if not 0 < bits < len(data) * 8:
        return data.hex()
    size = (bits + 7) // 8
    return (int.from_bytes(data[:size]) >> size * 8 - bits).to_bytes(size).hex()


def problems(view: Any) -> list[str]:
    """What of the settings cannot be used."""
    found = []
    if not view.auth_policy_hash_nonce:
        found.append("auth_policy_hash_nonce must be set when policy server is used")
    if view.auth_policy_hash_mech not in hashlib.algorithms_available:
        found.append(f"Unknown hash mech: {view.auth_policy_hash_mech}")
    try:
        check_url(view.auth_policy_server_url)
        _header(view.auth_policy_server_api_header)
    except ArgsInvalid as error:
        found.append(f"auth_policy_server: {error}")
    return found


def _header(setting: str) -> dict[str, str]:
    if not setting:
        return {}
    name, colon, value = setting.partition(":")
    name, value = (name.strip(), value.strip()) if colon else ("X-API-Key", setting.strip())
    check_header(name, value)
    return {name: value}


class Asker:
    """In an auth-worker: one HTTP request at a time."""

    __slots__ = ("_client", "_clock", "_headers", "_timeout", "_url")

    def __init__(self, view: Any, clock: Callable[[], float]) -> None:
        url: str = view.auth_policy_server_url
        self._url = url if url.endswith("&") else url + "?"
        self._headers = {"Content-Type": "application/json", **_header(view.auth_policy_server_api_header)}
        self._timeout = view.auth_policy_server_timeout_msecs / 1000
        self._clock = clock
        self._client = Client(_AGENT, Tls().context() if url.startswith("https:") else None, _IDLE, clock)

    def ask(self, command: str, body: str) -> tuple[int, str, str]:
        """Status, message, and what went wrong."""
        try:
            reply = self._client.request("POST", f"{self._url}command={command}", self._headers, body,
                                         self._clock() + self._timeout)
        except HttpFailure as error:
            return 0, "", f"{_UNANSWERED}{error}"
        if not 200 <= reply.status < 210:
            return 0, "", f"{_UNANSWERED}{reply.status} {reply.reason[:100]}"
        if command == REPORT:
            return 0, "", ""
        try:
            answer = json.loads(reply.body)
            status = int(answer["status"])
            message = answer.get("msg") or ""
            if not isinstance(message, str):
                raise TypeError("msg is not a text")
            message = message.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
        except KeyError:
            return 0, "", "Policy server response was malformed: no status"
        except (ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            return 0, "", f"Policy server response JSON parse error: {error}"
        return max(min(status, MAX_TARPIT), -1), message[:1000], ""


class Policy:
    """`before`, `after`: whether the server is asked then."""

    __slots__ = ("_attributes", "_hash", "_journal", "_log_only", "_loop", "_pool", "_rejects", "_reports", "_timeout",
                 "after", "before")

    def __init__(self, loop: Loop, journal: Journal, pool: Pool, view: Any) -> None:
        self._loop = loop
        self._journal = journal
        self._pool = pool
        self._attributes = attributes(view.auth_policy_request_attributes)
        self._timeout: float = view.auth_policy_server_timeout_msecs / 1000
        self._rejects: bool = view.auth_policy_reject_on_fail
        self._log_only: bool = view.auth_policy_log_only
        self._reports: bool = view.auth_policy_report_after_auth
        self.before: bool = view.auth_policy_check_before_auth
        self.after: bool = view.auth_policy_check_after_auth
        nonce, mechanism, bits = (view.auth_policy_hash_nonce, view.auth_policy_hash_mech,
                                  view.auth_policy_hash_truncate)
        self._hash: Callable[[str, str], str] = lambda user, password: digest(mechanism, nonce.reveal(), bits, user,
                                                                              password)

    def ask(self, request: Request, go_on: Callable[[bool], None], *, tarpit: bool) -> None:
        """`go_on` once, later: with whether the request may go on.  If not, its reason is set."""
        timer: Timer | None = None

        def answered(status: int, message: str, error: str) -> None:
            nonlocal timer
            if timer is None:                       # answered already, or too late
                return
            timer.cancel()
            timer = None
            if error:
                self._journal.error("policy", request, error)
                status = -1 if self._rejects else 0
            self._act(request, status, message, go_on, tarpit=tarpit, answered=not error.startswith(_UNANSWERED))
        timer = self._loop.call_later(
            self._timeout, lambda: answered(0, "", f"{_UNANSWERED}Request timed out"))
        body = self._body(request, {})
        if body is None:
            answered(0, "", "Policy server was not asked")
        else:
            self._pool.policy(ALLOW, body, answered)

    def _act(self, request: Request, status: int, message: str, go_on: Callable[[bool], None], *, tarpit: bool,
             answered: bool) -> None:
        if status < 0:
            request.refused_by_policy = answered
            if message:
                request.fields["reason"] = message
        if status < 0 and not self._log_only:
            self._journal.info("policy", request,
                               f"Authentication failure due to policy server refusal{message and ': '}{message}")
            self._tell(request, "drop connection")
            request.result = outcome.MISMATCH
            go_on(False)
            return
        if status:
            self._tell(request, "drop connection" if status < 0 else f"tarpit {status} second(s)")
        if status > 0 and tarpit and not self._log_only and "no-penalty" not in request.args:
            self._loop.call_later(status, lambda: go_on(True))
        else:
            go_on(True)

    def _tell(self, request: Request, action: str) -> None:
        self._journal.info("policy", request, f"Policy check action is {action}")

    def report(self, request: Request, *, success: bool) -> None:
        """Nobody waits for it."""
        if not self._reports:
            return
        refused = getattr(request, "refused_by_policy", False)
        body = self._body(request, {"success": success, "policy_reject": refused})
        if body is None:
            return

        def answered(_status: int, _message: str, error: str) -> None:
            if error:
                self._journal.error("policy", request, error)
        self._pool.policy(REPORT, body, answered)

    def _body(self, request: Request, more: Tree) -> str | None:
        values = _Values(request, self._hash(_requested(request), request.password))
        tree: Tree = {}
        try:
            for path, value in self._attributes:
                _place(tree, path, value.expand(values))
        except ExpandError as error:
            self._journal.error("policy", request, f"Failed to expand auth_policy_request_attributes: {error}")
            return None
        tree.update(more, tls=request.args.get("secured") == "tls")
        return json.dumps(tree, separators=(",", ":"), ensure_ascii=False)


def _place(tree: Tree, path: list[str], value: str) -> None:
    for name in path[:-1]:
        below = tree.setdefault(name, {})
        if not isinstance(below, dict):             # both a text and an object: the first stays
            return
        tree = below
    # bytes that are no text would make the whole body unreadable to its server
    tree[path[-1]] = to_bytes(value).decode("utf-8", "replace")
