"""What a password scheme is: a row of the registry."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mailproxy.errors import MailproxyError


class SchemeError(MailproxyError):
    """Stored data that its scheme cannot read; the text is fit for the log and holds no secret."""


class UnknownScheme(SchemeError):
    """No such scheme, or an encoding that does not exist."""


#: (plain password, stored data decoded, user) -> does it match
Verify = Callable[[bytes, bytes, str], bool]
#: (plain password, rounds or 0, user) -> data, decoded
Generate = Callable[[bytes, int, str], bytes]

TEXT, HEX, BASE64 = range(3)


@dataclass(frozen=True, slots=True)
class Scheme:
    """`native`: how data is written without a suffix.  `size`: raw length when it is fixed, else 0."""

    name: str
    native: int
    size: int
    verify: Verify
    generate: Generate
