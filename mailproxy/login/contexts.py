"""The TLS contexts of a login service: for clients, by server name, and for backends; and how they follow their files.

In: the configuration, in the master, where files can be read.  Out: TlsContexts.  With few server names everything is
made and checked at once; with more, the contexts of names are made when somebody asks for them, in a worker, or by the
master in its spare time (`Keeper.look`), and then workers forked later have them.

A renewed certificate goes into the master's contexts and, as a record, into the notify file of the service, from which
running workers take it (`Keeper.catch_up`).
"""
from __future__ import annotations

import contextlib
import json
import os
import ssl
import struct
import time
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from mailproxy.config.filters import name_matches
from mailproxy.errors import Problem
from mailproxy.ipc.contract import News
from mailproxy.log.pipe import ERROR, INFO
from mailproxy.login import served as store
from mailproxy.login.served import Served
from mailproxy.net import tls

#: Server names whose contexts are made before the service starts; a context takes a millisecond.
EAGER = 256
#: Seconds between two looks at all files, and for one part of a look: meanwhile the master does nothing else.
LOOK_EVERY, LOOK_FOR = 5.0, 0.01
#: Seconds between two parts of a look.
LOOK_AGAIN = 0.05
#: A file in the work directory is needed for a millisecond; one that is so many seconds old was left by a dead process.
STALE = 60.0
#: Bytes of records; memory of the kernel's until the next reload.
JOURNAL_MAX = 1 << 26
_LENGTH = struct.Struct("=I")

Address = IPv4Address | IPv6Address
#: A client's two addresses; None: any.
Pair = tuple[Address | None, Address | None]


@dataclass(slots=True)
class TlsContexts:
    """For connections of one kind.  `server` None: TLS towards clients is off."""

    server: ssl.SSLContext | None
    by_name: dict[str, Served]          # lower-case server name, also "*.domain"
    verified: ssl.SSLContext            # towards backends
    any_cert: ssl.SSLContext
    main: Served | None = None          # what `server` is made of
    patterns: tuple[str, ...] = ()      # keys of by_name with a `*` in another place than the first label

    def for_name(self, name: str) -> ssl.SSLContext | None:
        """The context of a `local_name` block; a `*` stands for one label."""
        name = name.lower()
        found = self.by_name.get(name)
        if found is None:
            found = self.by_name.get("*." + name.partition(".")[2])
            for pattern in self.patterns:
                if found is None and name_matches(pattern, name):
                    found = self.by_name[pattern]
            if found is None:
                return None
        try:
            return found.context()
        except tls.BadTls:              # the master's log says so
            return None

    def refresh(self) -> None:
        """After a renewal: has the main context become another one?"""
        if self.main is not None and self.main.context() is not self.server:
            self.server = self.main.context()
            if self.by_name:
                tls.choose_by_name(self.server, self.for_name)


class Keeper:
    """Everything that one service serves, and what has become of its files.  The order of `_items` is the same in
    the master and in its children."""

    __slots__ = ("_at", "_end", "_first", "_items", "_said", "_sets", "_versions", "_work")

    def __init__(self, work: str = "") -> None:
        """`work`: the directory where chrooted workers may put what OpenSSL must read from a file."""
        self._work = work
        self._items: list[Served] = []
        self._sets: list[TlsContexts] = []
        self._versions: list[int] = []
        self._at = 0                    # of the look that is under way
        self._first = True              # of all looks
        self._said: set[str] = set()
        self._end = 0                   # of the records written, or read

    def add(self, contexts: TlsContexts) -> None:
        self._sets.append(contexts)
        new = [*([contexts.main] if contexts.main is not None else []), *contexts.by_name.values()]
        held = set(self._items)
        for item in dict.fromkeys(new):
            if item not in held:
                self._items.append(item)
                self._versions.append(item.version)

    # --- in the master ---------------------------------------------------------------------------------------------

    def look(self) -> News:
        """A part of a look at all files; the rest in a moment, or all of it again later."""
        news = News()
        if self._work and self._items:
            self._make_work_directory(news)
        begun = time.monotonic()
        while self._at < len(self._items):
            self._look_at(self._at, news)
            self._at += 1
            if time.monotonic() - begun > LOOK_FOR:
                news.again = LOOK_AGAIN
                break
        else:
            self._at = 0
            self._said.clear()
            self._first = False
            news.again = LOOK_EVERY
        if news.data:
            for contexts in self._sets:
                contexts.refresh()
        return news

    def _make_work_directory(self, news: News) -> None:
        try:
            with contextlib.suppress(FileExistsError):
                os.mkdir(self._work)
            os.chmod(self._work, 0o1733)        # anybody may put a file there, nobody may see what there is
            for entry in os.scandir(self._work):
                if entry.stat(follow_symlinks=False).st_mtime < time.time() - STALE:
                    os.unlink(entry)
        except OSError as error:
            news.lines.append((ERROR, f"mkdir({self._work}) failed: {error.strerror}"))
        self._work = ""

    def _look_at(self, index: int, news: News) -> None:
        item = self._items[index]
        if self._first:
            try:
                item.context()
            except tls.BadTls as error:
                self._say(news, ERROR, f"{error} ({_files(item)})")
        if not item.watched():
            return
        text = item.look()
        if text:
            self._say(news, ERROR, text)
        if item.version == self._versions[index]:
            return
        self._versions[index] = item.version
        self._say(news, INFO, f"Renewed certificate is in use ({_files(item)})")
        data = json.dumps([index, [[pair.cert, pair.key] for pair in item.recipe.pairs]]).encode()
        if self._end + _LENGTH.size + len(data) > JOURNAL_MAX:
            news.lines.append((ERROR, "Too many renewed certificates, running processes get no more until a reload"))
            return
        news.data += _LENGTH.pack(len(data)) + data
        self._end += _LENGTH.size + len(data)

    def _say(self, news: News, kind: int, text: str) -> None:
        """Once in a look: several names, or the main context and one, may have the same files."""
        if text not in self._said:
            self._said.add(text)
            news.lines.append((kind, text))

    # --- in a worker -----------------------------------------------------------------------------------------------

    def catch_up(self, fd: int) -> list[str]:
        """Take what the master has written since this process was forked, or since the last time.  Returns what went
        wrong, for the log."""
        done, problems = False, []
        while fd >= 0:
            head = os.pread(fd, _LENGTH.size, self._end)
            if len(head) < _LENGTH.size:
                break
            size = _LENGTH.unpack(head)[0]
            data = os.pread(fd, size, self._end + _LENGTH.size)
            if len(data) < size:        # being written
                break
            self._end += _LENGTH.size + size
            index, pairs = json.loads(data)
            item = self._items[index]
            try:
                item.renew(tuple(tls.Pair(cert, key, old.password)
                                 for (cert, key), old in zip(pairs, item.recipe.pairs, strict=True)))
            except tls.BadTls as error:
                problems.append(f"Can't use the renewed certificate ({_files(item)}): {error}")
            done = True
        if done:
            for contexts in self._sets:
                contexts.refresh()
        return problems


def _files(item: Served) -> str:
    return ", ".join(path for pair in item.recipe.paths for path in pair if path) or "inline certificate"


def build(conf: Any, protocol: str, pair: Pair, problems: list[Problem], keeper: Keeper) -> TlsContexts:
    """For one protocol, and clients of such addresses."""
    view = conf.view(protocol, local=pair[0], remote=pair[1])
    main = _main(conf, view, problems)
    by_name = _named(conf, protocol, pair, problems) if main is not None else {}
    settings = view.ssl
    try:
        contexts = TlsContexts(main.context() if main is not None else None, by_name,
                               _client(settings, verify=settings.ssl_client_require_valid_cert),
                               _client(settings, verify=False), main,
                               tuple(name for name in by_name if "*" in name.removeprefix("*.")))
    except tls.BadTls as error:
        problems.append(problem_of(conf, view, error))
        empty = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        return TlsContexts(None, by_name, empty, empty)
    if contexts.server is not None:
        tls.choose_by_name(contexts.server, contexts.for_name)
    keeper.add(contexts)
    return contexts


def problem_of(conf: Any, view: Any, error: tls.BadTls, head: str = "") -> Problem:
    """With the place of the setting that is to blame."""
    written = view.written(error.setting)
    return Problem(conf.path, 0, head + str(error)) if written is None \
        else Problem(written.path, written.line, head + str(error))


def _main(conf: Any, view: Any, problems: list[Problem]) -> Served | None:
    if view.ssl.ssl == "no" or not view.ssl.ssl_cert:
        return None
    main = Served(store.recipe_of(view))
    try:
        main.context()
    except tls.BadTls as error:
        problems.append(problem_of(conf, view, error))
        return None
    return main


def _named(conf: Any, protocol: str, pair: Pair, problems: list[Problem]) -> dict[str, Served]:
    by_name: dict[str, Served] = {}
    eager = len(conf.local_names) <= EAGER
    for name in conf.local_names:
        view = conf.view(protocol, local=pair[0], remote=pair[1], local_name=name)
        item = by_name.setdefault(name.lower(), store.shared(store.recipe_of(view, named=True)))
        if eager:
            try:
                item.context()
            except tls.BadTls as error:
                problems.append(problem_of(conf, view, error, f"local_name {name}: "))
    return by_name


def _client(settings: Any, *, verify: bool) -> ssl.SSLContext:
    pair = None
    if settings.ssl_client_cert:
        pair = tls.Pair(settings.ssl_client_cert, settings.ssl_client_key.reveal())
    return tls.client_context(store.options_of(settings), verify=verify, ca=settings.ssl_ca,
                              ca_file=settings.ssl_client_ca_file, ca_dir=settings.ssl_client_ca_dir,
                              require_crl=settings.ssl_require_crl and "BEGIN X509 CRL" in settings.ssl_ca, pair=pair)
