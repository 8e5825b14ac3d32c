"""What an LMTP case is: data only."""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

#: passdb fields of a user on backend a, b, c.
ON_A, ON_B, ON_C = (f"proxy=y host=127.0.0.1 port=$port{letter}" for letter in "abc")
#: What most backends do until the recipients come.
GREET = """
    > 220 be LMTP
    < ^LHLO
    >> 250-be\\r\\n250-8BITMIME\\r\\n250-ENHANCEDSTATUSCODES\\r\\n250-PIPELINING\\r\\n250 CHUNKING\\r\\n
"""
#: One recipient is taken and delivered; the body of all messages ends with the line `end`.
RCPT = """
    < ^RCPT
    >> 250 2.1.0 OK\\r\\n250 2.1.5 OK\\r\\n
"""
SAVED = """
    < ^end
    > 250 2.0.0 <u> saved-by-be
    < ^QUIT
    > 221 2.0.0 Bye
"""
ACCEPT = GREET + RCPT + SAVED
#: The usual client.
START = """
    < ^220
    > LHLO mx.test
    < ^250\\x20
    > MAIL FROM:<s@test>
    < ^250
"""
TO = """
    > RCPT TO:<$u>
    < ^[245]
"""
DATA = """
    > DATA
    < ^354
    >> Subject: hi\\r\\n\\r\\nend\\r\\n.\\r\\n
    < ^[245]
"""
QUIT = """
    > QUIT
    eof
"""
ALL = START + TO + DATA + QUIT


@dataclass(frozen=True, slots=True)
class Scenario:
    """One dialogue.  The user's name is the scenario's name; a second user is `$u` with a letter behind it."""

    name: str
    client: str = ALL
    a: str = ACCEPT
    b: str = ACCEPT
    c: str = ACCEPT
    #: passdb fields of user `$u`; None: there is no such user
    fields: str | None = ON_A
    #: further users: name ($u is filled in) -> fields
    users: Mapping[str, str] = field(default_factory=dict)
    dovecot_breaks: bool = False
    log: bool = True
    differs: str = ""
    substitute: tuple[tuple[str, str], ...] = ()
    expected_client: str | None = None
    expected_backend: str | None = None
    expected_log: str | None = None


@dataclass(frozen=True, slots=True)
class Group:
    """Scenarios that share a daemon; `conf` is added to the base configuration."""

    name: str
    scenarios: tuple[Scenario, ...]
    conf: str = ""
