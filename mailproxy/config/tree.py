"""What the parser builds: written settings in sections, one tree per scope.

A scope is the top level or one filter block.  Nothing here is resolved: defaults and views come later.
"""
from __future__ import annotations

from typing import Any

from mailproxy.config.filters import Filter
from mailproxy.config.schema.define import SectionType


class Written:
    """One setting as it stands in a file.  `shown`: the text with foreign `$variables` left as they are, for a dump.
    `source`: absolute or relative name of the `<file` that holds the value, "" if the value is inline."""

    __slots__ = ("line", "path", "shown", "source", "text", "value")

    def __init__(self, text: str, shown: str, *, path: str, line: int, value: Any, source: str = "") -> None:
        self.text = text
        self.shown = shown
        self.path = path
        self.line = line
        self.value = value
        self.source = source

    @property
    def place(self) -> str:
        return f"{self.path} line {self.line}"


class Node:
    """One section: what is written in it, and the sections inside by type and name."""

    __slots__ = ("children", "line", "name", "path", "settings", "type")

    def __init__(self, kind: SectionType, name: str, path: str = "", line: int = 0) -> None:
        self.type = kind
        self.name = name
        self.path = path
        self.line = line
        self.settings: dict[str, Written] = {}
        self.children: dict[str, dict[str, Node]] = {}

    def child(self, kind: str, name: str) -> Node | None:
        return self.children.get(kind, {}).get(name)


class Scope:
    """The top level (`filter` matches everything, `parent` None) or one filter block."""

    __slots__ = ("filter", "node", "order", "parent")

    def __init__(self, node: Node, filter_: Filter, parent: Scope | None = None, order: int = 0) -> None:
        self.node = node
        self.filter = filter_
        self.parent = parent
        self.order = order

    def find(self, key: str) -> Written | None:
        """The value in force for this scope at this point of the parse: its own or an outer one's."""
        scope: Scope | None = self
        while scope is not None:
            written = scope.node.settings.get(key)
            if written is not None:
                return written
            scope = scope.parent
        return None
