"""The services of a configuration: built-in ones merged with what is written, numbers resolved.

In: the top scope's `service` sections and the core settings.  Out: one frozen `Service` a service.  A listener that is
switched off (port 0, mode 0, TLS while `ssl = no`) is not part of it.
"""
from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mailproxy.config import units
from mailproxy.config.schema.builtin import SERVICES
from mailproxy.config.schema.core import CoreSettings
from mailproxy.config.schema.define import Setting
from mailproxy.config.schema.sections import SERVICE
from mailproxy.config.tree import Node
from mailproxy.config.view import value_of

UNIX, FIFO, INET = "unix_listener", "fifo_listener", "inet_listener"


@dataclass(frozen=True, slots=True)
class UnixListener:
    """A socket or FIFO file.  `path` as written: relative to base_dir, or absolute."""

    path: str
    mode: int
    user: str
    group: str


@dataclass(frozen=True, slots=True)
class InetListener:
    """A TCP listener on each of `addresses` ("*": all IPv4, "::": all IPv6).  `written` is the address setting."""

    name: str
    addresses: tuple[str, ...]
    port: int
    ssl: bool
    reuse_port: bool
    haproxy: bool
    written: str = ""


@dataclass(frozen=True, slots=True)
class Service:
    """0 means: process_min_avail none, service_count unlimited, idle_kill never, vsz_limit unlimited."""

    name: str
    protocol: str
    type: str
    executable: str
    user: str
    group: str
    privileged_group: str
    extra_groups: tuple[str, ...]
    chroot: str
    drop_priv_before_exec: bool
    process_min_avail: int
    process_limit: int
    client_limit: int
    service_count: int
    idle_kill: float
    vsz_limit: int
    unix_listeners: tuple[UnixListener, ...]
    fifo_listeners: tuple[UnixListener, ...]
    inet_listeners: tuple[InetListener, ...]


class Section:
    """A section over its built-in defaults: `value("port")` is the written value, the built-in one or the default."""

    __slots__ = ("_builtin", "_core", "_node", "_rows", "name")

    def __init__(self, rows: dict[str, Setting], name: str, *, title: str, node: Node | None,
                 builtin: Mapping[str, str], core: CoreSettings) -> None:
        self._rows = rows
        self._node = node
        self._builtin = builtin
        self._core = core
        own = node.settings.get(title) if node is not None else None
        self.name = own.text if own is not None else name

    def value(self, key: str) -> Any:
        row = self._rows[key]
        if self._node is not None and key in self._node.settings:
            return value_of(self._node.settings[key], row)
        text = self._builtin.get(key)
        if text is None:
            return row.value
        if text.startswith("$"):
            return getattr(self._core, text[1:])
        return units.parse(row.kind, text, row.choices)


def sections(top: Node, core: CoreSettings) -> Iterator[tuple[Section, list[tuple[str, Section]]]]:
    """Every service with its listeners, built-in ones first."""
    written = top.children.get("service", {})
    for name in dict.fromkeys((*SERVICES, *written)):
        node = written.get(name)
        builtin = SERVICES.get(name)
        service = Section(SERVICE.settings, name, title=SERVICE.title, node=node,
                          builtin=builtin.settings if builtin else {}, core=core)
        yield service, list(_listeners(node, builtin.listeners if builtin else (), core))


def _listeners(node: Node | None, builtin: tuple[tuple[str, str, dict[str, str]], ...],
               core: CoreSettings) -> Iterator[tuple[str, Section]]:
    known = {(kind, name): texts for kind, name, texts in builtin}
    own = {(kind, name): child for kind, children in (node.children if node else {}).items()
           for name, child in children.items()}
    for kind, name in dict.fromkeys((*known, *own)):
        row = SERVICE.children[kind]
        yield kind, Section(row.settings, name, title=row.title, node=own.get((kind, name)),
                            builtin=known.get((kind, name), {}), core=core)


def split_addresses(text: str) -> tuple[str, ...]:
    """Addresses separated by blanks or commas, without the brackets that IPv6 ones may stand in."""
    return tuple(word[1:-1] if word.startswith("[") and word.endswith("]") else word
                 for word in text.replace(",", " ").split())


def _inet(section: Section, listen: tuple[str, ...]) -> InetListener:
    address: str = section.value("address")
    return InetListener(section.name, split_addresses(address) or listen, section.value("port"), section.value("ssl"),
                        section.value("reuse_port"), section.value("haproxy"), address)


def _file(section: Section, owner: str) -> UnixListener:
    return UnixListener(section.name, section.value("mode"), section.value("user") or owner, section.value("group"))


def resolve(section: Section, listeners: list[tuple[str, Section]], core: CoreSettings, tls: bool) -> Service:
    """The service with every number settled.  `tls`: the global `ssl` is not `no`."""
    listen = split_addresses(" ".join(core.listen))
    inet = [_inet(row, listen) for kind, row in listeners if kind == INET]
    # anvil may be started again at any time: who talks to it must be able to connect anew, and is not root any more
    owner = core.default_internal_user if section.value("type") == "anvil" else ""
    files = [(kind, _file(row, owner)) for kind, row in listeners if kind != INET]
    idle: float = section.value("idle_kill") or core.default_idle_kill
    vsz: int = section.value("vsz_limit")
    return Service(
        name=section.name,
        protocol=section.value("protocol"),
        type=section.value("type"),
        executable=section.value("executable"),
        user=section.value("user"),
        group=section.value("group"),
        privileged_group=section.value("privileged_group"),
        extra_groups=tuple(section.value("extra_groups").replace(",", " ").split()),
        chroot=section.value("chroot"),
        drop_priv_before_exec=section.value("drop_priv_before_exec"),
        process_min_avail=section.value("process_min_avail"),
        process_limit=section.value("process_limit") or core.default_process_limit,
        client_limit=section.value("client_limit") or core.default_client_limit,
        service_count=section.value("service_count"),
        idle_kill=0.0 if idle >= units.NEVER else idle,
        vsz_limit=core.default_vsz_limit if vsz == units.UNSET_SIZE else vsz,
        unix_listeners=tuple(row for kind, row in files if kind == UNIX and row.mode),
        fifo_listeners=tuple(row for kind, row in files if kind == FIFO and row.mode),
        inet_listeners=tuple(row for row in inet if row.port and (tls or not row.ssl)),
    )
