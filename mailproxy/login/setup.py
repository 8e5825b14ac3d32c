"""What all sessions of a login process share.  Made in the master before the fork (`prepare`), so that certificates
are read as root and every worker shares the TLS ticket keys and the memory; completed in the worker.

In: the configuration and a service.  Out: a Setup.  A setting that cannot work is a Problem with its place.
"""
from __future__ import annotations

import itertools
import os
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass, fields
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

from mailproxy import variables
from mailproxy.errors import ConfigInvalid, Problem
from mailproxy.log.pipe import Log
from mailproxy.login.backends import Backends
from mailproxy.login.logline import Format
from mailproxy.login.ports import AuthPort
from mailproxy.net import tls
from mailproxy.net.addr import BadAddress, Networks, is_ip, words
from mailproxy.proto import dialects
from mailproxy.proto.spec import Dialect, Frontend, Offer

Address = IPv4Address | IPv6Address


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


@dataclass(slots=True)
class TlsContexts:
    """Built once.  None: TLS towards clients is off."""

    server: ssl.SSLContext | None
    by_name: dict[str, ssl.SSLContext]  # lower-case server name, also "*.domain"
    verified: ssl.SSLContext            # towards backends
    any_cert: ssl.SSLContext

    def for_name(self, name: str) -> ssl.SSLContext | None:
        """The context of a `local_name` block; a `*.` block matches one label more."""
        name = name.lower()
        found = self.by_name.get(name)
        if found is None:
            found = self.by_name.get("*." + name.partition(".")[2])
        return found


#: Before a worker has connected to it.
_NO_AUTH: AuthPort = None  # type: ignore[assignment]


class Setup:
    """One per process.  The last group is set by the worker itself."""

    __slots__ = ("_offers", "auth", "backends", "contexts", "dialect", "format", "log", "machine", "policy", "protocol",
                 "source_names", "sources", "view", "views")

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
        self.log: Log

    def begin(self, log: Log, auth: AuthPort) -> None:
        """In the worker: where to write, and whom to ask."""
        self.log, self.auth = log, auth
        for error in self.sources.errors:
            log.error(error)

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
            _protocol_settings(self.view, policy.protocol)))
        if "%" not in template.replace("%%", ""):
            self._offers = (mechanisms, shared)
        return self.dialect.frontend(shared)


def _protocol_settings(view: Any, protocol: str) -> dict[str, Any]:
    group = getattr(view, protocol)
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
    known: Known = {}
    contexts = _contexts(conf, protocol, (None, None), problems, known)
    setup = _setup(conf, view, service, contexts, problems)
    if conf.uses_address_filters:
        setup.views = views = _Views(conf, service, setup, known)
        views.prepare(problems)
    if problems:
        raise ConfigInvalid(list(dict.fromkeys(problems)))
    return setup


def _setup(conf: Any, view: Any, service: Any, contexts: TlsContexts, problems: list[Problem]) -> Setup:
    login = view.login
    try:
        trusted = Networks(words(login.login_trusted_networks))
    except BadAddress as error:
        problems.append(Problem(conf.path, 0, f"login_trusted_networks: Invalid network '{error}'"))
        trusted = Networks([])
    required = view.ssl.ssl == "required"
    policy = Policy(
        protocol=service.protocol, ssl=view.ssl.ssl, plaintext_needs_tls=login.disable_plaintext_auth or required,
        require_cert=view.auth.auth_ssl_require_client_cert, wants_cert=view.ssl.ssl_verify_client_cert,
        cert_field=tls.subject_field(view.ssl.ssl_cert_username_field), trusted=trusted,
        timeout=login.login_proxy_timeout,
        max_reconnects=login.login_proxy_max_reconnects, auth_verbose=view.auth.auth_verbose,
        id_log=tuple(view.imap.imap_id_log.split()), service=service.name)
    dialect = dialects.find(service.protocol)
    if variables_fail(login.login_greeting):
        problems.append(Problem(conf.path, 0, "Failed to expand settings: login_greeting: "
                                              + variables_fail(login.login_greeting)))
    return Setup(view, policy, dialect, contexts, Format(login.login_log_format, login.login_log_format_elements))


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


#: A client's two addresses; None: any.
Pair = tuple[Address | None, Address | None]
#: Contexts by certificate and key: thousands of names may share few.
Known = dict[tuple[str, str], ssl.SSLContext]
#: Combinations of `local` and `remote` blocks that are made ready; those beyond are made when somebody connects, and
#: then without files of their own, which a chrooted worker cannot read.
VIEWS_MAX = 4096


class _Views:
    """Setups for connections that `local` or `remote` blocks single out, made in the master, where files are read."""

    __slots__ = ("_conf", "_known", "_made", "_main", "_service")

    def __init__(self, conf: Any, service: Any, main: Setup, known: Known) -> None:
        self._conf, self._service, self._main, self._known = conf, service, main, known
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
            contexts = main.contexts if same else _contexts(self._conf, protocol, pair, problems, self._known)
            setup = self._made[id(view)] = _setup(self._conf, view, self._service, contexts, problems)
        return setup


# --- TLS -------------------------------------------------------------------------------------------------------------

def _contexts(conf: Any, protocol: str, pair: Pair, problems: list[Problem], known: Known) -> TlsContexts:
    settings = conf.view(protocol, local=pair[0], remote=pair[1]).ssl
    try:
        server = _server(settings) if settings.ssl != "no" and settings.ssl_cert else None
    except tls.BadTls as error:
        problems.append(Problem(conf.path, 0, str(error)))
        server = None
    by_name: dict[str, ssl.SSLContext] = {}
    if server is not None and conf.local_names:
        for name in conf.local_names:
            own = conf.view(protocol, local=pair[0], remote=pair[1], local_name=name).ssl
            key = (own.ssl_cert, own.ssl_key.reveal())
            try:
                by_name.setdefault(name.lower(), known.get(key) or known.setdefault(key, _server(own)))
            except tls.BadTls as error:
                problems.append(Problem(conf.path, 0, f"local_name {name}: {error}"))
    try:
        contexts = TlsContexts(server, by_name, _client(settings, verify=settings.ssl_client_require_valid_cert),
                               _client(settings, verify=False))
        if server is not None:
            tls.choose_by_name(server, contexts.for_name)
        return contexts
    except tls.BadTls as error:
        problems.append(Problem(conf.path, 0, str(error)))
        empty = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        return TlsContexts(server, by_name, empty, empty)


def _options(settings: Any) -> tls.Options:
    return tls.Options(settings.ssl_min_protocol, settings.ssl_cipher_list, settings.ssl_curve_list,
                       settings.ssl_options, settings.ssl_prefer_server_ciphers)


def _server(settings: Any) -> ssl.SSLContext:
    password = settings.ssl_key_password.reveal()
    pairs = [tls.Pair(settings.ssl_cert, settings.ssl_key.reveal(), password)]
    if settings.ssl_alt_cert:
        pairs.append(tls.Pair(settings.ssl_alt_cert, settings.ssl_alt_key.reveal(), password))
    return tls.server_context(_options(settings), pairs, client_ca=settings.ssl_ca,
                              verify_client=settings.ssl_verify_client_cert, require_crl=settings.ssl_require_crl)


def _client(settings: Any, *, verify: bool) -> ssl.SSLContext:
    pair = None
    if settings.ssl_client_cert:
        pair = tls.Pair(settings.ssl_client_cert, settings.ssl_client_key.reveal())
    return tls.client_context(_options(settings), verify=verify, ca=settings.ssl_ca,
                              ca_file=settings.ssl_client_ca_file, ca_dir=settings.ssl_client_ca_dir,
                              require_crl=settings.ssl_require_crl and "BEGIN X509 CRL" in settings.ssl_ca, pair=pair)
