"""The kinds of sections and the settings inside them."""

from __future__ import annotations

from dataclasses import dataclass

from mailproxy.config.schema.define import (
    APPEND,
    FREE,
    MERGE,
    SectionType,
    choice,
    hidden_text,
    mode,
    number,
    port,
    seconds,
    settings_of,
    size,
    table,
    text,
    words,
    yes_no,
)
from mailproxy.config.units import BOOL, ENUM, TEXT, TIME, TIME_MS, UINT

RULES = ("return-ok", "return", "return-fail", "continue", "continue-ok", "continue-fail")


@dataclass(frozen=True, slots=True)
class Passdb:
    """One passdb or userdb section.  The last five of a passdb's settings keep their defaults in a userdb.

    `path` and `line`: where the section stands; two sections with equal settings stay two."""

    driver: str = text()
    name: str = text()
    args: str = hidden_text()
    default_fields: str = hidden_text()
    override_fields: str = hidden_text()
    skip: str = choice("never", "never", "authenticated", "unauthenticated", "found", "notfound")
    result_success: str = choice("return-ok", *RULES)
    result_failure: str = choice("continue", *RULES)
    result_internalfail: str = choice("continue", *RULES)
    auth_verbose: str = choice("default", "default", "yes", "no")
    mechanisms: tuple[str, ...] = words()
    username_filter: tuple[str, ...] = words()
    deny: bool = yes_no("no")
    pass_: bool = yes_no("no")
    master: bool = yes_no("no")
    path: str = text()
    line: int = number("0")


@dataclass(frozen=True, slots=True)
class ServiceSettings:
    """What a service section says about itself, before defaults of the instance are filled in."""

    protocol: str = text()
    type: str = text()
    executable: str = text()
    user: str = text()
    group: str = text()
    privileged_group: str = text()
    extra_groups: str = text()
    chroot: str = text()
    drop_priv_before_exec: bool = yes_no("no")
    process_min_avail: int = number("0")
    process_limit: int = number("0")
    client_limit: int = number("0")
    service_count: int = number("0")
    idle_kill: float = seconds("0")
    vsz_limit: int = size("18446744073709551615 B")


@dataclass(frozen=True, slots=True)
class FileListenerSettings:
    mode: int = mode("0600")
    user: str = text()
    group: str = text()


@dataclass(frozen=True, slots=True)
class InetListenerSettings:
    address: str = text()
    port: int = port("0")
    ssl: bool = yes_no("no")
    reuse_port: bool = yes_no("no")
    haproxy: bool = yes_no("no")


def _section(name: str, naming: int, cls: type, title: str = "", *inner: SectionType) -> SectionType:
    settings = {row.name: row for row in settings_of(cls)}
    return SectionType(name, naming, settings, {row.name: row for row in inner}, title)


def _databases() -> tuple[SectionType, SectionType]:
    rows = {row.name: row for row in settings_of(Passdb) if row.name not in ("path", "line")}
    user = {key: row for key, row in rows.items()
            if key not in ("mechanisms", "username_filter", "deny", "pass", "master")}
    skip = rows["skip"]
    rows["skip"] = type(skip)("skip", ENUM, "never", ("never", "authenticated", "unauthenticated"))
    user["skip"] = type(skip)("skip", ENUM, "never", ("never", "found", "notfound"))
    return SectionType("passdb", APPEND, rows, {}, "name"), SectionType("userdb", APPEND, user, {}, "name")


MAILBOX = SectionType("mailbox", MERGE, table((
    ("auto", ENUM, "no", ("no", "create", "subscribe")),
    ("autoexpunge", TIME, "0"),
    ("autoexpunge_max_mails", UINT, "0"),
    ("comment", TEXT, ""),
    ("driver", TEXT, ""),
    ("special_use", TEXT, ""),
)), {}, "name")
NAMESPACE = SectionType("namespace", MERGE, table((
    ("alias_for", TEXT, ""),
    ("disabled", BOOL, "no"),
    ("hidden", BOOL, "no"),
    ("ignore_on_failure", BOOL, "no"),
    ("inbox", BOOL, "no"),
    ("list", ENUM, "yes", ("yes", "no", "children")),
    ("location", TEXT, ""),
    ("order", UINT, "0"),
    ("prefix", TEXT, ""),
    ("separator", TEXT, ""),
    ("subscriptions", BOOL, "yes"),
    ("type", ENUM, "private", ("private", "shared", "public")),
)), {"mailbox": MAILBOX}, "name")
METRIC = SectionType("metric", MERGE, table((
    ("description", TEXT, ""),
    ("exporter", TEXT, ""),
    ("exporter_include", TEXT, "name hostname timestamps categories fields"),
    ("fields", TEXT, ""),
    ("filter", TEXT, ""),
    ("group_by", TEXT, ""),
)), {}, "metric_name")
EXPORTER = SectionType("event_exporter", MERGE, table((
    ("format", TEXT, ""),
    ("format_args", TEXT, ""),
    ("transport", TEXT, ""),
    ("transport_args", TEXT, ""),
    ("transport_timeout", TIME_MS, "250 ms"),
)), {}, "name")
SERVICE = _section(
    "service", MERGE, ServiceSettings, "name",
    _section("unix_listener", MERGE, FileListenerSettings, "path"),
    _section("fifo_listener", MERGE, FileListenerSettings, "path"),
    _section("inet_listener", MERGE, InetListenerSettings, "name"))
PASSDB, USERDB = _databases()
SECTIONS: dict[str, SectionType] = {row.name: row for row in (
    SERVICE, PASSDB, USERDB, NAMESPACE, METRIC, EXPORTER,
    SectionType("plugin", FREE, {}), SectionType("dict", FREE, {}))}
