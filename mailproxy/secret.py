"""A text that must not be seen: passwords, private keys, cookies.

`Secret` has no readable repr or str, cannot be pickled or formatted, and compares in constant time.
The one way out is `reveal()`, so that `grep -rn 'reveal()'` lists every place that declassifies.
"""
from __future__ import annotations

import hmac
from typing import NoReturn


class Secret:
    """Holds one secret str.  Equality is constant-time in the content (not in the length)."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The text itself: for the wire or a hash function, never for a log line."""
        return self._text

    def __bool__(self) -> bool:
        return bool(self._text)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._text.encode("utf-8", "surrogateescape"),
                                   other._text.encode("utf-8", "surrogateescape"))

    def __hash__(self) -> int:
        return hash(self._text)

    def __repr__(self) -> str:
        return "Secret(hidden)"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return repr(self)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret cannot be pickled")
