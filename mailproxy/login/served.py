"""A server certificate with all that its TLS context is made of, made when it is first needed and renewed in place.

In: settings and the names of the files that the pairs came from.  Out: an `ssl.SSLContext`.  Thousands of names may be
configured: what services and reloads have in common is one object, and at most KEPT contexts exist at a time.

Renewal: whoever may read the files calls `look` now and then; a process that may not is given the pairs (`renew`).  A
context keeps its identity, and with it its ticket keys, unless the kinds of its keys change.
"""
from __future__ import annotations

import os
import ssl
from dataclasses import replace
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary, WeakValueDictionary

from mailproxy.config import includes
from mailproxy.net import openssl, tls

#: Contexts that are made on demand; 20 KiB each.
KEPT = 4096
#: A certificate with its chain, or a key.
FILE_MAX = 1 << 20

Pairs = tuple[tls.Pair, ...]


class Recipe(NamedTuple):
    """All that a server context depends on.  `paths`: the files of each pair, "" where a value stands in the
    configuration itself."""

    options: tls.Options
    pairs: Pairs
    paths: tuple[tuple[str, str], ...]
    client_ca: str = ""
    verify_client: bool = False
    require_crl: bool = False
    dh: str = ""

    def __repr__(self) -> str:
        return f"Recipe({self.paths})"

    def make(self, pairs: Pairs) -> ssl.SSLContext:
        try:
            return tls.server_context(self.options, pairs, client_ca=self.client_ca, verify_client=self.verify_client,
                                      require_crl=self.require_crl, dh=self.dh)
        except OSError as error:        # out of descriptors
            raise tls.BadTls("ssl_cert", f"Can't load SSL certificate: {error.strerror}") from None


def recipe_of(view: Any, *, named: bool = False) -> Recipe:
    """`named`: for a server name, where cipher suites and curves are chosen before the name is known."""
    settings = view.ssl
    password = settings.ssl_key_password.reveal()
    options = options_of(settings)
    if named:
        suites, curves = openssl.in_force()
        options = replace(options, cipher_suites=suites, curve_list=curves)
    pairs = [tls.Pair(settings.ssl_cert, settings.ssl_key.reveal(), password)]
    paths = [_paths(view, "ssl_cert", "ssl_key")]
    if settings.ssl_alt_cert:
        pairs.append(tls.Pair(settings.ssl_alt_cert, settings.ssl_alt_key.reveal(), password))
        paths.append(_paths(view, "ssl_alt_cert", "ssl_alt_key"))
    verify = settings.ssl_verify_client_cert
    return Recipe(options, tuple(pairs), tuple(paths), settings.ssl_ca if verify else "", verify,
                  verify and settings.ssl_require_crl, settings.ssl_dh)


def options_of(settings: Any) -> tls.Options:
    return tls.Options(settings.ssl_min_protocol, settings.ssl_cipher_list, settings.ssl_cipher_suites,
                       settings.ssl_curve_list, settings.ssl_options, settings.ssl_prefer_server_ciphers)


def _paths(view: Any, cert: str, key: str) -> tuple[str, str]:
    found = [written.source if (written := view.written(name)) is not None else "" for name in (cert, key)]
    # what came through a pipe is never there again
    return tuple(path and os.path.abspath(path) if not path.startswith(includes.PIPES) else ""
                 for path in found)  # type: ignore[return-value]


class Served:
    """One recipe, its context, and what is known of its files."""

    __slots__ = ("__weakref__", "_context", "_failure", "_seen", "_tried", "recipe", "version")

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.version = 0                # counts renewals
        self._context: ssl.SSLContext | None = None
        self._failure: tls.BadTls | None = None
        #: The state of the files that is in force or known to be bad; of those that could not be used at first sight.
        self._seen: object = None
        self._tried: object = None

    def context(self) -> ssl.SSLContext:
        """BadTls, each time, if it cannot be made.  The oldest one of all goes if there are too many."""
        context = self._context
        if context is not None:
            return context
        if self._failure is not None:
            raise self._failure
        try:
            context = self._context = self.recipe.make(self.recipe.pairs)
        except tls.BadTls as failure:
            self._failure = failure
            raise
        _kept[self] = None
        if len(_kept) > KEPT:
            oldest = next(iter(_kept))
            del _kept[oldest]
            oldest._context = None      # the next use makes another
        return context

    def watched(self) -> bool:
        """Does anything come from a file?"""
        return any(path for pair in self.recipe.paths for path in pair)

    def look(self) -> str:
        """Take up files that have changed.  Returns what to log about files that cannot be used; the old pairs then
        stay, and it is said once.  Files that are just being written get a second look first."""
        state = self._state()
        if state == self._seen:
            return ""
        try:
            pairs = self._read()
            if pairs != self.recipe.pairs:
                self.recipe.make(pairs)         # a context in use must not find out that they are broken
                self.renew(pairs)
        except (OSError, tls.BadTls) as error:
            if state != self._tried:
                self._tried = state
                return ""
            self._seen = state
            files = ", ".join(path for pair in self.recipe.paths for path in pair if path)
            why = error.strerror if isinstance(error, OSError) else error
            return f"Can't use the renewed certificate ({files}), the old one stays in use: {why}"
        self._seen = state
        return ""

    def renew(self, pairs: Pairs) -> None:
        """From now on this: pairs that are known to be good.  BadTls: the system lets us not."""
        if self._context is not None:
            kinds = tls.key_kinds(self.recipe.pairs)
            if kinds is not None and kinds == tls.key_kinds(pairs):
                tls.load_pairs(self._context, pairs)
            else:
                self._context = self.recipe.make(pairs)
        known = _known.get(self.recipe) is self
        if known:
            del _known[self.recipe]
        self.recipe = self.recipe._replace(pairs=pairs)
        if known:
            _known[self.recipe] = self
        self.version += 1
        self._failure = None

    def _state(self) -> object:
        return tuple(_stamp(path) for pair in self.recipe.paths for path in pair if path)

    def _read(self) -> Pairs:
        return tuple(tls.Pair(includes.read(cert, FILE_MAX) if cert else old.cert,
                              includes.read(key, FILE_MAX) if key else old.key, old.password)
                     for (cert, key), old in zip(self.recipe.paths, self.recipe.pairs, strict=True))


def _stamp(path: str) -> tuple[int, ...]:
    """Changes with the file; links are followed, so that a link to another file is a change as well."""
    try:
        found = os.stat(path)
    except OSError as error:
        return (error.errno or 0,)
    return (found.st_dev, found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size)


_known: WeakValueDictionary[Recipe, Served] = WeakValueDictionary()
_kept: WeakKeyDictionary[Served, None] = WeakKeyDictionary()


def shared(recipe: Recipe) -> Served:
    """The one object for a recipe: services of one master, and a configuration that was loaded again, share it."""
    found = _known.get(recipe)
    if found is None:
        found = _known[recipe] = Served(recipe)
    return found
