"""What is wrong with a configuration as a whole: conditions over more than one setting.

In: the loaded configuration.  Out: texts of errors and warnings.  No file is opened; users are looked up.
"""
from __future__ import annotations

import pwd
from collections.abc import Iterable, Iterator

from mailproxy.config import units
from mailproxy.config.eventfilters import syntax_error
from mailproxy.config.schema.core import CoreSettings
from mailproxy.config.services import FIFO, INET, Section, Service
from mailproxy.config.tree import Node, Scope

SERVICE_TYPES = ("", "log", "anvil", "config", "login", "startup", "worker")
#: Services that are one process by nature.
_SINGLE = ("anvil", "log", "auth", "director", "ipc", "indexer", "replicator", "old-stats")
_VSZ_MIN = 1 << 20
_AUTH_CACHE_MIN = 1024
_FACILITIES = ("auth", "authpriv", "cron", "daemon", "ftp", "kern", "lpr", "mail", "news", "syslog", "user", "uucp",
               *(f"local{number}" for number in range(8)))
_SSL_OPTIONS = ("compression", "no_compression", "no_ticket")
_EVENT_FILTERS = ("log_debug", "log_core_filter", "process_shutdown_filter")
#: Hashes that the policy server may ask for.
_POLICY_HASHES = ("md4", "md5", "sha1", "sha256", "sha384", "sha512", "size")


def _text(scope: Scope, key: str, default: str = "") -> str:
    written = scope.find(key)
    return default if written is None else written.text


def _is_set(scope: Scope, key: str) -> bool:
    """A written yes."""
    written = scope.find(key)
    return written is not None and written.value is True


def check_scope(scope: Scope) -> Iterator[str]:
    """One scope's settings against each other; of a filter only if it sets one of those concerned."""
    node = scope.node
    if node.settings.keys() & {"ssl_verify_client_cert", "ssl_ca"} and _is_set(scope, "ssl_verify_client_cert"):
        written = scope.find("ssl_ca")
        if written is None or not (written.text or written.source):
            yield "ssl_verify_client_cert set, but ssl_ca not"
    if "ssl_options" in node.settings:
        for word in node.settings["ssl_options"].text.replace(",", " ").split():
            if word not in _SSL_OPTIONS:
                yield f"ssl_options: unknown flag: '{word}'"
    for key in _EVENT_FILTERS:
        error = syntax_error(node.settings[key].text) if key in node.settings else ""
        if error:
            yield f"Invalid {key}: {error}"
    if "syslog_facility" in node.settings and node.settings["syslog_facility"].text not in _FACILITIES:
        yield f"Unknown syslog_facility: {node.settings['syslog_facility'].text}"
    yield from _check_auth(scope)
    for kind in ("passdb", "userdb"):
        for section in node.children.get(kind, {}).values():
            yield from _check_database(section)


def _check_auth(scope: Scope) -> Iterator[str]:
    settings = scope.node.settings
    if "auth_worker_max_count" in settings and settings["auth_worker_max_count"].value == 0:
        yield "auth_worker_max_count must be above zero"
    size = settings["auth_cache_size"].value if "auth_cache_size" in settings else 0
    if isinstance(size, int) and 0 < size < _AUTH_CACHE_MIN:
        yield f"auth_cache_size value is too small ({size} bytes)"
    if settings.keys() & {"auth_policy_server_url", "auth_policy_hash_nonce", "auth_policy_hash_mech"} \
            and _text(scope, "auth_policy_server_url"):
        if not _text(scope, "auth_policy_hash_nonce"):
            yield "auth_policy_hash_nonce must be set when policy server is used"
        if _text(scope, "auth_policy_hash_mech", "sha256") not in _POLICY_HASHES:
            yield "invalid auth_policy_hash_mech given"
    if "auth_verbose_passwords" in settings:
        scheme, colon, cut = settings["auth_verbose_passwords"].text.partition(":")
        if colon and not (cut.isascii() and cut.isdigit() and int(cut[:9])):
            yield f"auth_verbose_passwords: Invalid truncation number: '{cut}'"
        elif scheme not in ("no", "plain", "sha1", "yes"):
            yield "auth_verbose_passwords: Invalid value"


def _check_database(section: Node) -> Iterator[str]:
    settings = section.settings
    if "driver" not in settings or not settings["driver"].text:
        yield f"{section.type.name} is missing driver"
    if "pass" in settings and settings["pass"].value and "result_success" in settings \
            and settings["result_success"].text != "return-ok":
        yield "Obsolete pass=yes setting mixed with non-default result_success"


def check_core(core: CoreSettings) -> Iterator[str]:
    if not core.listen:
        yield "listen can't be set empty"
    for key in ("default_login_user", "default_internal_user"):
        name: str = getattr(core, key)
        try:
            pwd.getpwnam(name)
        except (KeyError, ValueError):
            yield f"{key} doesn't exist: {name}"


def check_protocols(core: CoreSettings, known: set[str]) -> Iterator[str]:
    """`known`: the protocols that some service is for."""
    for word in core.protocols:
        if word not in known and word != "none":
            yield f"protocols: Unknown protocol: {word}"


def check_names(names: list[str]) -> Iterator[str]:
    """The names of all services."""
    seen: set[str] = set()
    for position, name in enumerate(names):
        if not name:
            yield f"Service #{position} is missing name"
        elif name in seen:
            yield f"Duplicate service name: {name}"
        seen.add(name)


def check_service(service: Service, section: Section, listeners: list[tuple[str, Section]]) -> Iterator[str]:
    """An enabled service."""
    label = f"service({service.name})"
    if service.type not in SERVICE_TYPES:
        yield f"Unknown service type: {service.type}"
    for kind, listener in listeners:
        if kind != INET and not listener.name:
            yield f"{label}: {'fifo_listener' if kind == FIFO else 'unix_listener'}: path must not be empty"
    if service.process_min_avail > service.process_limit:
        yield f"{label}: process_min_avail is higher than process_limit"
    vsz: int = section.value("vsz_limit")
    if vsz not in (0, units.UNSET_SIZE) and vsz < _VSZ_MIN:
        yield f"{label}: vsz_limit is too low"
    if service.drop_priv_before_exec and service.chroot:
        yield f"{label}: drop_priv_before_exec=yes can't be used with chroot"
    if service.name in _SINGLE and section.value("process_limit") > 1:
        yield f"{label}: process_limit must be 1"


def check_listeners(services: list[Service], base_dir: str) -> Iterator[str]:
    seen: set[str] = set()
    for service in services:
        names = [f"{row.port}:{row.written}" for row in service.inet_listeners]
        names += [row.path if row.path.startswith("/") else f"{base_dir}/{row.path}"
                  for row in (*service.unix_listeners, *service.fifo_listeners) if row.path]
        for name in names:
            if name in seen:
                yield f"duplicate listener: {name}"
            seen.add(name)


def warn_limits(services: list[Service]) -> Iterator[str]:
    """auth and anvil must be able to serve every process that may ask them at once."""
    by_name = {service.name: service for service in services}
    asking = [service for service in services if service.protocol and service.name != "imap-hibernate"
              and (service.service_count != 1 or service.type == "login")]
    counted = [service for service in services if service.type == "login" or service.name == "auth"]
    rows = (("auth", asking, 0, "Counted for protocol services with service_count != 1"),
            ("anvil", counted, 2, "Counted with"))
    for name, users, spare, reason in rows:
        limit = by_name[name].client_limit if name in by_name else None
        load = sum(service.process_limit for service in users) + spare
        if limit is not None and limit < load:
            parts = " + ".join(f"service {service.name} {{ process_limit={service.process_limit} }}"
                               for service in users)
            yield (f"service {name} {{ client_limit={limit} }} is lower than required under max. load ({load})."
                   f" {reason}: {parts}")


def warn_descriptors(services: Iterable[Service], core: CoreSettings, limit: int) -> Iterator[str]:
    """`limit`: the open files that the system grants a process."""
    reason, most = "default_client_limit", core.default_client_limit
    for service in services:
        if service.client_limit > most:
            reason, most = f"service {service.name} {{ client_limit }}", service.client_limit
    if limit < most:
        yield f"fd limit (ulimit -n) is lower than required under max. load ({limit} < {most}), because of {reason}"


def warn_listeners(services: list[Service], base_dir: str) -> Iterator[str]:
    prefix = base_dir.rstrip("/") + "/"
    for service in services:
        for row in service.unix_listeners:
            if row.path.startswith(prefix):
                yield f"You should remove base_dir prefix from unix_listener: {row.path}"


def warn_tls(top: Scope, scopes: list[Scope]) -> Iterator[str]:
    """TLS switched off globally cannot be switched on for some."""
    if _text(top, "ssl", "yes") != "no":
        return
    for value in dict.fromkeys(scope.node.settings["ssl"].text for scope in scopes if "ssl" in scope.node.settings):
        if value != "no":
            yield f"SSL is disabled because global ssl=no, ignoring ssl={value} for subsection"
