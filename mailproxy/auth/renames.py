"""`user`, `username` and `domain`: fields of either kind of database that give a request another name."""
from __future__ import annotations

from mailproxy.auth.journal import Journal
from mailproxy.auth.request import Request


def _rename(request: Request, new: str, journal: Journal, name: str) -> None:
    if not new:
        journal.error(name, request, "username attempted to be changed to empty")
        request.failed = True
        return
    if new != request.user:
        if journal.debug:
            journal.trace(name, request, f"username changed {request.user} -> {new}")
        request.user = new


def set_user(request: Request, value: str, journal: Journal, name: str) -> None:
    _rename(request, value, journal, name)


def set_username(request: Request, value: str, journal: Journal, name: str) -> None:
    old = request.user or ""
    if value and "@" not in value and "@" in old:
        value += "@" + old.partition("@")[2]
    _rename(request, value, journal, name)


def set_domain(request: Request, value: str, journal: Journal, name: str) -> None:
    local = (request.user or "").partition("@")[0]
    _rename(request, f"{local}@{value}", journal, name)       # an empty domain leaves the @, as in Dovecot


SETTERS = {"user": set_user, "username": set_username, "domain": set_domain}
