"""The protocols that exist, by the name that `protocol` blocks and services use."""
from __future__ import annotations

from mailproxy.proto.imap.dialect import Imap
from mailproxy.proto.pop3.dialect import Pop3
from mailproxy.proto.sieve.dialect import Sieve
from mailproxy.proto.spec import Dialect
from mailproxy.proto.submission.dialect import Submission

_DIALECTS: tuple[Dialect, ...] = (Imap(), Pop3(), Submission(), Sieve())
_ALL = {dialect.name: dialect for dialect in _DIALECTS}


def find(protocol: str) -> Dialect:
    """KeyError for a protocol without a dialect."""
    return _ALL[protocol]
