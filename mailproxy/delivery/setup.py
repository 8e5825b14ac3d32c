"""What all clients of an lmtp process share: made in the master before the fork (`prepare`).

In: the configuration and a service.  Out: a Setup.  A setting that cannot work is a Problem.
"""
from __future__ import annotations

import socket
from ipaddress import ip_address
from typing import Any

from mailproxy import variables
from mailproxy.errors import ConfigInvalid, Problem
from mailproxy.login import contexts as made
from mailproxy.login.contexts import TlsContexts
from mailproxy.net.addr import BadAddress, Networks, words
from mailproxy.proto.lmtp.frontend import Offer

_DEFAULT_GREETING = "Dovecot ready."
_GREETING_NAMES = {"s": "service", "service": "service", "p": "pid", "pid": "pid", "r": "rip", "rip": "rip",
                   "l": "lip", "lip": "lip"}


class Setup:
    """One per view of the settings (`local` and `remote` blocks make views)."""

    __slots__ = ("add_received", "contexts", "debug", "delimiters", "hostname", "offer", "proxies", "temp_dir",
                 "trusted", "verbose", "views")

    def __init__(self, view: Any, contexts: TlsContexts, trusted: Networks) -> None:
        lmtp = view.lmtp
        self.hostname = (view.core.hostname or socket.gethostname()).encode()
        self.proxies: bool = lmtp.lmtp_proxy
        self.add_received: bool = lmtp.lmtp_add_received_header
        self.verbose: bool = lmtp.lmtp_verbose_replies
        self.delimiters: str = lmtp.recipient_delimiter
        self.temp_dir: str = lmtp.mail_temp_dir
        self.trusted = trusted
        self.contexts = contexts
        self.debug: bool = view.auth.auth_debug
        workarounds = lmtp.lmtp_client_workarounds.replace(",", " ").split()
        self.offer = Offer(self.hostname, greeting(view.login.login_greeting).encode(), contexts.server is not None,
                           "whitespace-before-path" in workarounds, "mailbox-for-path" in workarounds)
        self.views: Views | None = None


def greeting(template: str) -> str:
    """Empty means the default here; the client's address is not known when this is made, and stays empty."""
    values = dict.fromkeys(_GREETING_NAMES.values(), "") | {"service": "lmtp"}
    return variables.compile(template or _DEFAULT_GREETING, _GREETING_NAMES).expand(values)


class Views:
    """Setups for connections that `local` or `remote` blocks single out."""

    __slots__ = ("_conf", "_made", "_main", "_protocol")

    def __init__(self, conf: Any, protocol: str, main: Setup) -> None:
        self._conf = conf
        self._protocol = protocol
        self._main = main
        self._made: dict[int, Setup] = {id(conf.view(protocol)): main}

    def __call__(self, lip: str, rip: str) -> Setup:
        pair = (ip_address(lip.partition("%")[0]), ip_address(rip.partition("%")[0]))
        view = self._conf.view(self._protocol, local=pair[0], remote=pair[1])
        setup = self._made.get(id(view))
        if setup is None:
            problems: list[Problem] = []
            setup = _setup(self._conf, view, self._main.contexts, problems)
            self._made[id(view)] = setup
        return setup


def _setup(conf: Any, view: Any, contexts: TlsContexts, problems: list[Problem]) -> Setup:
    try:
        trusted = Networks(words(view.login.login_trusted_networks))
    except BadAddress as error:
        problems.append(Problem(conf.path, 0, f"login_trusted_networks: Invalid network '{error}'"))
        trusted = Networks([])
    try:
        greeting(view.login.login_greeting)
    except variables.ExpandError as error:
        raise ConfigInvalid([*problems, Problem(conf.path, 0, "Failed to expand settings: login_greeting: "
                                                              f"{error}")]) from None
    return Setup(view, contexts, trusted)


def prepare(conf: Any, service: Any) -> Setup:
    """ConfigInvalid carries every problem that was found."""
    problems: list[Problem] = []
    contexts = made.build(conf, service.protocol, (None, None), problems, made.Keeper())
    setup = _setup(conf, conf.view(service.protocol), contexts, problems)
    if problems:
        raise ConfigInvalid(problems)
    if conf.uses_address_filters:
        setup.views = Views(conf, service.protocol, setup)
    return setup
