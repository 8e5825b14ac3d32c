"""What the auth processes write to the log about requests, and at which settings.

Prefix of a line: `database(user,rip,master,<session>): `.  Passwords appear only with auth_debug_passwords or
auth_verbose_passwords.
"""
from __future__ import annotations

import hashlib
from typing import Any

from mailproxy.auth.request import Request
from mailproxy.log.pipe import DEBUG, ERROR, INFO, WARNING, Log

#: Names in prefixes are cut here.
_NAME_LIMIT = 64


class Journal:
    """One per process; `verbose` and `debug` are the global settings."""

    __slots__ = ("_form", "_truncate", "debug", "log", "passwords", "verbose")

    def __init__(self, log: Log, view: Any) -> None:
        self.log = log
        self.passwords: bool = view.auth_debug_passwords
        self.debug: bool = view.auth_debug or self.passwords
        self.verbose: bool = view.auth_verbose or self.debug
        form, _, size = view.auth_verbose_passwords.partition(":")
        self._form = {"yes": "plain", "no": ""}.get(form, form)
        self._truncate = int(size) if size.isdecimal() else 0

    def info(self, name: str, request: Request, text: str) -> None:
        """For outcomes: only with auth_verbose (or the database's own)."""
        self.log.write(INFO, prefix(name, request) + text)

    def error(self, name: str, request: Request, text: str) -> None:
        self.log.write(ERROR, prefix(name, request) + text)

    def warning(self, name: str, request: Request, text: str) -> None:
        self.log.write(WARNING, prefix(name, request) + text)

    def trace(self, name: str, request: Request, text: str) -> None:
        self.log.write(DEBUG, prefix(name, request) + text)

    def given(self, request: Request) -> str:
        """The wrong password in the form that auth_verbose_passwords asks for, "" by default."""
        if not self._form:
            return ""
        if self._form == "sha1":
            digest = hashlib.sha1(request.password.encode("utf-8", "surrogateescape"), usedforsecurity=False)
            shown = digest.hexdigest()
            words = "SHA1 of given password"
        else:
            shown = request.password
            words = "given password"
        return f" ({words}: {shown[:self._truncate] if self._truncate else shown})"


def prefix(name: str, request: Request) -> str:
    user = request.user
    if user is None:
        shown = "?"
    else:
        shown = "".join(char if char.isprintable() else "?" for char in user)
        if len(shown) > _NAME_LIMIT:
            shown = shown[:_NAME_LIMIT - 3] + "..."
    parts = [shown]
    if rip := request.args.get("rip"):
        parts.append(rip)
    if request.login_user:
        parts.append("master")
    if session := request.arg("session"):
        parts.append(f"<{session}>")
    return f"{name}({','.join(parts)}): "
