"""Settings for connections that `local` or `remote` blocks single out, made in the master, where files are read.

In: the configuration and how one Setup is made of a view of it.  Out: the Setup for two addresses.  Limit: VIEWS_MAX
combinations of blocks are made ready; those beyond are made when somebody connects, and then without files of their
own, which a chrooted worker cannot read.
"""
from __future__ import annotations

import itertools
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any, Generic, TypeVar

from mailproxy.errors import Problem
from mailproxy.login import contexts
from mailproxy.login.contexts import Address, Keeper, Pair, TlsContexts
from mailproxy.net.addr import BadAddress, Networks, words

VIEWS_MAX = 4096
NOBODY = Networks([])
S = TypeVar("S")


def networks(conf: Any, setting: str, value: str, problems: list[Problem]) -> Networks:
    try:
        return Networks(words(value))
    except BadAddress as error:
        problems.append(Problem(conf.path, 0, f"{setting}: Invalid network '{error}'"))
        return NOBODY


class Views(Generic[S]):
    """`make(view, contexts, problems)` makes one; `main` and `main_contexts` are those of connections without any."""

    __slots__ = ("_conf", "_keeper", "_made", "_main_contexts", "_main_ssl", "_make_setup", "_protocol")

    def __init__(self, conf: Any, protocol: str, main: S, main_contexts: TlsContexts, keeper: Keeper,
                 make: Callable[[Any, TlsContexts, list[Problem]], S]) -> None:
        self._conf, self._protocol = conf, protocol
        self._main_contexts = main_contexts
        self._keeper = keeper
        self._make_setup = make
        view = conf.view(protocol)
        self._main_ssl = view.ssl
        self._made: dict[int, S] = {id(view): main}

    def prepare(self, problems: list[Problem]) -> None:
        """Make one for each combination of blocks: the ends of a network stand for all of it."""
        locals_: dict[Address | None, None] = {None: None}
        remotes: dict[Address | None, None] = {None: None}
        for scope in self._conf.scopes:
            for net, found in ((scope.filter.local, locals_), (scope.filter.remote, remotes)):
                if net is not None:
                    found.update({net[0]: None, net[-1]: None})
        for pair in itertools.islice(itertools.product(locals_, remotes), VIEWS_MAX):
            self._make(pair, problems)

    def find(self, lip: str, rip: str, problems: list[Problem]) -> S:
        return self._make((ip_address(lip.partition("%")[0]), ip_address(rip.partition("%")[0])), problems)

    def _make(self, pair: Pair, problems: list[Problem]) -> S:
        view = self._conf.view(self._protocol, local=pair[0], remote=pair[1])
        setup = self._made.get(id(view))
        if setup is None:
            same = view.ssl == self._main_ssl and not self._conf.local_names
            made = self._main_contexts if same else contexts.build(self._conf, self._protocol, pair, problems,
                                                                   self._keeper)
            setup = self._made[id(view)] = self._make_setup(view, made, problems)
        return setup
