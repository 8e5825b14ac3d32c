"""Path keys: which setting `service/imap-login/service_count` or `passdb/0/driver` means.

In: a section and the words of the path.  Out: the section that holds the setting or is meant itself, with the values
that it has without being written.  LookupError: there is none.  Creates nothing.
"""
from __future__ import annotations

from typing import NamedTuple

from mailproxy.config import units
from mailproxy.config.schema import ROOT
from mailproxy.config.schema.builtin import SERVICES
from mailproxy.config.schema.define import APPEND, FREE, SectionType, Setting
from mailproxy.config.tree import Node, Written


def builtin_sections(node: Node, kind: SectionType) -> dict[str, dict[str, str]]:
    """What exists without being written: name -> settings that differ from a new section's."""
    if node.type is ROOT and kind.name == "service":
        return {name: row.settings for name, row in SERVICES.items()}
    if node.type.name == "service" and node.name in SERVICES:
        return {name: texts for section, name, texts in SERVICES[node.name].listeners if section == kind.name}
    return {}


def section_name(node: Node, kind: SectionType, title: str) -> str:
    """The name of an existing section.  Databases are numbered, those without a name from 0."""
    present = node.children.get(kind.name, {})
    name = title.replace("\\s", "/")
    if kind.naming == APPEND and name not in present:
        unnamed = [key for key in present if key.startswith("\0")]
        name = unnamed[int(title)] if title.isascii() and title.isdigit() and int(title[:9]) < len(unnamed) else title
    if name not in present and name not in builtin_sections(node, kind):
        raise LookupError(f"{kind.name}/{title}")
    return name


class Found(NamedTuple):
    """A setting that exists: `written` None where it has its default."""

    node: Node
    row: Setting
    default: str
    written: Written | None


def find(node: Node, words: list[str], builtin: dict[str, str] | None = None) -> Found:
    """The setting at the end of a path."""
    kind = node.type.children.get(words[0])
    if kind is None or len(words) < 2:
        name = "/".join(words)
        row = node.type.settings.get(name)
        if node.type.naming == FREE and name in node.settings:
            row = Setting(name, units.TEXT, "")
        if row is None:
            raise LookupError(name)
        return Found(node, row, (builtin or {}).get(name, row.default), node.settings.get(name))
    if kind.naming == FREE:
        return find(node.child(kind.name, "") or Node(kind, ""), words[1:])
    name = section_name(node, kind, words[1])
    child = node.child(kind.name, name) or Node(kind, name)
    if len(words) == 2:
        raise LookupError("/".join(words))
    return find(child, words[2:], builtin_sections(node, kind).get(name, {}))


def find_sections(node: Node, words: list[str]) -> tuple[Node, SectionType, str | None]:
    """The section or, with None for a name, all sections of a type at the end of a path, and where they stand."""
    kind = node.type.children.get(words[0])
    if kind is None or (kind.naming == FREE and len(words) > 1):
        raise LookupError(words[0])
    if len(words) == 1:
        return node, kind, None
    name = section_name(node, kind, words[1])
    if len(words) == 2:
        return node, kind, name
    return find_sections(node.child(kind.name, name) or Node(kind, name), words[2:])
