"""What a login socket's OK needs before a login process can proxy: addresses, and the proxy_maybe decision.

In: a request whose password was right and that has `proxy` or `proxy_maybe`.  Out: changed fields, at once or after a
name was resolved.
"""
from __future__ import annotations

from collections.abc import Callable

from mailproxy.auth import outcome
from mailproxy.auth.fields import parse_address
from mailproxy.auth.journal import Journal
from mailproxy.auth.request import Request
from mailproxy.auth.resolver import Resolver

DNS_TIMEOUT = 10.0
#: Seconds of a lookup that are worth a warning.
DNS_SLOW = 0.5
#: Host texts known to be addresses: the test costs a microsecond and the same few hosts come all the time.
_MAX_KNOWN = 1024
_LOCAL_FIELDS = ("proxy", "proxy_maybe", "proxy_always", "host", "port", "destuser")


class Proxying:
    __slots__ = ("_journal", "_known", "_resolver", "_self")

    def __init__(self, journal: Journal, resolver: Resolver, self_addresses: str) -> None:
        self._journal = journal
        self._resolver = resolver
        self._known: dict[str, str] = {}
        self._self = frozenset(str(address) for word in self_addresses.replace(",", " ").split()
                               if (address := parse_address(word)) is not None)

    def prepare(self, request: Request, done: Callable[[Request], None]) -> None:
        """`done` is called with request.result OK or INTERNAL."""
        fields = request.fields
        host = fields.get("host")
        if not host:
            if lip := request["lip"]:
                fields["lip"] = lip
            if lport := request.args.get("lport"):
                fields["lport"] = lport
            done(request)
            return
        hostip = fields.get("hostip")
        if self._address(host) and not (hostip and self._address(hostip)):
            self._decide(request, (host,))      # a hostip that is no address is the login process' to refuse
        elif hostip:
            if not self._address(hostip):
                self._journal.error(self._name(request), request, f"Invalid hostip in passdb: {hostip}")
                request.result = outcome.INTERNAL
            else:
                self._decide(request, (hostip,))
        else:
            self._resolve(request, host, done)
            return
        done(request)

    def _name(self, request: Request) -> str:
        return request.mech.lower()

    def _address(self, text: str) -> str:
        """The address in its usual form, "" for what is none."""
        known = self._known.get(text)
        if known is None:
            address = parse_address(text)
            known = "" if address is None else str(address)
            if len(self._known) >= _MAX_KNOWN:
                self._known.clear()
            self._known[text] = known
        return known

    def _resolve(self, request: Request, host: str, done: Callable[[Request], None]) -> None:
        timeout = DNS_TIMEOUT
        given = request.fields.get("proxy_timeout", "")
        if given.isascii() and given.isdigit() and int(given[:9]) > 0:
            timeout = float(given[:9])

        def resolved(addresses: tuple[str, ...], error: str, seconds: float) -> None:
            if not addresses:
                self._journal.error(self._name(request), request, f"DNS lookup for {host} failed: {error}")
                request.result = outcome.INTERNAL
            else:
                if seconds > DNS_SLOW:
                    self._journal.warning(self._name(request), request,
                                          f"DNS lookup for {host} took {seconds:.3f} s")
                request.fields["hostip"] = addresses[0]
                self._decide(request, addresses)
            done(request)
        self._resolver.look_up(host, timeout, resolved)

    def _decide(self, request: Request, addresses: tuple[str, ...]) -> None:
        fields = request.fields
        if "proxy_maybe" not in fields:
            return
        if self._is_self(request, addresses):
            always = "proxy_always" in fields
            for key in _LOCAL_FIELDS:
                fields.pop(key, None)
            if always:
                fields["proxy"] = ""
        else:
            del fields["proxy_maybe"]
            fields.setdefault("proxy", "")

    def _is_self(self, request: Request, addresses: tuple[str, ...]) -> bool:
        port = request.fields.get("port")
        if port and port != request["lport"]:
            return False
        here = self._address(request["real_lip"])
        return any(address == here or address in self._self
                   for address in (self._address(each) for each in addresses) if address)

