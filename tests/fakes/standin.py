"""A configuration made of plain objects with the attribute names of mailproxy.config, read from a JSON file."""
from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from mailproxy.errors import ConfigInvalid, Problem


@dataclass
class Core:
    base_dir: str = "/nonexistent"
    state_dir: str = "/nonexistent/state"
    instance_name: str = "mailproxy"
    shutdown_clients: bool = True
    verbose_proctitle: bool = False
    default_login_user: str = "dovenull"
    libexec_dir: str = "/usr/lib/dovecot"
    import_environment: tuple[str, ...] = ("TZ",)
    hostname: str = ""


@dataclass
class Logging:
    log_path: str = "syslog"
    info_log_path: str = ""
    debug_log_path: str = ""
    syslog_facility: str = "mail"
    log_timestamp: str = "%b %d %H:%M:%S "
    log_debug: str = ""


@dataclass
class Ssl:
    ssl: str = "yes"


@dataclass
class View:
    core: Core = field(default_factory=Core)
    logging: Logging = field(default_factory=Logging)
    ssl: Ssl = field(default_factory=Ssl)

    def written(self, name: str) -> None:
        """Nothing is."""


@dataclass
class Inet:
    port: int
    name: str = "imap"
    addresses: tuple[str, ...] = ("127.0.0.1",)
    ssl: bool = False
    reuse_port: bool = False
    haproxy: bool = False


@dataclass
class Unix:
    path: str
    mode: int = 0o600
    user: str = ""
    group: str = ""


@dataclass
class Service:
    name: str
    executable: str
    type: str = ""
    protocol: str = ""
    user: str = ""
    group: str = ""
    privileged_group: str = ""
    extra_groups: tuple[str, ...] = ()
    chroot: str = ""
    drop_priv_before_exec: bool = False
    process_min_avail: int = 0
    process_limit: int = 100
    client_limit: int = 1000
    service_count: int = 0
    idle_kill: float = 60.0
    vsz_limit: int = 268435456
    unix_listeners: tuple[Unix, ...] = ()
    fifo_listeners: tuple[Unix, ...] = ()
    inet_listeners: tuple[Inet, ...] = ()


class Config:
    """What mailproxy.config.load returns, as far as the master and the log look."""

    def __init__(self, path: str, raw: dict[str, Any]) -> None:
        self.path = path
        self.warnings: tuple[str, ...] = tuple(raw.get("warnings", ()))
        self.unbuilt: tuple[str, ...] = ()
        self.protocols = tuple(raw.get("protocols", ("imap",)))
        self._written = raw.get("written", [])
        self._view = View(Core(**raw.get("core", {})), Logging(**raw.get("logging", {})), Ssl(**raw.get("ssl", {})))
        self.services = {"log": Service("log", "log", "log", process_limit=1, client_limit=1, idle_kill=4294967295.0)}
        for row in raw.get("services", []):
            row = dict(row)
            row["inet_listeners"] = tuple(Inet(**inet) for inet in row.get("inet_listeners", ()))
            row["unix_listeners"] = tuple(Unix(**unix) for unix in row.get("unix_listeners", ()))
            row["fifo_listeners"] = tuple(Unix(**fifo) for fifo in row.get("fifo_listeners", ()))
            self.services[row["name"]] = Service(**row)

    def view(self) -> View:
        return self._view

    def written(self, name: str) -> bool:
        return name in self._written

    def service_written(self, name: str) -> bool:
        return name in self.services and name != "log"


def load(path: str) -> Config:
    try:
        with open(path, encoding="utf-8") as file:
            raw = json.load(file)
    except FileNotFoundError:
        raise ConfigInvalid([Problem("", 0, f"open({path}) failed: No such file or directory")]) from None
    except ValueError:
        raise ConfigInvalid([Problem(path, 1, "Unknown setting: foo"), Problem(path, 2, "Expecting '{'")]) from None
    return Config(path, raw)
