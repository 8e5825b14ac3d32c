"""Contradicting filters, found when the files are loaded instead of when a client matches both.

Two filters that can match the same connection, neither a refinement of the other, must not set the same key.
"""
from __future__ import annotations

from collections.abc import Iterator

from mailproxy.config.filters import contradict
from mailproxy.config.schema import USED
from mailproxy.config.tree import Scope
from mailproxy.errors import Problem

#: Compared pairs of one key; thousands of name blocks against thousands of address blocks stop here.
MAX_PAIRS = 250_000
#: Protocols whose connections have addresses; a filter for another (`lda`) never meets one that asks for them.
_CONNECTED = ("imap", "pop3", "submission", "sieve", "lmtp")


def _kind(scope: Scope) -> tuple[bool, bool, bool, bool]:
    row = scope.filter
    return row.named, row.local is not None, row.remote is not None, bool(row.protocol)


def conflicts(scopes: list[Scope], protocols: tuple[str, ...]) -> Iterator[tuple[Problem, bool]]:
    """(what and where, fatal).  Fatal only for settings that are read before login; `protocols`: the enabled ones."""
    by_key: dict[str, dict[tuple[bool, ...], list[Scope]]] = {}
    for scope in scopes:
        name = scope.filter.protocol
        if name and not name.startswith("!") and (name not in _CONNECTED or name not in protocols):
            continue
        for key in scope.node.settings:
            by_key.setdefault(key, {}).setdefault(_kind(scope), []).append(scope)
    for key, groups in by_key.items():
        for one, two in _pairs(list(groups.values())):
            if contradict(one.filter, two.filter):
                later, earlier = (one, two) if one.order > two.order else (two, one)
                place = earlier.node.settings[key]
                here = later.node.settings[key]
                yield Problem(here.path, here.line, f"Conflict in setting {key} found from filter at"
                                                    f" {place.path}:{place.line}"), key in USED
                break


def _pairs(groups: list[list[Scope]]) -> Iterator[tuple[Scope, Scope]]:
    """Pairs from different groups: filters with the same kinds of conditions are ranked or apart, but for nets on
    both sides, where the group is paired with itself."""
    left = MAX_PAIRS
    for index, ones in enumerate(groups):
        crossed = _kind(ones[0])
        others = groups[index + 1:]
        if crossed[1] and crossed[2]:
            others = [ones, *others]
        for twos in others:
            for one in ones:
                for two in twos:
                    left -= 1
                    if left < 0:
                        return
                    yield one, two
