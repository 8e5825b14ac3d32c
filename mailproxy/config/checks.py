"""What is wrong with a configuration as a whole: conditions over more than one setting.

In: the loaded configuration.  Out: texts of errors and warnings.  No file is opened; users are looked up.
"""
from __future__ import annotations

import pwd
import re
from collections.abc import Iterator

from mailproxy.config import units
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
_WORKAROUNDS = {
    "imap_client_workarounds": ("delay-newmail", "netscape-eoh", "tb-extra-mailbox-sep", "tb-lsub-flags"),
    "pop3_client_workarounds": ("outlook-no-nuls", "oe-ns-eoh"),
    "lmtp_client_workarounds": ("whitespace-before-path", "mailbox-for-path"),
    "submission_client_workarounds": ("whitespace-before-path", "mailbox-for-path", "implicit-auth-external",
                                      "exotic-backend"),
}
_EVENT_FILTERS = ("log_debug", "log_core_filter", "process_shutdown_filter")
_FILTER_ENDS_IN_WORD = re.compile(r"(?:\A|[\s(])(?!(?:and|or|not)\b)[^\s()=<>\"]+\s*\Z", re.IGNORECASE)
_FILTER_ERROR = "event filter: syntax error, unexpected $end"


def _text(scope: Scope, key: str, default: str = "") -> str:
    written = scope.find(key)
    return default if written is None else written.text


def _is_set(scope: Scope, key: str) -> bool:
    """A written yes."""
    written = scope.find(key)
    return written is not None and written.value is True


def event_filter_error(text: str) -> str:
    """Why `text` is no event filter; only what an administrator is likely to get wrong is looked for."""
    if _FILTER_ENDS_IN_WORD.search(text):
        return f"{_FILTER_ERROR}, expecting '=' or '>' or '<'"
    if text.count("(") != text.count(")") or re.search(r"(?:\A|[\s)])(and|or|not)\s*\Z", text, re.IGNORECASE):
        return _FILTER_ERROR
    return ""


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
    for key, words in _WORKAROUNDS.items():
        for word in _text(scope, key).split() if key in node.settings else ():
            if word not in words:
                yield f"{key}: Unknown workaround: {word}"
    for key in _EVENT_FILTERS:
        error = event_filter_error(node.settings[key].text) if key in node.settings else ""
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
    if "auth_policy_server_url" in settings and settings["auth_policy_server_url"].text \
            and not _text(scope, "auth_policy_hash_nonce"):
        yield "auth_policy_hash_nonce must be set when policy server is used"
    if "auth_verbose_passwords" in settings:
        scheme, _, cut = settings["auth_verbose_passwords"].text.partition(":")
        if scheme not in ("no", "plain", "sha1", "yes"):
            yield "auth_verbose_passwords: Invalid value"
        elif cut and not (cut.isascii() and cut.isdigit()):
            yield f"auth_verbose_passwords: Invalid truncation number: '{cut}'"


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


def check_stats(top: Node) -> Iterator[str]:
    """Metrics and event exporters."""
    exporters = top.children.get("event_exporter", {})
    for name, node in exporters.items():
        settings = {key: written.text for key, written in node.settings.items()}
        if not name:
            yield "Exporter name can't be empty"
        if not settings.get("format"):
            yield "Exporter format name can't be empty"
        elif settings["format"] not in ("none", "json", "tab-text"):
            yield f"Unknown exporter format '{settings['format']}'"
        elif settings["format"] != "none" and "time-" not in settings.get("format_args", ""):
            yield f"{settings['format']} exporter format requires a time-* argument"
        if not settings.get("transport"):
            yield "Exporter transport name can't be empty"
        elif settings["transport"] not in ("drop", "log", "http-post"):
            yield f"Unknown transport type '{settings['transport']}'"
    for name, node in top.children.get("metric", {}).items():
        settings = {key: written.text for key, written in node.settings.items()}
        label = settings.get("metric_name", name)
        if not label:
            yield "Metric name can't be empty"
        if not settings.get("filter"):
            yield f"metric {label} {{ filter }} is empty - will not match anything"
        elif event_filter_error(settings["filter"]):
            yield event_filter_error(settings["filter"])
        exporter = settings.get("exporter", "")
        if exporter and exporters and exporter not in exporters:
            yield f"metric {label} refers to non-existent exporter '{exporter}'"


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
