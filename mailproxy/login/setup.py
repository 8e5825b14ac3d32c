"""What all sessions of a login process share.  Made in the master before the fork (`prepare`), so that certificates
are read as root and every worker shares the TLS ticket keys and the memory; completed in the worker.

In: the configuration and a service.  Out: a Setup.  A setting that cannot work is a Problem with its place.
"""
from __future__ import annotations

import itertools
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass, fields
from ipaddress import ip_address
from typing import Any

from mailproxy import variables
from mailproxy.config import mail
from mailproxy.errors import ConfigInvalid, Problem
from mailproxy.ipc.contract import News
from mailproxy.log.pipe import Log
from mailproxy.login import contexts as made
from mailproxy.login.backends import Backends
from mailproxy.login.contexts import Address, Keeper, Pair, TlsContexts
from mailproxy.login.handoff import MailService
from mailproxy.login.logline import Format
from mailproxy.login.ports import AuthPort
from mailproxy.net import tls
from mailproxy.net.addr import BadAddress, Networks, is_ip, words
from mailproxy.proto import dialects
from mailproxy.proto.spec import Dialect, Frontend, Offer

NOBODY = Networks([])


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


#: Before a worker has connected to it.
_NO_AUTH: AuthPort = None  # type: ignore[assignment]


class Setup:
    """One per process.  The last group is set by the worker itself."""

    __slots__ = ("_offers", "auth", "backends", "contexts", "dialect", "format", "keeper", "log", "machine", "mail", "policy",
                 "protocol", "source_names", "sources", "view", "views")

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
        self.mail: MailService | None = None    # who takes clients that are not proxied
        self.log: Log
        self.keeper: Keeper                     # of the main one; those for some addresses have none

    def begin(self, log: Log, auth: AuthPort) -> None:
        """In the worker: where to write, and whom to ask."""
        self.log, self.auth = log, auth
        for error in self.sources.errors:
            log.error(error)

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
        setup.views = views = _Views(conf, service, setup)
        views.prepare(problems)
    if problems:
        raise ConfigInvalid(list(dict.fromkeys(problems)))
    return setup


def _work_directory(conf: Any, service: Any) -> str:
    """tls.WORK as the master sees it; "" if the workers see what the master sees."""
    return os.path.join(conf.view().core.base_dir, service.chroot, tls.WORK.lstrip("/")) if service.chroot else ""


def _setup(conf: Any, view: Any, service: Any, contexts: TlsContexts, problems: list[Problem]) -> Setup:
    login = view.login
    trusted = _networks(conf, "login_trusted_networks", login.login_trusted_networks, problems)
    balancers = _networks(conf, "haproxy_trusted_networks", login.haproxy_trusted_networks, problems)
    required = view.ssl.ssl == "required"
    policy = Policy(
        protocol=service.protocol, ssl=view.ssl.ssl, plaintext_needs_tls=login.disable_plaintext_auth or required,
        require_cert=view.auth.auth_ssl_require_client_cert, wants_cert=view.ssl.ssl_verify_client_cert,
        cert_field=_cert_field(conf, view, problems), trusted=trusted,
        timeout=login.login_proxy_timeout,
        max_reconnects=login.login_proxy_max_reconnects, auth_verbose=view.auth.auth_verbose,
        id_log=tuple(view.imap.imap_id_log.split()), service=service.name, balancers=balancers,
        header_timeout=login.haproxy_timeout, verbose_tls=view.logging.verbose_ssl)
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


def _networks(conf: Any, setting: str, value: str, problems: list[Problem]) -> Networks:
    try:
        return Networks(words(value))
    except BadAddress as error:
        problems.append(Problem(conf.path, 0, f"{setting}: Invalid network '{error}'"))
        return NOBODY


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


#: Combinations of `local` and `remote` blocks that are made ready; those beyond are made when somebody connects, and
#: then without files of their own, which a chrooted worker cannot read.
VIEWS_MAX = 4096


class _Views:
    """Setups for connections that `local` or `remote` blocks single out, made in the master, where files are read."""

    __slots__ = ("_conf", "_made", "_main", "_service")

    def __init__(self, conf: Any, service: Any, main: Setup) -> None:
        self._conf, self._service, self._main = conf, service, main
        self._made: dict[int, Setup] = {}

    def prepare(self, problems: list[Problem]) -> None:
        """Make one for each combination of blocks: the ends of a network stand for all of it."""
        locals_: dict[Address | None, None] = {None: None}
        remotes: dict[Address | None, None] = {None: None}
        for scope in self._conf.scopes:
            for net, found in ((scope.filter.local, locals_), (scope.filter.remote, remotes)):
                if net is not None:
                    found.update({net[0]: None, net[-1]: None})
        for pair in itertools.islice(itertools.product(locals_, remotes), VIEWS_MAX):
            self._make(pair, problems)

    def __call__(self, lip: str, rip: str) -> Setup:
        problems: list[Problem] = []
        setup = self._make((ip_address(lip.partition("%")[0]), ip_address(rip.partition("%")[0])), problems)
        main = self._main
        for problem in problems:
            main.log.error(str(problem))
        if setup is not main and setup.auth is not main.auth:
            setup.begin(main.log, main.auth)
            setup.backends = main.backends
            if setup.source_names == main.source_names:
                setup.sources = main.sources        # one turn for all
        return setup

    def _make(self, pair: Pair, problems: list[Problem]) -> Setup:
        main, protocol = self._main, self._service.protocol
        view = self._conf.view(protocol, local=pair[0], remote=pair[1])
        if view is main.view:
            return main
        setup = self._made.get(id(view))
        if setup is None:
            same = view.ssl == main.view.ssl and not self._conf.local_names
            contexts = main.contexts if same else made.build(self._conf, protocol, pair, problems, main.keeper)
            setup = self._made[id(view)] = _setup(self._conf, view, self._service, contexts, problems)
        return setup
