"""Which written settings have no effect here, and why: mailproxy stores no mail.

In: the configuration.  Out: findings, one a setting or section.
"""
from __future__ import annotations

from collections.abc import Iterator

from mailproxy.check.findings import Findings
from mailproxy.config.loader import Config
from mailproxy.config.schema import USED
from mailproxy.config.schema.admin import ADMIN
from mailproxy.config.schema.builtin import SERVICES
from mailproxy.config.schema.define import FREE
from mailproxy.config.services import Service
from mailproxy.config.tree import Node, Scope, Written
from mailproxy.config.unbuilt import SILENT
from mailproxy.master import mailservices, program, roles

_STORAGE = "ignored: no mail storage here"
_SERVICE = "ignored: no such service here"
_PROXY = "ignored: nothing here depends on it"
#: Sections that nothing here reads.  Whoever builds something for one takes it out.
SECTIONS = {"namespace": _STORAGE, "plugin": _STORAGE, "dict": _SERVICE, "metric": _SERVICE,
            "event_exporter": _SERVICE}


def services(conf: Config) -> list[Service]:
    """The services of Dovecot that are enabled and that nobody plays here."""
    libexec = conf.view().core.libexec_dir
    for_mail, _ = mailservices.wanted(conf)
    return [service for service in conf.services.values() if service.name not in for_mail
            and roles.find(service.executable, libexec, roles.ROLES) is None and program.is_stock(service)]


def look(conf: Config, findings: Findings) -> None:
    found: list[tuple[str, int, str]] = []
    for scope in (conf.top, *conf.scopes):
        found += _settings(scope)
        for kind, reason in SECTIONS.items():
            for node in scope.node.children.get(kind, {}).values():
                found += _section(node, reason)
    unknown = {name for name in SERVICES.keys() - conf.services.keys()
               if roles.find(SERVICES[name].settings["executable"], "", roles.ROLES) is None}
    idle = {service.name for service in services(conf)} | unknown       # not those of a protocol that is off
    for name, node in conf.top.node.children.get("service", {}).items():
        if name in idle and name in SERVICES and conf.service_written(name):
            reason = _STORAGE if SERVICES[name].settings.get("protocol") else _SERVICE
            found.append((node.path, node.line, f"service {name}: {reason}"))
    for row in found:
        findings.ignore(*row)


def _settings(scope: Scope) -> Iterator[tuple[str, int, str]]:
    for name, written in scope.node.settings.items():
        if name in SILENT:
            yield _row(name, written, _PROXY)
        elif name not in USED:
            yield _row(name, written, _SERVICE if name in ADMIN else _STORAGE)


def _section(node: Node, reason: str) -> Iterator[tuple[str, int, str]]:
    """A section as a whole; of `plugin` and `dict`, which are lists, each member."""
    if node.type.naming == FREE:
        for name, written in node.settings.items():
            yield _row(f"{node.type.name} {{ {name} }}", written, reason)
    else:
        name = "" if node.name.startswith("\0") else f" {node.name}"
        yield node.path, node.line, f"{node.type.name}{name.rstrip()}: {reason}"


def _row(name: str, written: Written, reason: str) -> tuple[str, int, str]:
    return written.path, written.line, f"{name}: {reason}"
