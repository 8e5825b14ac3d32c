"""What a case is: data only."""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

#: Passdb fields of a scenario's user unless it brings its own.
PROXIED = "proxy=y host=127.0.0.1 port=$port"
CAPABILITIES = "IMAP4rev1 SASL-IR LOGIN-REFERRALS ID ENABLE IDLE LITERAL+ AUTH=PLAIN"
#: What the proxy tells of a plain client from 127.0.0.1 to the plain listener, as it stands in transcripts.
ID_PARAMETERS = ('"x-session-id" "SESSION" "x-originating-ip" "127.0.0.1" "x-originating-port" "$client" '
                 '"x-connected-ip" "127.0.0.1" "x-connected-port" "$imap" "x-proxy-ttl" "4"')
#: What most backends do until the login command is there.
GREET = f"""
    > * OK [CAPABILITY {CAPABILITIES}] Backend ready.
    < ^I ID
"""
LOGGED_IN = """
    >> * ID ("name" "Backend")\\r\\nI OK ID completed.\\r\\nL OK [CAPABILITY IMAP4rev1 IDLE XTRA] Logged in\\r\\n
    serve
"""
#: The usual backend: says yes, then serves.
ACCEPT = GREET + """
    < ^L
""" + LOGGED_IN
#: The usual client.
LOGIN = """
    < ^\\* OK
    > a LOGIN $u pw
    < ^a
"""
NOOP = """
    > n NOOP
    < ^n
"""


@dataclass(frozen=True, slots=True)
class Scenario:
    """One dialogue.  The user's name is the scenario's name."""

    name: str
    client: str
    backend: str = ACCEPT
    #: passdb fields instead of, or behind, the usual ones; None: there is no such user
    fields: str | None = PROXIED
    extra: str = ""
    password: str = "pw"
    #: further users: name -> fields
    users: Mapping[str, str] = field(default_factory=dict)
    #: Dovecot itself does not get through it (it crashes or hangs); only with `differs`
    dovecot_breaks: bool = False
    #: compare the log lines too
    log: bool = True
    #: the name of a deliberate difference in docs/differences.md, and what mailproxy shall do (None: as Dovecot)
    differs: str = ""
    #: replacements in Dovecot's transcripts and log that give mailproxy's; for small differences
    substitute: tuple[tuple[str, str], ...] = ()
    expected_client: str | None = None
    expected_backend: str | None = None
    expected_log: str | None = None


@dataclass(frozen=True, slots=True)
class Group:
    """Scenarios that share a daemon.  `conf` is added to the base configuration, `login` to the login service."""

    name: str
    scenarios: tuple[Scenario, ...]
    conf: str = ""
    login: str = "service_count = 0\nprocess_min_avail = 1\nclient_limit = 500\nprocess_limit = 2"
    #: passdb sections; default: a passwd-file
    passdb: str = "passdb {\n  driver = passwd-file\n  args = $dir/users\n}"
    sqlite: bool = False
    #: one of servers.LOGINS
    protocol: str = "imap"
