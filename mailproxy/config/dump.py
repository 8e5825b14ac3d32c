"""The configuration as text that can be read again: what differs from the defaults, what is written, or everything.

In: a loaded Config and a Style.  Out: lines to a text stream.  Secrets are hidden unless asked for; `$variables` and
`<files` stay as they are written, unless the style says to expand them.
"""
from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple, TextIO

import mailproxy
from mailproxy.config import units
from mailproxy.config.filters import Filter
from mailproxy.config.loader import Config
from mailproxy.config.paths import builtin_sections
from mailproxy.config.schema import ROOT
from mailproxy.config.schema.define import APPEND, SectionType, Setting
from mailproxy.config.tree import Node, Scope, Written
from mailproxy.config.view import text_of

#: Which settings: those that differ from the defaults, all that are written, all that exist.
CHANGED, WRITTEN, ALL = range(3)

HIDDEN = "# hidden, use -P to show it"
_HIDDEN_PART = "#hidden_use-P_to_show#"
_SECRET_KEY = re.compile(r"_(password|key|nonce)\Z|\Assl_dh")
_SECRET_PART = re.compile(r"((?:\A|[\s,_])(?:pass|password|secret|key|nonce)=)\S*")
#: User name and password of a URL.
_SECRET_URL = re.compile(r"(://)[^/@:\s]+:[^/@\s]*(?=@)")
#: Sections are sorted as the path keys they could be written as.
_SORT_ESCAPES = str.maketrans({"/": "\\s", " ": "\\_"})
_ESCAPE = re.compile(r"([\\\"'])")
#: Settings that are shown though nobody wrote them, so that a section names what it is about.
_ALWAYS = {"namespace": ("location", "prefix")}

#: Settings that nobody needs to know of until somebody writes them; and those that have no default to show.
_RARE = re.compile(r"mail_cache_(?!fields)|mail_index_(?:log|rewrite)")
_UNSET = ("alias_for", "submission_backend_capabilities")

#: A line to print: (sort key, lines).
_Block = tuple[str, list[str]]


class Style(NamedTuple):
    """How to print.  `expand`: values instead of `$variables` and `<files`.  `rare`: all really means all."""

    scope: int = CHANGED
    secrets: bool = False
    expand: bool = False
    rare: bool = False


class Dumper:
    """Prints sections in one style; `top`: where built-in `$variables` are looked up."""

    __slots__ = ("_style", "_top")

    def __init__(self, style: Style, top: Node) -> None:
        self._style = style
        self._top = top

    def lines(self, node: Node, builtin: dict[str, str] | None = None, in_filter: bool = False) -> list[str]:
        """The settings and sections of `node`, sorted.  `in_filter`: only what is written counts."""
        blocks = [*self._settings(node, builtin or {}, in_filter), *self._sections(node, in_filter)]
        return [line for _, block in sorted(blocks, key=lambda block: block[0]) for line in block]

    def _settings(self, node: Node, builtin: dict[str, str], in_filter: bool) -> Iterator[_Block]:
        rows = dict(node.type.settings)
        for name in node.settings:
            rows.setdefault(name, Setting(name, units.TEXT, ""))
        for name, row in rows.items():
            if name == node.type.title and node.type.naming != APPEND:
                continue
            if name not in node.settings and (name in _UNSET or (not self._style.rare and _RARE.match(name))):
                continue
            default = builtin.get(name, row.default)
            if self.shows(node, row, default, in_filter):
                text = self.text(node.settings.get(name), row, default)
                yield name, [f"{name} = {self._value(name, text)}"]

    def shows(self, node: Node, row: Setting, default: str, in_filter: bool = False) -> bool:
        """Does this style print the setting of a section?"""
        scope = WRITTEN if in_filter else self._style.scope
        written = node.settings.get(row.name)
        if scope == ALL or row.name in _ALWAYS.get(node.type.name, ()):
            return True
        appended = node.type.naming == APPEND
        if scope == WRITTEN:
            return written is not None or (appended and row.name == node.type.title)
        # Inside other sections Dovecot shows all that is written.
        return written is not None and (not (appended or node.type is ROOT)
                                        or _normal(written, row) != _normal(None, row, default))

    def text(self, written: Written | None, row: Setting, default: str = "") -> str:
        """The value as this style shows it."""
        if not self._style.expand:
            return _normal(written, row, default)
        if written is not None:
            text = text_of(written, row)
        elif default.startswith("$"):
            name = default[1:]
            text = self.text(self._top.settings.get(name), ROOT.settings[name], ROOT.settings[name].default)
        else:
            text = default
        return text if written is not None and written.source else units.render(row.kind, text)

    def _value(self, name: str, text: str) -> str:
        if not self._style.secrets:
            if text and _SECRET_KEY.search(name):
                return HIDDEN
            text = _SECRET_PART.sub(rf"\1{_HIDDEN_PART}", _SECRET_URL.sub(rf"\1{_HIDDEN_PART}", text))
            if _HIDDEN_PART in text:
                return text
        if "#" in text or text != text.strip(" \t") or (len(text) > 1 and text[0] in "'\"" and text[-1] == text[0]):
            return '"' + _ESCAPE.sub(r"\\\1", text) + '"'
        return text

    def _sections(self, node: Node, in_filter: bool) -> Iterator[_Block]:
        for kind in node.type.children.values():
            for position, (name, inner) in enumerate(self.sections(node, kind, in_filter)):
                order = f"{position:06}" if kind.naming == APPEND else name.translate(_SORT_ESCAPES)
                yield f"{kind.name}/{order}/", inner

    def sections(self, node: Node, kind: SectionType, in_filter: bool = False) -> Iterator[tuple[str, list[str]]]:
        """(name, lines) of the sections of one type that have something to show."""
        written = node.children.get(kind.name, {})
        defaults = builtin_sections(node, kind)
        everything = self._style.scope == ALL and not in_filter
        for name in dict.fromkeys((*(() if in_filter else defaults), *written)):
            inner = self.lines(written.get(name) or Node(kind, name), defaults.get(name), in_filter)
            if inner or everything:
                yield name, [_head(kind, name), *(f"  {line}" for line in inner), "}"]


def _normal(written: Written | None, row: Setting, default: str = "") -> str:
    """The value in its normal form, unexpanded."""
    if written is None:
        return default if default.startswith("$") else units.render(row.kind, default)
    if written.source or written.shown != written.text:
        return written.shown
    return units.render(row.kind, written.text)


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


DEFAULT_STYLE = Style()


def dump(conf: Config, out: TextIO, style: Style = DEFAULT_STYLE, top: Node | None = None,
         scopes: Iterable[Scope] | None = None) -> None:
    """Print the configuration, the weakest filters first so that reading it again gives the same.  `top` and `scopes`:
    what stands at the top level and the filters, instead of what the files say."""
    dumper = Dumper(style, conf.top.node)
    lines = [f"# mailproxy {mailproxy.__version__}: {conf.path}", *dumper.lines(top or conf.top.node)]
    for scope in sorted(conf.scopes if scopes is None else scopes,
                        key=lambda scope: (scope.filter.strength, scope.order)):
        inner = dumper.lines(scope.node, in_filter=True)
        if not inner:
            continue
        heads = _conditions(scope.filter)
        lines += ["  " * depth + head for depth, head in enumerate(heads)]
        lines += ["  " * len(heads) + line for line in inner]
        lines += ["  " * depth + "}" for depth in reversed(range(len(heads)))]
    out.write("".join(f"{line}\n" for line in lines))
