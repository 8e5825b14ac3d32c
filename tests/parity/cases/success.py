"""Logins that succeed: every way a client can say it, every way a backend can say yes; then the relay."""
from __future__ import annotations

from ..scenario import ACCEPT, CAPABILITIES, GREET, ID_PARAMETERS, LOGGED_IN, LOGIN, NOOP, Group, Scenario

_AUTH = r"""
    < ^\* OK
    > a AUTHENTICATE PLAIN $b64(\0$u\0pw)
    < ^a
"""
_CHALLENGED = r"""
    < ^\* OK
    > a AUTHENTICATE %s
    < ^\+
"""
_STARTTLS = """
    > s STARTTLS
    < ^s
    tls
    > a LOGIN $u pw
    < ^a
"""
_CLIENT_CAPABILITY = r"""
    < ^\* OK
    > c CAPABILITY
    < ^c
    > a LOGIN $u pw
    < ^a
""" + NOOP


def _says(*lines: str, banner: str = f"* OK [CAPABILITY {CAPABILITIES}] Backend ready.") -> str:
    """A backend that answers ID and login with these lines, all at once."""
    return f"> {banner}\n< ^L\n>> " + "".join(line + "\\r\\n" for line in lines) + "\nserve\n"


def _bare(*lines: str) -> str:
    """A backend whose banner has no capabilities."""
    return _says(*lines, banner="* OK hello")


#: A backend that knows of literals in the login command, of either kind.
_LITERAL = GREET + r"""
    < ^L LOGIN .* \{\d\+?\}$
    < .
""" + LOGGED_IN

_COMMANDS = (
    Scenario("login-plain", LOGIN + NOOP),
    Scenario("login-quoted", r"""
        < ^\* OK
        > a LOGIN "$u" "p\\"w\\\\x"
        < ^a
    """ + NOOP, password=r'p"w\\x'),
    Scenario("login-mixed", r"""
        < ^\* OK
        > tag.1 lOgIn "$u" pw
        < ^tag
    """ + NOOP),
    Scenario("login-literal", r"""
        < ^\* OK
        > a LOGIN {13}
        < ^\+
        > $u {2}
        < ^\+
        > pw
        < ^a
    """ + NOOP),
    Scenario("login-literal-plus", r"""
        < ^\* OK
        >> a LOGIN {18+}\r\n$u {2+}\r\npw\r\n
        < ^a
    """ + NOOP),
    Scenario("login-literal-quoted", r"""
        < ^\* OK
        > a LOGIN "$u" {2}
        < ^\+
        > pw
        < ^a
    """),
    Scenario("login-piecemeal", r"""
        < ^\* OK
        >> a LO
        wait 0.1
        >> GIN $u
        wait 0.1
        >>  pw\r
        wait 0.1
        >> \n
        < ^a
    """),
    Scenario("login-lf-only", r"""
        < ^\* OK
        >> a LOGIN $u pw\n
        < ^a
    """),
    Scenario("login-upper-case-user", r"""
        < ^\* OK
        > a LOGIN LOGIN-Upper-Case-User pw
        < ^a
    """),
    Scenario("login-empty-password", r"""
        < ^\* OK
        > a LOGIN $u ""
        < ^a
    """, password="", extra="nopassword=y"),
    Scenario("login-8bit-password", r"""
        < ^\* OK
        > a LOGIN $u {4+}
        > p\xc3\xa4w
        < ^a
    """ + NOOP, _LITERAL, password=r"p\xc3\xa4w", differs="IMAP literals to the backend",
             substitute=(("{4}", "{4+}"), ("in=225", "in=226"))),
    Scenario("login-many-escapes", r"""
        < ^\* OK
        > a LOGIN $u {6+}
        > """ + '"' * 6 + r"""
        < ^a
    """ + NOOP, _LITERAL, password='"' * 6, differs="IMAP literals to the backend",
             substitute=(("{6}", "{6+}"), ("in=226", "in=227"))),
    Scenario("login-literal-waits", r"""
        < ^\* OK
        > a LOGIN $u {4+}
        > p\xc3\xa4w
        < ^a
    """ + NOOP, r"""
        > * OK [CAPABILITY IMAP4rev1 ID] hi
        < ^L LOGIN .* \{4\}$
        > + go on
        < ^p
        >> I OK x\r\nL OK [CAPABILITY IMAP4rev1] in\r\n
        serve
    """, password=r"p\xc3\xa4w"),
    Scenario("login-literal-refused", r"""
        < ^\* OK
        > a LOGIN $u {4+}
        > p\xc3\xa4w
        < ^a
    """, r"""
        > * OK [CAPABILITY IMAP4rev1 ID] hi
        < ^L LOGIN .* \{4\}$
        >> I OK x\r\nL NO [ALERT] no literals here\r\n
    """, password=r"p\xc3\xa4w", differs="IMAP literals to the backend", expected_backend=f"""
        #1
        B: * OK [CAPABILITY IMAP4rev1 ID] hi
        P: I ID ({ID_PARAMETERS})
        P: L LOGIN "login-literal-refused" {{4}}
        B: I OK x⏎L NO [ALERT] no literals here
        <EOF>
    """),
    Scenario("login-four-escapes", r"""
        < ^\* OK
        > a LOGIN $u {4+}
        > """ + '"' * 4 + r"""
        < ^a
    """, password='"' * 4),
    Scenario("login-space-password", r"""
        < ^\* OK
        > a LOGIN $u "p w"
        < ^a
    """, password="p w"),
    Scenario("auth-plain-ir", _AUTH + NOOP),
    Scenario("auth-plain", _CHALLENGED % "PLAIN" + r"""
        > $b64(\0$u\0pw)
        < ^a
    """ + NOOP),
    Scenario("auth-plain-same-authzid", r"""
        < ^\* OK
        > a AUTHENTICATE PLAIN $b64($u\0$u\0pw)
        < ^a
    """),
    Scenario("auth-login", _CHALLENGED % "LOGIN" + r"""
        > $b64($u)
        < ^\+
        > $b64(pw)
        < ^a
    """ + NOOP),
    Scenario("auth-login-ir", r"""
        < ^\* OK
        > a AUTHENTICATE LOGIN $b64($u)
        < ^\+
        > $b64(pw)
        < ^a
    """),
    Scenario("auth-lower-case-mech", r"""
        < ^\* OK
        > a authenticate plain $b64(\0$u\0pw)
        < ^a
    """),
    Scenario("auth-empty-ir", r"""
        < ^\* OK
        > a AUTHENTICATE LOGIN =
        < ^(\+|a)
        quiet 0.2
    """, log=False),
    Scenario("imaps", "connect tls" + LOGIN + NOOP),
    Scenario("starttls", r"""
        < ^\* OK
        > s STARTTLS
        < ^s
        tls
        > c CAPABILITY
        < ^c
        > a LOGIN $u pw
        < ^a
    """ + NOOP),
)

_ANSWERS = (
    Scenario("ok-without-code", LOGIN + NOOP, _says("I OK", "L OK Logged in")),
    Scenario("ok-untagged-capability", LOGIN + NOOP,
             _says("I OK", "* CAPABILITY IMAP4rev1 ONE TWO", "L OK Logged in")),
    Scenario("ok-no-capability-at-all", LOGIN + NOOP, _bare("L OK Logged in")),
    Scenario("ok-capability-reply", LOGIN + NOOP, _bare("* CAPABILITY IMAP4rev1 FOO", "C OK done", "L OK Logged in")),
    Scenario("ok-without-text", LOGIN, _says("I OK", "L OK")),
    Scenario("ok-space-only", LOGIN, _says("I OK", r"L OK\x20")),
    Scenario("ok-lower-case", LOGIN, _says("I OK", "L ok Logged in")),
    Scenario("ok-foreign-code", LOGIN + NOOP, _says("I OK", "L OK [FOO bar] Logged in"),
             differs="IMAP foreign response code", substitute=(("] ] Logged", "] Logged"), ("out=237", "out=235"))),
    Scenario("ok-capability-then-text-bracket", LOGIN, _says("I OK", "L OK [CAPABILITY IMAP4rev1 A] in [x] y")),
    Scenario("client-capability-ok-code", _CLIENT_CAPABILITY,
             _says("I OK", "C OK done", "L OK [CAPABILITY IMAP4rev1 AFTER] Logged in")),
    Scenario("client-capability-reply", _CLIENT_CAPABILITY,
             _says("I OK", "* CAPABILITY IMAP4rev1 ASKED", "C OK done", "L OK Logged in")),
    Scenario("client-capability-both", _CLIENT_CAPABILITY,
             _says("I OK", "* CAPABILITY IMAP4rev1 ASKED", "C OK done", "L OK [CAPABILITY IMAP4rev1 AFTER] Logged in")),
    Scenario("client-capability-unknown", _CLIENT_CAPABILITY, _bare("C OK done", "L OK Logged in")),
    Scenario("client-capability-refused", _CLIENT_CAPABILITY, _bare("C NO no", "L OK Logged in")),
    # a CAPABILITY behind the client's STARTTLS does not count; one before it does, and so does one over implicit TLS
    Scenario("client-capability-imaps", "connect tls" + _CLIENT_CAPABILITY),
    Scenario("client-capability-before-starttls", "< ^\\* OK\n> c CAPABILITY\n< ^c\n" + _STARTTLS),
    Scenario("client-capability-after-starttls", "< ^\\* OK\n" + _STARTTLS.replace("> a", "> c CAPABILITY\n< ^c\n> a")),
    Scenario("client-capability-both-starttls", "< ^\\* OK\n> c CAPABILITY\n< ^c\n"
             + _STARTTLS.replace("> a", "> c CAPABILITY\n< ^c\n> a")),
    Scenario("untagged-before-login", LOGIN + NOOP,
             _says("* OK [ALERT] hello", "* NO [ALERT] disk full", "* FOO", "I OK", "* BYE not really", "* ID NIL",
                   "L OK [CAPABILITY IMAP4rev1] Logged in")),
    Scenario("untagged-after-login", LOGIN + NOOP,
             _says("I OK", r"L OK [CAPABILITY IMAP4rev1] Logged in", "* OK [ALERT] hello", "* 3 EXISTS")),
    Scenario("unexpected-tag", LOGIN + NOOP, _says("I OK", "Z OK what", "L OK [CAPABILITY IMAP4rev1] Logged in")),
    Scenario("id-refused", LOGIN, _says("I NO go away", "L OK [CAPABILITY IMAP4rev1] Logged in")),
    Scenario("id-bad", LOGIN, _says("I BAD what", "L OK [CAPABILITY IMAP4rev1] Logged in")),
    Scenario("id-unanswered", LOGIN, _says("L OK [CAPABILITY IMAP4rev1] Logged in")),
    Scenario("id-not-offered", LOGIN, _says("L OK [CAPABILITY IMAP4rev1] Logged in",
                                            banner="* OK [CAPABILITY IMAP4rev1 IDLE] hi")),
    Scenario("continuation-ignored", LOGIN, _says("I OK", "+ go on", "L OK [CAPABILITY IMAP4rev1] Logged in")),
    Scenario("banner-lf-only", LOGIN, r"""
        >> * OK [CAPABILITY IMAP4rev1 IDLE] hi\n
        < ^L
        >> L OK [CAPABILITY IMAP4rev1] Logged in\n
        serve
    """),
    Scenario("banner-capability-later", LOGIN, _says("L OK Logged in", banner="* OK hi [CAPABILITY IMAP4rev1 ID]")),
    Scenario("banner-other-code", LOGIN, _says("L OK Logged in", banner="* OK [ALERT] [CAPABILITY IMAP4rev1 ID]")),
    Scenario("banner-in-pieces", LOGIN + NOOP, r"""
        >> * OK [CAPAB
        wait 0.1
        >> ILITY IMAP4rev1 ID] hi\r
        wait 0.1
        >> \n
        < ^L
    """ + LOGGED_IN),
    Scenario("banner-slow", LOGIN + "took 0.4 5" + NOOP, "wait 0.5\n" + ACCEPT),
)

_RELAY = (
    Scenario("relay-pipelined-client", r"""
        < ^\* OK
        >> a LOGIN $u pw\r\nb NOOP\r\nc CAPABILITY\r\n
        < ^c
        quiet 0.1
    """),
    Scenario("relay-pipelined-partial", r"""
        < ^\* OK
        >> a LOGIN $u pw\r\nb NO
        < ^a
        >> OP\r\n
        < ^b
    """),
    Scenario("relay-client-logout", LOGIN + r"""
        > z LOGOUT
        < ^z
        eof
    """),
    Scenario("relay-backend-closes", LOGIN + "eof", GREET + r"""
        < ^L
        >> I OK x\r\nL OK [CAPABILITY IMAP4rev1] in\r\n
        wait 0.2
        > * BYE shutting down
        close
    """),
    Scenario("relay-backend-closes-with-ok", LOGIN + "eof", GREET + r"""
        < ^L
        >> I OK x\r\nL OK [CAPABILITY IMAP4rev1] in\r\n* BYE at once\r\n
        close
    """),
    Scenario("relay-backend-half-close", LOGIN + "eof", GREET + r"""
        < ^L
        >> I OK x\r\nL OK [CAPABILITY IMAP4rev1] in\r\n
        wait 0.2
        > * 1 EXISTS
        shut
        eof
    """),
    Scenario("relay-client-half-close", LOGIN + r"""
        shut
        eof
    """, GREET + r"""
        < ^L
        >> I OK x\r\nL OK [CAPABILITY IMAP4rev1] in\r\n
        eof
    """),
    Scenario("relay-client-reset", LOGIN + "wait 0.2\nrst"),
    Scenario("relay-binary", LOGIN + r"""
        >> \x00\xff\r\n\x80${x*2000}\r\n
        < done
    """, GREET + r"""
        < ^L
        >> I OK x\r\nL OK [CAPABILITY IMAP4rev1] in\r\n
        < xxx
        > \x00\xfe done
    """),
    Scenario("relay-large", LOGIN + r"""
        > b FETCH
        < end$
    """, GREET + r"""
        < ^L
        >> I OK x\r\nL OK [CAPABILITY IMAP4rev1] in\r\n
        < FETCH
        > ${y*300000}end
    """),
    Scenario("relay-pipelined-large", r"""
        < ^\* OK
        >> a LOGIN $u pw\r\n${z*5000}\r\n
        < ^a
        < got
    """, GREET + r"""
        < ^L
        >> I OK x\r\nL OK [CAPABILITY IMAP4rev1] in\r\n
        < ^zz
        > got
    """),
    Scenario("relay-tls", "connect tls" + LOGIN + r"""
        > b FETCH
        < end$
        > z LOGOUT
        < ^z
        eof
    """, GREET + r"""
        < ^L
        >> I OK x\r\nL OK [CAPABILITY IMAP4rev1] in\r\n
        < FETCH
        > ${y*100000}end
        serve
    """),
    Scenario("relay-tls-pipelined", r"""
        connect tls
        < ^\* OK
        >> a LOGIN $u pw\r\nb NOOP\r\n
        < ^b
    """),
    Scenario("relay-tls-client-leaves", "connect tls" + LOGIN + "close"),
    # the pause: two processes log here, and what is compared is their order
    Scenario("two-logins", LOGIN + r"""
        close
        wait 0.4
        connect
    """ + LOGIN + NOOP),
)

GROUP = Group("success", (*_COMMANDS, *_ANSWERS, *_RELAY), login="service_count = 1")
