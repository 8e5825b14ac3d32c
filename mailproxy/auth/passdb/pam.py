"""pam: the system's modules compare the password.

args: [session=yes] [setcred=yes] [cache_key=%vars] [failure_show_msg=yes] [max_requests=n] [service].  The service is
`dovecot` if none is named, `*` is the protocol's name.  There is no password to be had, so only mechanisms that
send one work.  Blocking: for auth-workers; modules leak, so a worker ends after max_requests lookups.
"""
from __future__ import annotations

import os.path

from mailproxy.auth import libpam, outcome
from mailproxy.auth.passdb.driver import Answer, ArgsInvalid, failure, unknown, without_password
from mailproxy.auth.variables import template
from mailproxy.variables import ExpandError, Values

MAX_REQUESTS = 100
#: Where services are configured, for a hint in the log.
SERVICES = "/etc/pam.d"


class Pam:
    __slots__ = ("_credentials", "_service", "_session", "_show", "max_requests", "needs", "variables")

    default_scheme = "PLAIN"
    blocking = True

    def __init__(self, args: str) -> None:
        self._session = self._credentials = self._show = False
        self.max_requests = MAX_REQUESTS
        self.variables: tuple[str, ...] | None = None
        service = "dovecot"
        words = args.split()
        for index, word in enumerate(words):
            key, _, value = word.partition("=")
            if word in ("session=yes", "-session"):
                self._session = True
            elif word == "setcred=yes":
                self._credentials = True
            elif word == "failure_show_msg=yes":
                self._show = True
            elif key == "cache_key" and value:
                self.variables = template(value).key_variables
            elif key == "max_requests":
                self.max_requests = _count(value)
            elif key in ("blocking", "session", "setcred", "failure_show_msg", "cache_key") and "=" in word:
                continue
            elif index == len(words) - 1:
                service = "%Ls" if word == "*" else word
            else:
                raise ArgsInvalid(f"pam: Unknown setting: {word}")
        libpam.check()
        self._service = template(service)
        self.needs = tuple(dict.fromkeys(("user", "rip", *self._service.key_variables)))

    def open(self) -> None:
        """Each lookup begins anew."""

    def close(self) -> None:
        """Nothing stays open."""

    def lookup(self, values: Values) -> Answer:
        return without_password()

    def verify(self, values: Values, password: str) -> Answer:
        try:
            service = self._service.expand(values)
        except ExpandError as error:
            return failure(f"Failed to expand service {self._service.source}: {error}")
        user = values["user"]
        if "\0" in user or "\0" in password or "\0" in service:
            return Answer(outcome.MISMATCH, note="NUL in user name or password")
        got = libpam.authenticate(service, user, password, values["rip"], credentials=self._credentials,
                                  session=self._session)
        if got.status == libpam.SUCCESS:
            return Answer(outcome.OK, fields=[("user", got.user)] if got.user and got.user != user else [])
        answer = _refusal(got, service)
        if self._show and got.message:
            answer.fields.append(("reason", got.message))
        return answer


def _refusal(got: libpam.Verdict, service: str) -> Answer:
    text = f"{got.step}() failed: {got.reason}"
    if got.status == libpam.USER_UNKNOWN:
        return unknown(text)
    if got.status in (libpam.NEW_TOKEN_REQUIRED, libpam.ACCOUNT_EXPIRED):
        return Answer(outcome.EXPIRED, note=text)
    if got.status == libpam.AUTH_ERROR and got.step == "pam_authenticate":
        text += " (Password mismatch?)"
    else:
        path = f"{SERVICES}/{service}"
        if "/" not in service and not os.path.exists(path):
            text += f" ({path} missing?)"
    return failure(text) if got.status in libpam.TROUBLE else Answer(outcome.MISMATCH, note=text)


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise ArgsInvalid(f"pam: Invalid requests_max value: {text}")
    return int(text[:9])
