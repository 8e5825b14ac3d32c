"""Files -> trees of written settings, with every error and warning on the way.

In: the path of the main file.  Out: the top scope and the scopes of all filter blocks.  Checks names and the type of
each value; what needs more than one setting is `checks`.  Limits: include depth, files read,
section depth, problems reported.
"""
from __future__ import annotations

import os
import re
from collections.abc import Callable

from mailproxy.config import includes, lexer, obsolete, paths, units, variables
from mailproxy.config.filters import Filter
from mailproxy.config.networks import parse_network
from mailproxy.config.schema import NOT_BY_ADDRESS, ROOT
from mailproxy.config.schema.define import APPEND, FREE, MERGE, SectionType, Setting
from mailproxy.config.tree import Node, Scope, Written
from mailproxy.errors import Problem

MAX_INCLUDES = 64       # files on the include stack: each holds its text
MAX_FILES = 50_000      # files read: includes that include each other many times must end
MAX_DEPTH = 64          # open sections: the language needs five
MAX_TEXT = 2000         # characters of a problem: a name in it may be a whole file
MAX_PROBLEMS = 200      # nobody reads more, and a binary file would give one per line
_SECRET = re.compile(r"_(password|key|nonce)\Z")
_FILTERS = ("protocol", "local", "remote", "local_name")


class Frame:
    """One open section.  `node` None: its contents are skipped, because its head was wrong.  `suspect`: the number of
    problems before a section that cannot be right, -1: it can."""

    __slots__ = ("line", "node", "path", "prefix", "scope", "suspect")

    def __init__(self, node: Node | None, scope: Scope, prefix: str = "", path: str = "", line: int = 0) -> None:
        self.node = node
        self.scope = scope
        self.prefix = prefix
        self.path = path
        self.line = line
        self.suspect = -1


class Parser:
    """Collects `problems`, `warnings`, `top` and `scopes` (filter -> scope, in file order)."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self.warnings: list[str] = []
        self.top = Scope(Node(ROOT, ""), Filter())
        self.scopes: dict[Filter, Scope] = {}
        self._stack = [Frame(self.top.node, self.top)]
        self._files: list[str] = []
        self._read = 0
        self._path = ""
        self._line = 0
        self._unnamed = 0
        self._filtered: dict[str, Written] = {}
        self._handlers: dict[int, Callable[[lexer.Line], None]] = {
            lexer.SETTING: self._setting_line, lexer.QUOTED: self._setting_line, lexer.FILE: self._setting_line,
            lexer.SECTION: self._begin, lexer.END: self._end, lexer.INCLUDE: self._include,
            lexer.INCLUDE_TRY: self._include, lexer.ERROR: lambda line: self._problem(line.value),
            lexer.WARNING: lambda line: self._warn(
                f"Configuration file {self._path} line {line.number}: {line.value}"),
        }

    def parse(self, path: str) -> None:
        """Read the main file and all that it includes."""
        try:
            text = includes.read(path)
        except OSError as error:
            verb = "read" if isinstance(error, IsADirectoryError) else "open"
            self.problems.append(Problem("", 0, f"{verb}({path}) failed: {error.strerror}"))
            return
        self._parse_text(path, text)
        if len(self._stack) > 1:
            frame = self._stack[-1]
            self.problems.append(Problem(path, 0, f"Missing '}}' (section started at {frame.path}:{frame.line})"))

    def _parse_text(self, path: str, text: str) -> None:
        outer = self._path, self._line
        self._files.append(path)
        self._path = path
        for line in lexer.lines(text):
            if len(self.problems) >= MAX_PROBLEMS:
                break
            self._line = line.number
            self._handlers[line.kind](line)
        self._files.pop()
        self._path, self._line = outer

    def _problem(self, text: str) -> None:
        if len(text) > MAX_TEXT:
            text = text[:MAX_TEXT - 3] + "..."
        self.problems.append(Problem(self._path, self._line, text))

    def _warn(self, text: str) -> None:
        if len(self.warnings) < MAX_PROBLEMS:
            self.warnings.append(text)

    def _obsolete(self, text: str) -> None:
        self._warn(f"Obsolete setting in {self._path}:{self._line}: {text}")

    # -- includes ---------------------------------------------------------------------------------------------------

    def _include(self, line: lexer.Line) -> None:
        must = line.kind == lexer.INCLUDE
        found = includes.matches(self._path, line.value) if line.value else []
        if not found:
            if must:
                self._problem("No matches")
            return
        if len(found) > includes.MAX_FILES:
            self._problem(f"Too many files match {line.value}")
            return
        for path in found:
            if path in self._files or len(self._files) >= MAX_INCLUDES:
                self._problem(f"Recursive include file: {path}")
                continue
            self._read += 1
            if self._read > MAX_FILES:
                if self._read == MAX_FILES + 1:
                    self._problem("Too many include files")
                return
            try:
                text = includes.read(path)
            except OSError as error:
                if must:
                    self._problem(f"Couldn't open include file {path}: {error.strerror}")
                continue
            self._parse_text(path, text)

    # -- sections ---------------------------------------------------------------------------------------------------

    def _push(self, node: Node | None, scope: Scope, prefix: str = "") -> None:
        if len(self._stack) == MAX_DEPTH:
            self._problem("Sections are nested too deeply")
        self._stack.append(Frame(node, scope, prefix, self._path, self._line))

    def _end(self, line: lexer.Line) -> None:
        if len(self._stack) == 1:
            self._problem("Unexpected '}'")
            return
        frame = self._stack.pop()
        if frame.node is not None and frame.suspect == len(self.problems):
            key = frame.node.type.name
            self.problems.append(Problem(frame.path, frame.line, f"Unknown setting: {self._types()}{key} {{ {key}"))
        elif frame.node is not None and frame.node.type in obsolete.SOCKET.children.values():
            self._old_socket(frame.node)

    def _old_socket(self, socket: Node) -> None:
        """`auth x { socket listen { client { path } } }` of Dovecot 1.x: a listener of the auth service."""
        path, failure = obsolete.socket_path(socket)
        if failure:
            self._problem(failure)
            return
        service = self._child(self.top.node, ROOT.children["service"], "auth")
        assert service is not None
        listener = self._child(service, service.type.children["unix_listener"], path)
        assert listener is not None
        listener.settings.update((key, row) for key, row in socket.settings.items() if key != "path")

    def _begin(self, line: lexer.Line) -> None:
        frame = self._stack[-1]
        node = frame.node
        if node is None or len(self._stack) >= MAX_DEPTH:
            self._push(None, frame.scope)
        elif node.type is ROOT and line.key in _FILTERS:
            self._begin_filter(frame, line.key, line.value)
        elif node.type is ROOT and line.key == "auth" and not frame.scope.filter.protocol:
            self._obsolete("add auth_ prefix to all settings inside auth {} and remove the auth {} section completely")
            self._push(node, frame.scope, "auth_")
        elif node.type is ROOT and frame.prefix and (line.key, line.value) == ("socket", "listen"):
            self._push(Node(obsolete.SOCKET, ""), frame.scope)
        else:
            self._begin_section(frame, node, line.key, line.value)

    def _begin_section(self, frame: Frame, node: Node, key: str, name: str) -> None:
        kind = node.type.children.get(key)
        if node.type.naming == FREE or kind is None:
            self._bad_section(frame, node, key)
            return
        if key in NOT_BY_ADDRESS and frame.scope.filter.by_address:
            self._problem(f"Auth settings not supported inside local/remote blocks: {key}")
            self._push(None, frame.scope)
            return
        driver = ""
        if frame.prefix and name and kind.naming == APPEND:
            self._obsolete(f"{key} {name} {{}} has been replaced by {key} {{ driver={name} }}")
            driver, name = name, ""
        child = self._child(node, kind, name)
        self._push(child, frame.scope)
        if child is not None and driver:
            self._assign("driver", driver)

    def _bad_section(self, frame: Frame, node: Node, key: str) -> None:
        row = node.type.settings.get(key)
        if node.type.naming != FREE and row is not None and row.kind in (units.TEXT, units.WORDS):
            # A list of a later Dovecot, `mail_plugins { … }`: its contents are what is reported.
            self._push(Node(SectionType(key, MERGE, {}), ""), frame.scope)
            self._stack[-1].suspect = len(self.problems)
            return
        self._problem("Section not allowed here" if node.type.naming == FREE
                      else f"Unknown setting: {self._types()}{key} {{ {key}")
        self._push(None, frame.scope)

    def _child(self, node: Node, kind: SectionType, name: str) -> Node | None:
        """The section to continue, or a new one."""
        siblings = node.children.setdefault(kind.name, {})
        if kind.naming == FREE:
            name = ""
        elif not name and (kind.naming == APPEND or kind.name == "namespace"):
            self._unnamed += 1
            name = f"\0{self._unnamed}"
        elif kind.naming == APPEND and name in siblings:
            self._problem(f"{kind.name}/{name} already exists")
            return None
        elif kind.name == "service" and name == "dns_client":
            self._obsolete("service dns_client {} has been replaced by service dns-client { }")
            name = "dns-client"
        child = siblings.get(name)
        if child is None:
            child = siblings[name] = Node(kind, name, self._path, self._line)
            if kind.naming == APPEND and not name.startswith("\0"):
                child.settings["name"] = self._written(name, name, name)
        return child

    def _types(self) -> str:
        """The open sections in the form that error messages show them."""
        return "".join(f"{frame.node.type.name} {{ " for frame in self._stack
                       if frame.node is not None and frame.node.type is not ROOT)

    # -- filters ----------------------------------------------------------------------------------------------------

    def _begin_filter(self, frame: Frame, key: str, name: str) -> None:
        outer = frame.scope.filter
        try:
            self._check_nesting(outer, key)
            filter_ = self._filter(outer, key, name)
        except ValueError as error:
            self._problem(str(error))
            self._push(None, frame.scope)
            return
        scope = self.scopes.get(filter_)
        if scope is None:
            node = Node(ROOT, "", self._path, self._line)
            scope = self.scopes[filter_] = Scope(node, filter_, frame.scope, len(self.scopes))
        self._push(scope.node, scope)

    @staticmethod
    def _check_nesting(outer: Filter, key: str) -> None:
        if key == "protocol":
            if outer.protocol:
                raise ValueError("Nested protocol { protocol { .. } } block not allowed")
            return
        present = (("protocol", bool(outer.protocol)), ("remote", outer.remote is not None and key != "remote"),
                   ("local_name", outer.named and key == "local"))
        for kind, is_open in present:
            if is_open:
                raise ValueError(f"{kind} {{ {key} {{ .. }} }} not allowed (use {key} {{ {kind} {{ .. }} }} instead)")

    def _filter(self, outer: Filter, key: str, name: str) -> Filter:
        if key == "protocol":
            if name == "managesieve":
                self._obsolete("protocol managesieve {} has been replaced by protocol sieve { }")
                name = "sieve"
            return outer._replace(protocol=name)
        if key == "local_name":
            return outer._replace(local_name=name.lower(), named=True)
        net, slow = parse_network(name)
        if slow:
            self._warn(slow)
        inside = outer.local if key == "local" else outer.remote
        if inside is not None and (inside.version != net.version or not net.subnet_of(inside)):  # type: ignore[arg-type]
            raise ValueError(f"{key} net1 {{ {key} net2 {{ .. }} }} requires net2 to be inside net1")
        return outer._replace(local=net) if key == "local" else outer._replace(remote=net)

    # -- settings ---------------------------------------------------------------------------------------------------

    def _setting_line(self, line: lexer.Line) -> None:
        frame = self._stack[-1]
        node = frame.node
        if node is None:
            return
        key = line.key
        if node.type is ROOT or node.type.name == "plugin":
            if frame.prefix and not key.startswith(frame.prefix):
                key = frame.prefix + key
            path = key if node.type is ROOT else f"plugin/{key}"
            old = obsolete.translate(path, line.value, frame.scope.filter.protocol)
            if old is not None:
                self._translated(old)
                return
        self._assign(key, line.value, line.kind)

    def _translated(self, old: obsolete.Translation) -> None:
        for text in old.warnings:
            self._obsolete(text)
        if old.failure:
            self._warn(old.failure)
        scope = self._stack[-1].scope
        for key, value, kind in old.assignments:
            # services are one for all protocols: what an old protocol block says of them belongs to the top
            at_top = key.startswith("service/")
            frame = Frame(self.top.node, self.top) if at_top else Frame(scope.node, scope)
            self._stack.append(frame)
            self._assign(key, value, lexer.FILE if kind else lexer.SETTING)
            self._stack.pop()

    def _assign(self, key: str, value: str, kind: int = lexer.SETTING) -> None:
        frame = self._stack[-1]
        assert frame.node is not None
        node, name = self._locate(frame.node, key)
        row = None if node is None else self._row(node.type, name)
        if node is None or row is None:
            # as Dovecot, which expands a name's reference to itself before it looks at the name
            selfish = kind == lexer.SETTING and f"${key}" in value.split()
            self._problem(f"Unknown variable: ${key}" if selfish else f"Unknown setting: {self._types()}{key}")
            return
        if frame.node.type is ROOT and frame.scope.filter.by_address and key.partition("/")[0] in NOT_BY_ADDRESS:
            self._problem(f"Auth settings not supported inside local/remote blocks: {key}")
            return
        written = self._value(frame.scope, row, value, kind, key)
        if written is None:
            return
        node.settings[name] = written
        if node.type is ROOT:
            self._note_order(frame.scope, name, written)

    def _note_order(self, scope: Scope, name: str, written: Written) -> None:
        if scope is not self.top:
            self._filtered.setdefault(name, written)
        elif name in self._filtered:
            place = self._filtered[name].place
            self._warn(f"{written.place}: Global setting {name} won't change the setting inside an earlier filter at"
                       f" {place} (if this is intentional, avoid this warning by moving the global setting before"
                       f" {place})")

    @staticmethod
    def _row(kind: SectionType, name: str) -> Setting | None:
        if kind.naming == FREE:
            return None if "/" in name else Setting(name, units.TEXT, "")
        row = kind.settings.get(name)
        if row is None and name and name == kind.title:
            return Setting(name, units.TEXT, "")
        return row

    def _locate(self, node: Node, key: str) -> tuple[Node | None, str]:
        """The section and the name that a key like `service/imap-login/service_count` means."""
        if "/" not in key or node.type.naming == FREE:
            return node, key
        *parts, name = key.split("/")
        while parts:
            kind = node.type.children.get(parts.pop(0))
            if kind is None:
                return None, name
            if kind.naming == FREE:
                found: Node | None = self._child(node, kind, "")
                return found, "/".join((*parts, name))
            if not parts:
                return None, name
            try:
                title = paths.section_name(node, kind, parts.pop(0))
            except LookupError:
                return None, name
            inner = node.child(kind.name, title) or self._child(node, kind, title)
            assert inner is not None
            node = inner
        return node, name

    def _written(self, text: str, shown: str, value: object, source: str = "") -> Written:
        return Written(text, shown, path=self._path, line=self._line, value=value, source=source)

    def _value(self, scope: Scope, row: Setting, text: str, kind: int, key: str) -> Written | None:
        if kind == lexer.FILE and row.kind in (units.TEXT, units.WORDS, units.SECRET):
            return self._written(text, "<" + text, None, includes.relative_to(self._path, text))
        shown = text = f"<{text}" if kind == lexer.FILE else text
        try:
            if kind == lexer.SETTING and variables.has_variable(text):
                text, shown = variables.expand(text, key, lambda name: self._current(scope, row.name, name))
            value = text if row.kind == units.TEXT else units.parse(row.kind, text, row.choices)
        except ValueError as error:
            secret = _SECRET.search(row.name)       # the refusal would show a part of the value
            self._problem(f"{row.name}: Invalid value (quote it if it contains a '$')" if secret else str(error))
            return None
        return self._written(text, shown, value)

    def _current(self, scope: Scope, own: str, name: str) -> str | None:
        written = scope.find(name)
        if written is not None:
            return written.text if not written.source else written.shown
        row = ROOT.settings.get(name)
        if row is None:
            return self._by_path(scope, name) if "/" in name else None
        if own == name == "protocols" and os.path.basename(self._path).endswith(".protocol"):
            return ""       # files of a distribution's packages: each adds its own to a list that starts empty
        return row.default

    @staticmethod
    def _by_path(scope: Scope | None, name: str) -> str | None:
        """The value of a setting in a section, of this scope or an outer one."""
        default = None
        while scope is not None:
            try:
                found = paths.find(scope.node, name.split("/"))
            except LookupError:
                found = None
            if found is not None and found.node.type.naming != FREE:
                if found.written is not None:
                    return found.written.shown if found.written.source else found.written.text
                default = found.default
            scope = scope.parent
        return default
