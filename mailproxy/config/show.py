"""Parts of a configuration for the command line: settings and sections by name, and the settings that filters select.

In: a Config, words such as `imap_capability`, `service/imap-login` or `passdb/0/driver`, conditions such as
`protocol=imap`.  Out: lines; LookupError for a name that does not exist, ValueError for a condition that is none.
Knows no command line.
"""
from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple, TextIO

from mailproxy.config import paths
from mailproxy.config.dump import ALL, CHANGED, WRITTEN, Dumper, Style, dump
from mailproxy.config.filters import Address
from mailproxy.config.loader import Config
from mailproxy.config.networks import parse_network
from mailproxy.config.schema import ROOT
from mailproxy.config.schema.define import APPEND
from mailproxy.config.tree import Node

_SCOPES = {"n": CHANGED, "N": WRITTEN, "a": ALL, "d": ALL}


class Conditions(NamedTuple):
    """What is known of a connection."""

    protocol: str = ""
    local: Address | None = None
    remote: Address | None = None
    local_name: str = ""


def conditions(words: Iterable[str]) -> Conditions:
    """From `service=imap` or `protocol=imap`, `lname=NAME`, `local=ADDRESS`, `remote=ADDRESS`; later ones count."""
    found = Conditions()
    for word in words:
        key, equals, value = word.partition("=")
        if equals and key in ("service", "protocol"):
            found = found._replace(protocol=value)
        elif equals and key == "lname":
            found = found._replace(local_name=value.lower())
        elif equals and key == "local":
            found = found._replace(local=_address(key, value))
        elif equals and key == "remote":
            found = found._replace(remote=_address(key, value))
        else:
            raise ValueError(f"Unknown filter argument: {word}")
    return found


def _address(key: str, text: str) -> Address:
    """The address of an address or network."""
    try:
        parse_network(text)
        return parse_network(text.partition("/")[0])[0].network_address
    except ValueError as error:
        raise ValueError(f"{key} filter: {error}") from None


def selected(conf: Config, known: Conditions) -> Node:
    """The top level with the blocks laid over it that match."""
    merged = Node(ROOT, "")
    for node in reversed(conf.sections(*known)):
        _merge(merged, node)
    return merged


def _merge(into: Node, node: Node) -> None:
    """Lay `node` over what is there; databases of blocks come before the others."""
    into.settings.update(node.settings)
    for kind, children in node.children.items():
        present = into.children.setdefault(kind, {})
        if node.type.children[kind].naming == APPEND:
            own = {f"\0{node.line}{name}" if name in present else name: child for name, child in children.items()}
            into.children[kind] = {**own, **present}
            continue
        for name, child in children.items():
            target = Node(child.type, child.name, child.path, child.line)
            for layer in (present.get(name), child):
                if layer is not None:
                    _merge(target, layer)
            present[name] = target


def show(conf: Config, out: TextIO, flags: str, words: Iterable[str], names: Iterable[str]) -> None:
    """Print what the command line asks for.  `flags`: letters of n (changed), N (written), a (all), d (defaults), the
    last of them counts; P (secrets), x (expanded), s (rare ones, too), h (values only).  `words`: conditions.  Who
    names a setting wants its value: it is neither hidden nor quoted."""
    scopes = [letter for letter in flags if letter in _SCOPES]
    letter = scopes[-1] if scopes else "a"
    style = Style(_SCOPES[letter], secrets="P" in flags, expand="x" in flags, rare="s" in flags)
    known = conditions(words)
    top = Node(ROOT, "") if letter == "d" else selected(conf, known)
    if not names:
        dump(conf, out, style, top,
             [scope for scope in conf.scopes if scope.filter.possible(*known)] if letter != "d" else [])
        return
    dumper = Dumper(style, conf.top.node)
    for path in names:
        try:
            for is_value, text in _lines(dumper, top, path):
                out.write(f"{path} = {text}\n" if is_value and "h" not in flags else f"{text}\n")
        except LookupError:
            raise LookupError(f"Unknown setting: {path}") from None


def _lines(dumper: Dumper, top: Node, path: str) -> Iterator[tuple[bool, str]]:
    """(is it the value of the setting?, line) of what the path key leads to."""
    words = path.split("/")
    try:
        found = paths.find(top, words)
    except LookupError:
        node, kind, wanted = paths.find_sections(top, words)
        for name, lines in dumper.sections(node, kind):
            if wanted in (None, name):
                yield from ((False, line) for line in lines)
        return
    if dumper.shows(found.node, found.row, found.default):
        yield True, dumper.text(found.written, found.row, found.default)
