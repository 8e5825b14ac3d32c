"""What all sessions of a login process share.  Made in the master before the fork (`prepare`), so that certificates
are read as root and every worker shares the TLS ticket keys and the memory; completed in the worker.

In: the configuration and a service.  Out: a Setup.  A setting that cannot work is a Problem with its place.
"""
from __future__ import annotations

import os
import socket
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

from mailproxy import variables
from mailproxy.config import mail
from mailproxy.errors import ConfigInvalid, Problem
from mailproxy.ipc.contract import News
from mailproxy.log.pipe import Log
from mailproxy.login import contexts as made
from mailproxy.login.backends import Backends
from mailproxy.login.contexts import Keeper, TlsContexts
from mailproxy.login.handoff import MailService
from mailproxy.login.logline import Format
from mailproxy.login.ports import AuthPort
from mailproxy.login.views import NOBODY, Views, networks
from mailproxy.net import tls
from mailproxy.net.addr import Networks, is_ip, words
from mailproxy.net.rawlog import Rawlog
from mailproxy.proto import dialects
from mailproxy.proto.spec import Dialect, Frontend, Offer


@dataclass(frozen=True, slots=True)
class Policy:
    """The login settings of one view, ready for use."""

    protocol: str
    ssl: str                            # "no", "yes", "required"
    plaintext_needs_tls: bool           # disable_plaintext_auth, or ssl = required
    require_cert: bool
    wants_cert: bool                    # clients are asked for a certificate
    cert_field: str                     # the part of its subject that names the user
    trusted: Networks
    timeout: float                      # login_proxy_timeout
    max_reconnects: int
    auth_verbose: bool
    id_log: tuple[str, ...]             # keys of imap_id_log; ("*",) all
    service: str
    balancers: Networks = NOBODY        # haproxy_trusted_networks
    header_timeout: float = 3.0         # haproxy_timeout
    verbose_tls: bool = False           # verbose_ssl
    disconnect_delay: float = 0.0       # login_proxy_max_disconnect_delay


#: Before a worker has connected to it.
_NO_AUTH: AuthPort = None  # type: ignore[assignment]


class Setup:
    """One per process.  The last group is set by the worker itself."""

    __slots__ = ("_offers", "auth", "backends", "contexts", "dialect", "format", "keeper", "log", "machine", "mail",
                 "policy", "protocol", "rawlog", "refusal", "source_names", "sources", "view", "views")

    def __init__(self, view: Any, policy: Policy, dialect: Dialect, contexts: TlsContexts, form: Format) -> None:
        self.view = view
        self.policy = policy
        self.protocol = policy.protocol
        self.dialect = dialect
        self.contexts = contexts
        self.format = form
        self.machine = view.core.hostname if getattr(view.core, "hostname", "") else socket.gethostname()
        self.source_names = view.login.login_source_ips
        self.views: Callable[[str, str], Setup] | None = None
        self.auth: AuthPort = _NO_AUTH
        self.backends = Backends()
        self._offers: tuple[object, object] | None = None      # (mechanisms, what their frontends share)
        self.sources = Sources(self.source_names)
        self.refusal = _refusal(dialect, view, self.machine)    # for who finds no room: the master's to say
        self.mail: MailService | None = None    # who takes clients that are not proxied
        self.rawlog: Rawlog | None = None       # copies of what backends and we say
        self.log: Log
        self.keeper: Keeper                     # of the main one; those for some addresses have none

    def begin(self, log: Log, auth: AuthPort) -> None:
        """In the worker: where to write, and whom to ask."""
        self.log, self.auth = log, auth
        for error in self.sources.errors:
            log.error(error)
        directory = self.view.login.login_proxy_rawlog_dir
        if directory:
            self.rawlog = Rawlog(directory, log.error)

    def renew(self) -> News:
        """In the master, now and then: certificates that have changed."""
        return self.keeper.look()

    def frontend(self, remote: str, local: str) -> Frontend:
        """A new frontend; what its kind shares is made once for each set of mechanisms of the auth server."""
        mechanisms = self.auth.mechanisms
        if self._offers is not None and (self._offers[0] == mechanisms or not mechanisms):
            return self.dialect.frontend(self._offers[1])       # before auth is known nothing is offered anyway
        template = self.view.login.login_greeting
        policy = self.policy
        shared = self.dialect.share(Offer(
            greeting(template, {"service": policy.protocol, "rip": remote, "lip": local, "pid": str(os.getpid()),
                                "local_name": ""}),
            tuple((name, "plaintext" in flags) for name, flags in mechanisms if "private" not in flags),
            self.contexts.server is not None, policy.plaintext_needs_tls, policy.ssl == "required",
            _protocol_settings(self.view, policy.protocol), self.machine))
        if "%" not in template.replace("%%", ""):
            self._offers = (mechanisms, shared)
        return self.dialect.frontend(shared)


def _protocol_settings(view: Any, protocol: str) -> dict[str, Any]:
    group = getattr(view, protocol, None)       # POP3 has none
    if group is None:
        return {}
    return {field.name: getattr(group, field.name) for field in fields(group)}


class Sources:
    """Source addresses for outgoing connections, taken in turn from a start that is random in each process.

    Made in the master: a chrooted worker has no resolver.  `errors`: names that did not resolve, for the log."""

    __slots__ = ("_ips", "_next", "errors")

    def __init__(self, setting: str) -> None:
        """`setting`: login_source_ips; a leading ? keeps only what can be bound now."""
        probe = setting.startswith("?")
        ips: list[str] = []
        errors: list[str] = []
        for name in words(setting.lstrip("?")):
            if is_ip(name):
                ips.append(name)
                continue
            try:
                ips += sorted({str(info[4][0]) for info in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)})
            except OSError as error:
                errors.append(f"login_source_ips: net_gethostbyname({name}) failed: {error.strerror}")
        self._ips = [ip for ip in ips if _bindable(ip)] if probe else ips
        self._next = -1
        self.errors = tuple(errors)

    def take(self) -> str | None:
        if not self._ips:
            return None
        if self._next < 0:
            self._next = int.from_bytes(os.urandom(2), "little")
        self._next = (self._next + 1) % len(self._ips)
        return self._ips[self._next]


def _bindable(ip: str) -> bool:
    try:
        with socket.socket(socket.AF_INET6 if ":" in ip else socket.AF_INET, socket.SOCK_STREAM) as sock:
            sock.bind((ip, 0))
    except OSError:
        return False
    return True


def prepare(conf: Any, service: Any) -> Setup:
    """For one login service.  ConfigInvalid carries every problem that was found."""
    problems: list[Problem] = []
    protocol = service.protocol
    view = conf.view(protocol)
    keeper = Keeper(_work_directory(conf, service))
    contexts = made.build(conf, protocol, (None, None), problems, keeper)
    setup = _setup(conf, view, service, contexts, problems)
    setup.keeper = keeper
    if conf.uses_address_filters:
        views = Views(conf, protocol, setup, contexts, keeper,
                      lambda view, made, problems: _setup(conf, view, service, made, problems))
        views.prepare(problems)
        setup.views = _Views(setup, views)
    if problems:
        raise ConfigInvalid(list(dict.fromkeys(problems)))
    return setup


def _refusal(dialect: Dialect, view: Any, machine: str) -> bytes:
    """What a client is told who is not even let in."""
    frontend = dialect.frontend(dialect.share(Offer("", (), False, False, False,
                                                    _protocol_settings(view, dialect.name), machine)))
    frontend.bye("Connection queue full")
    return frontend.take_output()


def _work_directory(conf: Any, service: Any) -> str:
    """tls.WORK as the master sees it; "" if the workers see what the master sees."""
    return os.path.join(conf.view().core.base_dir, service.chroot, tls.WORK.lstrip("/")) if service.chroot else ""


def _setup(conf: Any, view: Any, service: Any, contexts: TlsContexts, problems: list[Problem]) -> Setup:
    login = view.login
    trusted = networks(conf, "login_trusted_networks", login.login_trusted_networks, problems)
    balancers = networks(conf, "haproxy_trusted_networks", login.haproxy_trusted_networks, problems)
    required = view.ssl.ssl == "required"
    policy = Policy(
        protocol=service.protocol, ssl=view.ssl.ssl, plaintext_needs_tls=login.disable_plaintext_auth or required,
        require_cert=view.auth.auth_ssl_require_client_cert, wants_cert=view.ssl.ssl_verify_client_cert,
        cert_field=_cert_field(conf, view, problems), trusted=trusted,
        timeout=login.login_proxy_timeout,
        max_reconnects=login.login_proxy_max_reconnects, auth_verbose=view.auth.auth_verbose,
        id_log=tuple(view.imap.imap_id_log.split()), service=service.name, balancers=balancers,
        header_timeout=login.haproxy_timeout, verbose_tls=view.logging.verbose_ssl,
        disconnect_delay=login.login_proxy_max_disconnect_delay)
    dialect = dialects.find(service.protocol)
    if variables_fail(login.login_greeting):
        problems.append(Problem(conf.path, 0, "Failed to expand settings: login_greeting: "
                                              + variables_fail(login.login_greeting)))
    setup = Setup(view, policy, dialect, contexts, Format(login.login_log_format, login.login_log_format_elements))
    if not isinstance(mail.service_for(conf, service.protocol), str):
        setup.mail = MailService(service.protocol, login.mail_max_userip_connections)
    return setup


def _cert_field(conf: Any, view: Any, problems: list[Problem]) -> str:
    try:
        return tls.subject_field(view.ssl.ssl_cert_username_field)
    except tls.BadTls as error:
        problems.append(Problem(conf.path, 0, str(error)))
        return ""


_GREETING_NAMES = {"s": "service", "service": "service", "r": "rip", "rip": "rip", "l": "lip", "lip": "lip", "p": "pid",
                   "pid": "pid", "local_name": "local_name"}


def greeting(template: str, values: dict[str, str]) -> str:
    return variables.compile(template, _GREETING_NAMES).expand(values)


def variables_fail(template: str) -> str:
    """Why a greeting cannot be expanded; "" if it can."""
    try:
        greeting(template, dict.fromkeys(("service", "rip", "lip", "pid", "local_name"), ""))
    except variables.ExpandError as error:
        return str(error)
    return ""


class _Views:
    """The Setup for two addresses, ready for a worker."""

    __slots__ = ("_main", "_views")

    def __init__(self, main: Setup, views: Views[Setup]) -> None:
        self._main = main
        self._views = views

    def __call__(self, lip: str, rip: str) -> Setup:
        problems: list[Problem] = []
        setup = self._views.find(lip, rip, problems)
        main = self._main
        for problem in problems:
            main.log.error(str(problem))
        if setup is not main and setup.auth is not main.auth:
            setup.begin(main.log, main.auth)
            setup.backends = main.backends
            if setup.source_names == main.source_names:
                setup.sources = main.sources        # one turn for all
        return setup
