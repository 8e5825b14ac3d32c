"""What all clients of an lmtp process share: made in the master before the fork (`prepare`).

In: the configuration and a service.  Out: a Setup.  A setting that cannot work is a Problem.
"""
from __future__ import annotations

import socket
from typing import Any

from mailproxy import variables
from mailproxy.errors import ConfigInvalid, Problem
from mailproxy.ipc.contract import News
from mailproxy.log.pipe import Log
from mailproxy.login import contexts as made
from mailproxy.login.contexts import Keeper, TlsContexts
from mailproxy.login.views import Views, networks
from mailproxy.net.addr import Networks
from mailproxy.net.rawlog import Rawlog
from mailproxy.proto.lmtp.frontend import Offer

_DEFAULT_GREETING = "Dovecot ready."
_GREETING_NAMES = {"s": "service", "service": "service", "p": "pid", "pid": "pid", "r": "rip", "rip": "rip",
                   "l": "lip", "lip": "lip"}


class Setup:
    """One per view of the settings (`local` and `remote` blocks make views)."""

    __slots__ = (
        "add_received",
        "backend_rawlog",
        "balancers",
        "client_rawlog",
        "contexts",
        "debug",
        "delimiters",
        "header_timeout",
        "hostname",
        "keeper",
        "offer",
        "proxies",
        "temp_dir",
        "trusted",
        "verbose",
        "view",
        "views",
    )

    keeper: Keeper                      # of the main one

    def __init__(self, view: Any, contexts: TlsContexts, trusted: Networks, balancers: Networks) -> None:
        self.view = view
        lmtp = view.lmtp
        self.hostname = (view.core.hostname or socket.gethostname()).encode()
        self.proxies: bool = lmtp.lmtp_proxy
        self.add_received: bool = lmtp.lmtp_add_received_header
        self.verbose: bool = lmtp.lmtp_verbose_replies
        self.delimiters: str = lmtp.recipient_delimiter
        self.temp_dir: str = lmtp.mail_temp_dir
        self.trusted = trusted
        self.balancers = balancers
        self.header_timeout: float = view.login.haproxy_timeout
        self.client_rawlog: Rawlog | None = None
        self.backend_rawlog: Rawlog | None = None
        self.contexts = contexts
        self.debug: bool = view.auth.auth_debug
        workarounds = lmtp.lmtp_client_workarounds.replace(",", " ").split()
        self.offer = Offer(self.hostname, greeting(view.login.login_greeting).encode(), contexts.server is not None,
                           "whitespace-before-path" in workarounds, "mailbox-for-path" in workarounds)
        self.views: Views[Setup] | None = None

    def begin(self, log: Log) -> None:
        """In the worker."""
        lmtp = self.view.lmtp
        if lmtp.lmtp_rawlog_dir:
            self.client_rawlog = Rawlog(lmtp.lmtp_rawlog_dir, log.error)
        if lmtp.lmtp_proxy_rawlog_dir:
            self.backend_rawlog = Rawlog(lmtp.lmtp_proxy_rawlog_dir, log.error)

    def renew(self) -> News:
        """In the master, now and then: certificates that have changed."""
        return self.keeper.look()


def greeting(template: str) -> str:
    """Empty means the default here; the client's address is not known when this is made, and stays empty."""
    values = dict.fromkeys(_GREETING_NAMES.values(), "") | {"service": "lmtp"}
    return variables.compile(template or _DEFAULT_GREETING, _GREETING_NAMES).expand(values)


def _setup(conf: Any, view: Any, contexts: TlsContexts, problems: list[Problem]) -> Setup:
    login = view.login
    trusted = networks(conf, "login_trusted_networks", login.login_trusted_networks, problems)
    balancers = networks(conf, "haproxy_trusted_networks", login.haproxy_trusted_networks, problems)
    try:
        greeting(view.login.login_greeting)
    except variables.ExpandError as error:
        raise ConfigInvalid([*problems, Problem(conf.path, 0, "Failed to expand settings: login_greeting: "
                                                              f"{error}")]) from None
    return Setup(view, contexts, trusted, balancers)


def prepare(conf: Any, service: Any) -> Setup:
    """ConfigInvalid carries every problem that was found."""
    problems: list[Problem] = []
    keeper = Keeper()                   # the workers see the files that the master sees
    contexts = made.build(conf, service.protocol, (None, None), problems, keeper)
    setup = _setup(conf, conf.view(service.protocol), contexts, problems)
    setup.keeper = keeper
    if conf.uses_address_filters:
        setup.views = Views(conf, service.protocol, setup, contexts, keeper,
                            lambda view, made, problems: _setup(conf, view, made, problems))
        setup.views.prepare(problems)
    if problems:
        raise ConfigInvalid(list(dict.fromkeys(problems)))
    return setup
