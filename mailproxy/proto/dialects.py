"""The protocols that exist, by the name that `protocol` blocks and services use."""
from __future__ import annotations

from mailproxy.proto.imap.dialect import Imap
from mailproxy.proto.spec import Dialect

_ALL: dict[str, Dialect] = {"imap": Imap()}


def find(protocol: str) -> Dialect:
    """KeyError for a protocol without a dialect."""
    return _ALL[protocol]
