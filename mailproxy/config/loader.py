"""`load(path)`: the configuration of one run, checked, frozen and ready to answer.

Out: `Config`.  Raises ConfigInvalid with every problem that was found.  A `Config` never changes; a reload makes a new
one.  Limit: MAX_VIEWS combinations of matching filters are kept.
"""
from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mailproxy.config import checks, foreign
from mailproxy.config.conflicts import conflicts
from mailproxy.config.filters import Address
from mailproxy.config.parser import Parser
from mailproxy.config.schema.core import CoreSettings
from mailproxy.config.schema.sections import Passdb
from mailproxy.config.services import Section, Service, resolve, sections
from mailproxy.config.tree import Node, Scope
from mailproxy.config.unbuilt import warn_unbuilt
from mailproxy.config.view import View, value_of
from mailproxy.errors import ConfigInvalid, Problem

#: Enough for every server name of a big site; more would be address and name filters multiplied.
MAX_VIEWS = 10_000


class Config:
    """The settings of one run."""

    __slots__ = ("_databases", "_exact", "_odd", "_plain", "_scopes", "_suffix", "_top", "_views", "local_names",
                 "path", "protocols", "services", "unbuilt", "uses_address_filters", "warnings")

    def __init__(self, path: str, top: Scope, scopes: Iterable[Scope]) -> None:
        self.path = path
        self.warnings: tuple[str, ...] = ()
        #: Warnings about what is written and has no effect yet.
        self.unbuilt: tuple[str, ...] = ()
        self.services: dict[str, Service] = {}
        self._top = top
        in_order = list(scopes)
        #: Strongest first; among equals the first in the file.
        self._scopes = tuple(sorted(in_order, key=_by_strength))
        self._plain: list[int] = []
        self._exact: dict[str, list[int]] = {}
        self._suffix: dict[str, list[int]] = {}
        self._odd: list[int] = []
        self._index()
        self._views: dict[tuple[int, ...], View] = {}
        self._databases: dict[tuple[str, str], tuple[Passdb, ...]] = {}
        names = (name for scope in in_order for name in scope.filter.names)
        self.local_names: tuple[str, ...] = tuple(dict.fromkeys(names))
        self.uses_address_filters = any(scope.filter.local or scope.filter.remote for scope in in_order)
        core = self.view().core
        self.protocols: tuple[str, ...] = tuple(dict.fromkeys(word for word in core.protocols if word != "none"))

    def _index(self) -> None:
        """Server names are looked up, not searched: there may be thousands of blocks."""
        for position, scope in enumerate(self._scopes):
            if not scope.filter.named:
                self._plain.append(position)
                continue
            for name in dict.fromkeys(scope.filter.names):
                if "*" not in name:
                    self._exact.setdefault(name, []).append(position)
                elif name.startswith("*.") and name.count("*") == 1:
                    self._suffix.setdefault(name[2:], []).append(position)
                else:
                    self._odd.append(position)

    @property
    def top(self) -> Scope:
        return self._top

    @property
    def scopes(self) -> tuple[Scope, ...]:
        """The filter blocks, strongest first."""
        return self._scopes

    def written(self, name: str) -> bool:
        """Is the setting written in the files, outside all filters?"""
        return name in self._top.node.settings

    def service_written(self, name: str) -> bool:
        """Does a `service` section of this name in the files set anything?  Empty ones are examples."""
        node = self._top.node.children.get("service", {}).get(name)
        return node is not None and _sets(node)

    def view(self, protocol: str = "", local: Address | None = None, remote: Address | None = None,
             local_name: str = "") -> View:
        """The settings for connections of this kind.  `local` and `remote` are ipaddress objects."""
        key = self._matching(protocol, local, remote, local_name.lower())
        view = self._views.get(key)
        if view is None:
            if len(self._views) >= MAX_VIEWS:
                self._views.clear()
            view = self._views[key] = View(self._nodes(key))
        return view

    def sections(self, protocol: str, local: Address | None, remote: Address | None,
                 local_name: str) -> tuple[Node, ...]:
        """The sections that apply to such a connection, strongest first, the top level last."""
        return self._nodes(self._matching(protocol, local, remote, local_name.lower()))

    def _nodes(self, key: tuple[int, ...]) -> tuple[Node, ...]:
        return (*(self._scopes[position].node for position in key), self._top.node)

    def _matching(self, protocol: str, local: Address | None, remote: Address | None, name: str) -> tuple[int, ...]:
        candidates = self._plain
        if name and (self._exact or self._suffix or self._odd):
            named = {*self._exact.get(name, ()), *self._suffix.get(name.partition(".")[2], ()), *self._odd}
            if named:
                candidates = sorted({*candidates, *named})
        return tuple(position for position in candidates
                     if self._scopes[position].filter.matches(protocol, local, remote, name))

    def passdbs(self, protocol: str = "") -> tuple[Passdb, ...]:
        """The password databases in lookup order: those of `protocol` blocks come before the others."""
        return self._chain("passdb", protocol)

    @property
    def auth_services(self) -> tuple[str, ...]:
        """The names that an auth request may give as its service and that have something of their own."""
        named = (scope.filter.protocol.removeprefix("!") for scope in reversed(self._scopes))
        return tuple(dict.fromkeys((*self.protocols, *filter(None, named))))

    def userdbs(self, protocol: str = "") -> tuple[Passdb, ...]:
        return self._chain("userdb", protocol)

    def _chain(self, kind: str, protocol: str) -> tuple[Passdb, ...]:
        chain = self._databases.get((kind, protocol))
        if chain is None:
            own = [scope for scope in self._scopes
                   if not scope.filter.by_address and scope.filter.fits_protocol(protocol)]
            nodes = [*(scope.node for scope in sorted(own, key=lambda scope: scope.order)), self._top.node]
            chain = tuple(_database(node) for top in nodes for node in top.children.get(kind, {}).values())
            if protocol in ("", *self.auth_services):
                self._databases[kind, protocol] = chain
        return chain


def _sets(node: Node) -> bool:
    return any(name != node.type.title for name in node.settings) or any(
        _sets(child) for children in node.children.values() for child in children.values())


def _by_strength(scope: Scope) -> tuple[Any, ...]:
    named, local, remote, protocol = scope.filter.strength
    return (not named, -local, -remote, not protocol, scope.order)


def _database(node: Node) -> Passdb:
    values = {("pass_" if key == "pass" else key): value_of(node.settings.get(key), row)
              for key, row in node.type.settings.items()}
    absent: dict[str, Any] = {"mechanisms": (), "username_filter": (), "deny": False, "pass_": False, "master": False}
    return Passdb(**{**absent, **values}, path=node.path, line=node.line)


def load(path: str) -> Config:
    """Read, merge and check a configuration."""
    conf, problems = examine(path)
    if conf is None or problems:
        raise ConfigInvalid(problems)
    return conf


def examine(path: str) -> tuple[Config | None, list[Problem]]:
    """What could be made of a configuration, and all that is wrong with it; None: nothing could."""
    parser = Parser()
    parser.parse(path)
    scopes = list(parser.scopes.values())
    problems = parser.problems
    if problems and problems[0].path == "":     # the main file itself: nothing else can be said
        return None, problems
    try:
        conf = Config(path, parser.top, scopes)
        texts, warnings = _finish(conf, scopes)
    except ConfigInvalid as error:      # a `<file` among the settings that are needed at once
        return None, [*problems, *error.problems]
    problems += [Problem(path, 0, text) for text in texts]
    warnings = [*parser.warnings, *warnings]
    for problem, fatal in conflicts(scopes, conf.protocols):
        if fatal:
            problems.append(problem)
        else:
            warnings.append(f"{problem.path} line {problem.line}: {problem.text}")
    conf.warnings = tuple(warnings)
    conf.unbuilt = tuple(warn_unbuilt((conf.top, *scopes)))
    return conf, problems


def _finish(conf: Config, scopes: list[Scope]) -> tuple[list[str], list[str]]:
    """Resolve the services; texts of (errors, warnings)."""
    core = conf.view().core
    every = list(sections(conf.top.node, core))
    tls = conf.view().written("ssl")
    enabled = _resolve(every, core, conf.protocols, tls is None or tls.text != "no")
    services = [row[0] for row in enabled]
    errors: list[str] = []
    for scope in (conf.top, *scopes):
        errors += checks.check_scope(scope)
        errors += foreign.check_values(scope)
    errors += checks.check_core(core)
    errors += checks.check_protocols(core, {section.value("protocol") for section, _ in every} - {""})
    errors += checks.check_names([section.name for section, _ in every])
    for row in enabled:
        errors += checks.check_service(*row)
    errors += checks.check_listeners(services, core.base_dir)
    errors += foreign.check_stats(conf.top.node)
    warnings = [*checks.warn_tls(conf.top, scopes), *checks.warn_limits(services),
                *checks.warn_listeners(services, core.base_dir)]
    conf.services = {service.name: service for service in services}
    return list(dict.fromkeys(errors)), warnings


def _resolve(every: list[tuple[Section, list[tuple[str, Section]]]], core: CoreSettings, protocols: tuple[str, ...],
             tls: bool) -> list[tuple[Service, Section, list[tuple[str, Section]]]]:
    """The services that are enabled."""
    return [(resolve(section, listeners, core, tls), section, listeners) for section, listeners in every
            if section.value("protocol") in ("", *protocols)]

