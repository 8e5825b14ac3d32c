"""The protocols that exist, by the name that `protocol` blocks and services use; only those in use are imported."""
from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import import_module

from mailproxy.proto.spec import Dialect

#: Name -> (package, class of its module `dialect`).
_DIALECTS: Mapping[str, tuple[str, str]] = {
    "imap": ("imap", "Imap"),
    "pop3": ("pop3", "Pop3"),
    "submission": ("submission", "Submission"),
    "sieve": ("sieve", "Sieve"),
}


@cache
def find(protocol: str) -> Dialect:
    """KeyError for a protocol without a dialect."""
    package, name = _DIALECTS[protocol]
    dialect: Dialect = getattr(import_module(f"mailproxy.proto.{package}.dialect"), name)()
    return dialect
