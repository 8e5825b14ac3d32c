"""What a key-value store is."""
from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from mailproxy.errors import MailproxyError

#: Bytes of a value that is taken; names in a list.
MAX_VALUE = 1024 * 1024
MAX_KEYS = 10_000_000
SHARED = "shared/"


class StoreFailed(MailproxyError):
    """The store gives no answer; the text is for the log."""


class Store(Protocol):
    """Keys begin with `shared/`.  Connects on first use, and again after a failure."""

    def get(self, key: str) -> str | None:
        """None: there is no such key.  StoreFailed."""

    def keys(self, prefix: str) -> Iterator[str]:
        """All keys that begin with the prefix.  StoreFailed."""

    def close(self) -> None: ...


def decoded(raw: bytes) -> str:
    if len(raw) > MAX_VALUE:
        raise StoreFailed(f"a value has more than {MAX_VALUE} bytes")
    return raw.decode("utf-8", "surrogateescape")


def raw(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
