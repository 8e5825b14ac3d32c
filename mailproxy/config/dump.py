"""The configuration as text that can be read again: `-n` what differs from the defaults, `-a` everything.

In: a loaded Config.  Out: lines to a text stream.  Secrets are hidden unless asked for; `$variables` and `<files` stay
as they are written.
"""
from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TextIO

import mailproxy
from mailproxy.config import units
from mailproxy.config.filters import Filter
from mailproxy.config.loader import Config
from mailproxy.config.schema import ROOT
from mailproxy.config.schema.builtin import SERVICES
from mailproxy.config.schema.define import APPEND, SectionType, Setting
from mailproxy.config.tree import Node, Written

HIDDEN = "# hidden, use -P to show it"
_HIDDEN_PART = "#hidden_use-P_to_show#"
_SECRET_KEY = re.compile(r"_(password|key|nonce)\Z|\Assl_dh")
_SECRET_PART = re.compile(r"((?:\A|[\s,_])(?:pass|password|secret|key|nonce)=)\S*")
#: Sections are sorted as the path keys they could be written as.
_SORT_ESCAPES = str.maketrans({"/": "\\s", " ": "\\_"})
_ESCAPE = re.compile(r"([\\\"'])")

#: A line to print: (sort key, lines).
_Block = tuple[str, list[str]]


class _Dumper:
    __slots__ = ("_changed_only", "_secrets")

    def __init__(self, changed_only: bool, secrets: bool) -> None:
        self._changed_only = changed_only
        self._secrets = secrets

    def lines(self, node: Node, builtin: dict[str, str] | None = None, own_only: bool = False) -> list[str]:
        """The settings and sections of `node`, sorted.  `own_only`: a filter, where only what is written counts."""
        blocks = [*self._settings(node, builtin or {}, own_only), *self._sections(node, own_only)]
        return [line for _, block in sorted(blocks, key=lambda block: block[0]) for line in block]

    def _settings(self, node: Node, builtin: dict[str, str], own_only: bool) -> Iterator[_Block]:
        rows = dict(node.type.settings)
        for name in node.settings:
            rows.setdefault(name, Setting(name, units.TEXT, ""))
        for name, row in rows.items():
            if name == node.type.title and node.type.naming != APPEND:
                continue
            default = builtin.get(name, row.default)
            written = node.settings.get(name)
            text = _shown(written, row, default)
            # Inside sections Dovecot shows all that is written, at the top only what differs from the default.
            nested = node.type is not ROOT and bool(text or default)
            changed = written is not None and (own_only or nested or text != _shown(None, row, default))
            forced = node.type.name == "namespace" and name in ("location", "prefix")
            if changed or forced or not (self._changed_only or own_only):
                yield name, [f"{name} = {self._value(name, text)}"]

    def _value(self, name: str, text: str) -> str:
        if not self._secrets:
            if text and _SECRET_KEY.search(name):
                return HIDDEN
            text = _SECRET_PART.sub(rf"\1{_HIDDEN_PART}", text)
            if _HIDDEN_PART in text:
                return text
        if "#" in text or text != text.strip(" \t") or (len(text) > 1 and text[0] in "'\"" and text[-1] == text[0]):
            return '"' + _ESCAPE.sub(r"\\\1", text) + '"'
        return text

    def _sections(self, node: Node, own_only: bool) -> Iterator[_Block]:
        for kind in node.type.children.values():
            written = node.children.get(kind.name, {})
            defaults = _builtin_sections(node, kind)
            names = list(written) if own_only else list(dict.fromkeys((*defaults, *written)))
            for position, name in enumerate(names):
                child = written.get(name) or Node(kind, name)
                inner = self.lines(child, defaults.get(name), own_only)
                if not inner and (self._changed_only or own_only):
                    continue
                order = f"{position:06}" if kind.naming == APPEND else name.translate(_SORT_ESCAPES)
                yield f"{kind.name}/{order}/", [_head(kind, name), *(f"  {line}" for line in inner), "}"]


def _shown(written: Written | None, row: Setting, default: str) -> str:
    if written is None:
        return default if default.startswith("$") else units.render(row.kind, default)
    if written.source or written.shown != written.text:
        return written.shown
    return units.render(row.kind, written.text)


def _builtin_sections(node: Node, kind: SectionType) -> dict[str, dict[str, str]]:
    """What exists without being written: name -> settings that differ from a new section's."""
    if node.type is ROOT and kind.name == "service":
        return {name: row.settings for name, row in SERVICES.items()}
    if node.type.name == "service" and node.name in SERVICES:
        return {name: texts for section, name, texts in SERVICES[node.name].listeners if section == kind.name}
    return {}


def _head(kind: SectionType, name: str) -> str:
    if kind.naming == APPEND or name.startswith("\0") or not name:
        return f"{kind.name} {{"
    if re.search(r"[\s\"#{]", name):
        name = '"' + _ESCAPE.sub(r"\\\1", name) + '"'
    return f"{kind.name} {name} {{"


def _conditions(row: Filter) -> list[str]:
    heads = []
    for kind, net in (("local", row.local), ("remote", row.remote)):
        if net is not None:
            text = str(net.network_address) if net.prefixlen == net.max_prefixlen else str(net)
            heads.append(f"{kind} {text} {{")
    if row.named:
        name = row.local_name
        heads.insert(1 if row.local is not None else 0,
                     f'local_name "{name}" {{' if len(name.split()) != 1 else f"local_name {name} {{")
    if row.protocol:
        heads.append(f"protocol {row.protocol} {{")
    return heads


def _version() -> str:
    return str(getattr(mailproxy, "__version__", "0"))


def dump(conf: Config, out: TextIO, changed_only: bool, *, show_secrets: bool = False) -> None:
    """Print the configuration, the weakest filters first so that reading it again gives the same."""
    dumper = _Dumper(changed_only, show_secrets)
    lines = [f"# mailproxy {_version()}: {conf.path}", *dumper.lines(conf.top.node)]
    for scope in sorted(conf.scopes, key=lambda scope: (scope.filter.strength, scope.order)):
        inner = dumper.lines(scope.node, own_only=True)
        if not inner:
            continue
        heads = _conditions(scope.filter)
        lines += ["  " * depth + head for depth, head in enumerate(heads)]
        lines += ["  " * len(heads) + line for line in inner]
        lines += ["  " * depth + "}" for depth in reversed(range(len(heads)))]
    out.write("".join(f"{line}\n" for line in lines))
