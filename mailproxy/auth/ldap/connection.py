"""One connection to a directory: searches under the service's DN, and binds that only try a password.

In: DNs, filters.  Out: entries; whether a password is right.  A server that closed the connection is asked once more on
a new one.  While none can be reached, requests fail at once for a time that grows with what a failed try costs.
Limits: seconds per step below; a search that finds more than two entries is an error.
"""
from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, TypeVar

from mailproxy.auth import outcome
from mailproxy.auth.ldap.attributes import Entry
from mailproxy.auth.ldap.settings import REQUIRES, Settings
from mailproxy.errors import MailproxyError

#: Seconds: until connected; for an answer; most that a failed connect keeps others from trying.
CONNECT_TIMEOUT = 5.0
ANSWER_TIMEOUT = 20.0
MOST_PAUSE = 10.0
#: Entries in one portion of a list; portions of it.
_PAGE = 500
_MAX_PAGES = 100_000
_T = TypeVar("_T")


class DirectoryFailed(MailproxyError):
    """No answer; the text is for the log."""


class SeveralEntries(DirectoryFailed):
    """More than one entry where one was expected."""


class Connection:
    """`_bound`: the service's DN is the one that is bound."""

    __slots__ = ("_bound", "_handle", "_pause_end", "_settings")

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._handle: Any = None
        self._bound = False
        self._pause_end = 0.0

    def close(self) -> None:
        handle, self._handle = self._handle, None
        _drop(handle)

    # -- what is asked --------------------------------------------------------------------------------------------

    def find(self, base: str, query: str, names: list[str]) -> tuple[str, Entry] | None:
        """The one entry that matches."""
        return self._one(base, self._settings.scope, query, names)

    def read(self, dn: str, names: list[str]) -> Entry:
        """The entry of that name; {} if there is none."""
        found = self._one(dn, 0, "(objectClass=*)", names)
        return found[1] if found is not None else {}

    def _one(self, base: str, scope: int, query: str, names: list[str]) -> tuple[str, Entry] | None:
        import ldap

        def search(handle: Any) -> list[Any]:
            try:
                return handle.search_ext_s(base, scope, query, names or None, timeout=ANSWER_TIMEOUT, sizelimit=2) \
                    or []
            except ldap.NO_SUCH_OBJECT:
                return []
            except ldap.SIZELIMIT_EXCEEDED:
                raise SeveralEntries("LDAP search returned multiple entries") from None
        rows = self._asked(f"ldap_search(base={base} filter={query})", search)
        found = [(dn, entry) for dn, entry, *_ in rows if dn is not None]           # without references elsewhere
        if len(found) > 1:
            raise SeveralEntries("LDAP search returned multiple entries")
        return found[0] if found else None

    def all(self, base: str, query: str, names: list[str]) -> Iterator[tuple[str, Entry]]:
        """All entries that match, in portions if the server can do that."""
        from ldap.controls import SimplePagedResultsControl
        control = SimplePagedResultsControl(False, size=_PAGE, cookie="")

        def search(handle: Any) -> tuple[list[Any], list[Any]]:
            number = handle.search_ext(base, self._settings.scope, query, names or None, serverctrls=[control])
            _, rows, _, controls = handle.result3(number, timeout=ANSWER_TIMEOUT)
            return rows, controls
        for _ in range(_MAX_PAGES):
            rows, controls = self._asked(f"ldap_search(base={base} filter={query})", search)
            yield from ((dn, entry) for dn, entry, *_ in rows if dn is not None)
            cookies = [each.cookie for each in controls if each.controlType == control.controlType]
            if not cookies or not cookies[0]:
                return
            control.cookie = cookies[0]

    def tries(self, dn: str, password: str) -> int:
        """The outcome of a bind as that entry."""
        import ldap

        def bind(handle: Any) -> int:
            self._bound = False
            try:
                handle.simple_bind_s(dn, password.encode("utf-8", "surrogateescape"))
            except ldap.INVALID_CREDENTIALS:
                return outcome.MISMATCH
            except ldap.NO_SUCH_OBJECT:
                return outcome.UNKNOWN
            return outcome.OK
        return self._asked("ldap_bind()", bind, as_service=False)

    # -- the connection -------------------------------------------------------------------------------------------

    def _asked(self, what: str, question: Callable[[Any], _T], as_service: bool = True) -> _T:
        import ldap
        fresh = self._handle is None
        try:
            handle = self._handle if self._handle is not None else self._connect()
            if as_service and not self._bound:
                self._bind(handle)
            return question(handle)
        except (ldap.SERVER_DOWN, ldap.UNAVAILABLE, ldap.CONNECT_ERROR) as error:
            self.close()
            if fresh:
                raise DirectoryFailed(f"{what} failed: {_reason(error)}") from None
        except ldap.LDAPError as error:
            if isinstance(error, (ldap.TIMEOUT, ldap.BUSY, ldap.LOCAL_ERROR, ldap.PROTOCOL_ERROR, ldap.DECODING_ERROR)):
                self.close()
            raise DirectoryFailed(f"{what} failed: {_reason(error)}") from None
        except (ValueError, TypeError):             # what the library cannot encode
            raise DirectoryFailed(f"{what} failed: invalid character") from None
        return self._asked(what, question, as_service)

    def _connect(self) -> Any:
        import ldap
        start = time.monotonic()
        uris = " ".join(self._settings.uris)
        if start < self._pause_end:
            raise DirectoryFailed(f"Can't connect to server: {uris}")
        handle = None
        try:
            handle = self._open(uris)
            self._bind(handle)
        except (ldap.SERVER_DOWN, ldap.TIMEOUT, ldap.CONNECT_ERROR, ldap.UNAVAILABLE) as error:
            now = time.monotonic()
            self._pause_end = now + min(2 * (now - start), MOST_PAUSE)
            _drop(handle)
            raise DirectoryFailed(f"Can't connect to server: {uris} ({_reason(error)})") from None
        except (ldap.LDAPError, DirectoryFailed):
            _drop(handle)
            raise
        self._handle = handle
        return handle

    def _open(self, uris: str) -> Any:
        settings = self._settings
        if settings.text["ldaprc_path"]:
            os.environ["LDAPRC"] = settings.text["ldaprc_path"]         # read when the library is first used
        import ldap
        handle = ldap.initialize(uris)
        handle.protocol_version = settings.version
        handle.timeout = ANSWER_TIMEOUT
        handle.set_option(ldap.OPT_NETWORK_TIMEOUT, CONNECT_TIMEOUT)
        handle.set_option(ldap.OPT_DEREF, settings.deref)
        if settings.debug:
            ldap.set_option(ldap.OPT_DEBUG_LEVEL, settings.debug)
        changed = False
        for name, option in (("tls_ca_cert_file", ldap.OPT_X_TLS_CACERTFILE),
                             ("tls_ca_cert_dir", ldap.OPT_X_TLS_CACERTDIR),
                             ("tls_cert_file", ldap.OPT_X_TLS_CERTFILE), ("tls_key_file", ldap.OPT_X_TLS_KEYFILE),
                             ("tls_cipher_suite", ldap.OPT_X_TLS_CIPHER_SUITE)):
            if settings.text[name]:
                handle.set_option(option, settings.text[name])
                changed = True
        if settings.text["tls_require_cert"]:
            handle.set_option(ldap.OPT_X_TLS_REQUIRE_CERT, REQUIRES[settings.text["tls_require_cert"].lower()])
            changed = True
        if changed:
            handle.set_option(ldap.OPT_X_TLS_NEWCTX, 0)                 # after all others, or they have no effect
        if settings.tls:
            handle.start_tls_s()
        return handle

    def _bind(self, handle: Any) -> None:
        """As the service.  A wrong password here says nothing of the user's."""
        import ldap
        settings = self._settings
        try:
            if settings.sasl:
                from ldap import sasl
                answers = {sasl.CB_AUTHNAME: settings.text["dn"], sasl.CB_PASS: settings.password.reveal(),
                           sasl.CB_GETREALM: settings.text["sasl_realm"], sasl.CB_USER: settings.text["sasl_authz_id"]}
                handle.sasl_interactive_bind_s("", sasl.sasl(answers, settings.text["sasl_mech"]))
            else:
                handle.simple_bind_s(settings.text["dn"], settings.password.reveal())
        except ldap.LDAPError as error:
            if isinstance(error, (ldap.SERVER_DOWN, ldap.TIMEOUT, ldap.CONNECT_ERROR, ldap.UNAVAILABLE)):
                raise
            raise DirectoryFailed(f"binding failed (dn {settings.text['dn'] or '(none)'}): {_reason(error)}") from None
        self._bound = True


def _drop(handle: Any) -> None:
    import ldap
    if handle is not None:
        with suppress(ldap.LDAPError):
            handle.unbind_ext()


def _reason(error: Exception) -> str:
    details = error.args[0] if error.args and isinstance(error.args[0], dict) else {}
    text = details.get("desc") or type(error).__name__
    return f"{text} ({details['info']})" if details.get("info") else str(text)
