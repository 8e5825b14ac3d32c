"""Commands before the login, right and wrong, and the limits of what a client may send."""
from __future__ import annotations

from ..scenario import LOGIN, NOOP, Group, Scenario


def _commands(*commands: str, last: str = "quiet 0.1") -> str:
    """Send each command under its own tag t1, t2 … and wait for the tagged answer."""
    steps = [r"< ^\* OK"]
    for number, command in enumerate(commands, 1):
        steps += [f"> t{number} {command}", f"< ^t{number} "]
    return "\n".join([*steps, last])


def _lines(*lines: str, last: str = "eof") -> str:
    """Send lines that are answered by something untagged."""
    steps = [r"< ^\* OK"]
    for line in lines:
        steps += [f"> {line}", r"< ^(\*|\w+ )"]
    return "\n".join([*steps, last])


def _only(name: str, client: str, *, log: bool = True) -> Scenario:
    return Scenario(name, client, backend="", log=log)


_BAD = r"""
    > n NOOP
    < ^n
    quiet 0.1
"""

GROUP = Group("prelogin", (
    _only("pre-capability", _commands("CAPABILITY", "capability", "CAPABILITY x")),
    _only("pre-noop", _commands("NOOP", "noop", "NOOP x")),
    _only("pre-logout", _commands("LOGOUT", last="eof")),
    _only("pre-logout-args", _commands("LOGOUT now", last="eof")),
    _only("pre-enable", _commands("ENABLE CONDSTORE", "ENABLE", "enable A B C")),
    _only("pre-unknown", _commands("SELECT INBOX", "FOO", last="quiet 0.1")),
    _only("pre-three-bad", _commands("FOO", "BAR", last="") + r"""
        > t3 BAZ
        eof
    """),
    _only("pre-three-bad-apart", _commands("FOO", "NOOP", "BAR", "NOOP", "CAPABILITY", last="") + r"""
        > t3 BAZ
        eof
    """),
    _only("pre-login-arguments", _commands("LOGIN", "LOGIN a", last="> t3 LOGIN a b c\neof")),
    _only("pre-login-list", _commands("LOGIN (a) b", "LOGIN a (b)")),
    _only("pre-login-nil", _commands("LOGIN NIL pw", "LOGIN NIL NIL")),
    _only("pre-login-open-quote", _lines('a LOGIN "x', last=_BAD)),
    _only("pre-empty-line", _lines("", last=_BAD)),
    _only("pre-three-empty-lines", r"""
        < ^\* OK
        >> \r\n\r\n\r\n
        eof
    """),
    _only("pre-tag-only", _lines("x", last=_BAD)),
    _only("pre-star-tag", _lines("* NOOP", last=_BAD)),
    _only("pre-plus-tag", _lines("+ NOOP", last=_BAD)),
    _only("pre-brace-tag", _lines("{ NOOP", last=_BAD)),
    _only("pre-long-tag", _lines("${t*127} NOOP", last=_BAD)),
    _only("pre-longest-tag", _lines("${t*126} NOOP", last=_BAD)),
    _only("pre-leading-space", _lines(" a NOOP", last=_BAD)),
    _only("pre-double-space", _lines("a  NOOP", last=_BAD)),
    _only("pre-trailing-space", _lines(r"a NOOP\x20", last=_BAD)),
    _only("pre-8bit-command", _lines(r"a N\xff", last=_BAD)),
    _only("pre-nul-command", _lines(r"a NO\0OP", last=_BAD)),
    _only("pre-nul-quoted", _lines(r'a LOGIN "x\0y" z', last=_BAD)),
    _only("pre-tag-is-login", _lines("LOGIN user pw", last=_BAD)),
    _only("pre-tag-is-login-often", _lines("LOGIN user pw", "LOGIN a b", "login c d", "LOGIN e f", last=_BAD)),
    _only("pre-http", r"""
        < ^\* OK
        >> GET / HTTP/1.0\r\nHost: x\r\n\r\n
        eof
    """),
    _only("pre-pipelined", r"""
        < ^\* OK
        >> a NOOP\r\nb CAPABILITY\r\nc ID NIL\r\nd LOGOUT\r\ne NOOP\r\n
        eof
    """),
    _only("pre-lf-only", r"""
        < ^\* OK
        >> a NOOP\nb NOOP\n
        < ^b
    """),
    _only("pre-line-1000", _lines("a FOO ${x*1000}", last=_BAD)),
    _only("pre-line-too-long", r"""
        < ^\* OK
        >> a FOO ${x*3000}
        eof
    """),
    _only("pre-line-too-long-login", r"""
        < ^\* OK
        > a LOGIN $u ${x*3000}
        eof
    """),
    _only("pre-literal-large", r"""
        < ^\* OK
        > a LOGIN {5000}
        < .
        quiet 0.1
    """),
    _only("pre-literal-plus-large", r"""
        < ^\* OK
        >> a LOGIN {5000+}\r\n${x*5000} pw\r\n
        eof
    """),
    _only("pre-line-longest", _lines("a FOO ${x*1025}", last=_BAD)),
    _only("pre-line-just-too-long", r"""
        < ^\* OK
        > a FOO ${x*1026}
        eof
    """),
    _only("pre-literal-content-longest", r"""
        < ^\* OK
        > a LOGIN {1026}
        < ^\+
        >> ${x*1026}
        quiet 0.2
    """),
    _only("pre-literal-content-too-long", r"""
        < ^\* OK
        > a LOGIN {1027}
        < ^\+
        >> ${x*1027}
        eof
    """),
    _only("pre-literal-8000", r"""
        < ^\* OK
        > a LOGIN {8000}
        < .
        quiet 0.1
    """),
    _only("pre-literal-largest", "< ^\\* OK\n> a LOGIN {8178}\n< .\nquiet 0.1"),
    _only("pre-literal-just-too-large", _lines("a LOGIN {8179}")),
    _only("pre-literal-8192", _lines("a LOGIN {8192}")),
    _only("pre-literal-1000", r"""
        < ^\* OK
        > a LOGIN {1000}
        < .
        quiet 0.1
    """),
    _only("pre-literal-sum", r"""
        < ^\* OK
        > a LOGIN {600}
        < ^\+
        > ${x*600} {600}
        < .
        quiet 0.2
    """),
    _only("pre-literal-bad", _lines("a LOGIN {x}", last=_BAD)),
    _only("pre-literal-negative", _lines("a LOGIN {-1}", last=_BAD)),
    _only("pre-literal-overflow", _lines("a LOGIN {99999999999999999999999}")),
    _only("pre-literal-zero", r"""
        < ^\* OK
        > a LOGIN {0}
        < ^\+
        >>  {0}\r\n
        < ^\+
        >> \r\n
        < ^a
    """),
    _only("pre-literal-in-noop", r"""
        < ^\* OK
        > a NOOP {3}
        < .
        quiet 0.2
    """),
    _only("pre-syntax-errors-not-counted", _lines('a LOGIN "x', "b LOGIN {x}", 'c LOGIN "x', 'd LOGIN "x', last=_BAD)),
    _only("pre-id-errors-not-counted", _commands("ID x", "ID x", "ID x", "ID x", "NOOP")),
    _only("pre-id-nil", _commands("ID NIL", "ID")),
    _only("pre-id-list", _commands('ID ("name" "x" "version" "1")')),
    _only("pre-id-empty-list", _commands("ID ()")),
    _only("pre-id-odd", _commands('ID ("a")')),
    _only("pre-id-nil-value", _commands('ID ("name" NIL)')),
    _only("pre-id-atom", _commands("ID foo")),
    _only("pre-id-atoms", _commands("ID (name x)")),
    _only("pre-id-no-parens", _commands('ID "name" "x"')),
    _only("pre-id-nested", _commands('ID (("name" "x"))')),
    _only("pre-id-nested-value", _commands('ID ("name" ("x"))')),
    _only("pre-id-extra", _commands('ID ("name" "x") foo')),
    _only("pre-id-long-key", _commands('ID ("${k*31}" "x")')),
    _only("pre-id-longest-key", _commands('ID ("${k*30}" "x")')),
    _only("pre-id-open", _commands('ID ("name" "x"')),
    _only("pre-id-literal", r"""
        < ^\* OK
        > a ID ({4}
        < ^\+
        > name {1}
        < ^\+
        > x)
        < ^a
    """),
    _only("pre-id-twice", _commands('ID ("name" "x")', "ID NIL")),
    _only("pre-id-long-value", _commands('ID ("name" "${v*900}")')),
    _only("pre-auth-unknown", _commands("AUTHENTICATE FOO", "AUTHENTICATE CRAM-MD5 AAAA")),
    _only("pre-auth-no-mech", _commands("AUTHENTICATE")),
    _only("pre-auth-list", _commands("AUTHENTICATE (PLAIN)")),
    _only("pre-auth-extra", _commands("AUTHENTICATE PLAIN AAAA BBBB")),
    _only("pre-auth-abort", r"""
        < ^\* OK
        > a AUTHENTICATE PLAIN
        < ^\+
        > *
        < ^a
        > n NOOP
        < ^n
        close
    """),
    _only("pre-auth-abort-login", r"""
        < ^\* OK
        > a AUTHENTICATE LOGIN
        < ^\+
        > $b64($u)
        < ^\+
        > *
        < ^a
        close
    """),
    _only("pre-auth-bad-base64", r"""
        < ^\* OK
        > a AUTHENTICATE PLAIN
        < ^\+
        > !!!
        < ^a
        close
    """),
    _only("pre-auth-bad-base64-ir", _commands("AUTHENTICATE PLAIN !!!")),
    _only("pre-auth-short-plain", _commands("AUTHENTICATE PLAIN $b64(abc)")),
    _only("pre-auth-no-user", _commands(r"AUTHENTICATE PLAIN $b64(\0\0pw)")),
    _only("pre-auth-empty-plain", _commands("AUTHENTICATE PLAIN =")),
    _only("pre-auth-disconnect", r"""
        < ^\* OK
        > a AUTHENTICATE PLAIN
        < ^\+
        close
    """),
    _only("pre-auth-long-response", r"""
        < ^\* OK
        > a AUTHENTICATE PLAIN
        < ^\+
        >> ${A*9000}
        eof
    """),
    _only("pre-auth-command-instead", r"""
        < ^\* OK
        > a AUTHENTICATE PLAIN
        < ^\+
        > b NOOP
        < ^a
        close
    """),
    _only("pre-starttls-args", _commands("STARTTLS x")),
    _only("pre-starttls-twice", r"""
        < ^\* OK
        > a STARTTLS
        < ^a
        tls
        > b STARTTLS
        < ^b
        > c CAPABILITY
        < ^c
        close
    """),
    _only("pre-imaps-starttls", r"""
        connect tls
        < ^\* OK
        > b STARTTLS
        < ^b
        close
    """),
    _only("pre-starttls-injection", r"""
        < ^\* OK
        >> a STARTTLS\r\nb NOOP\r\nc LOGIN $u pw\r\n
        < ^a
        tls
    """),
    _only("pre-starttls-disconnect", r"""
        < ^\* OK
        > a STARTTLS
        < ^a
        close
    """),
    _only("pre-starttls-garbage", r"""
        < ^\* OK
        > a STARTTLS
        < ^a
        > hello
        eof
    """, log=False),
    _only("pre-imaps-plain", r"""
        connect imaps
        > a NOOP
        eof
    """, log=False),
    _only("pre-disconnect", r"""
        < ^\* OK
        close
    """),
    _only("pre-disconnect-half-line", r"""
        < ^\* OK
        >> a LOG
        close
    """),
    _only("pre-half-close", r"""
        < ^\* OK
        shut
        eof
    """),
    _only("pre-early-talker", r"""
        > a NOOP
        < ^a
    """),
    _only("pre-bad-then-login", _commands("FOO", "BAR", "NOOP")),
    _only("pre-starttls-forgets", r"""
        < ^\* OK
        > x FOO
        < ^x
        > x BAR
        < ^x
        > a STARTTLS
        < ^a
        tls
        > x BAZ
        eof
    """),
    Scenario("pre-commands-then-login", r"""
        < ^\* OK
        > x NOOP
        < ^x
        > x FOO
        < ^x
        > x ID NIL
        < ^x
        > a LOGIN $u pw
        < ^a
    """ + NOOP),
    Scenario("pre-wait-for-login", r"""
        < ^\* OK
        >> a LOGIN $u wrong\r\nb NOOP\r\nc LOGOUT\r\n
        eof
    """),
    Scenario("pre-fail-then-login", r"""
        < ^\* OK
        > a LOGIN $u wrong
        < ^a
        > a LOGIN $u pw
        < ^a
    """ + NOOP),
    Scenario("pre-abort-then-login", r"""
        < ^\* OK
        > a AUTHENTICATE PLAIN
        < ^\+
        > *
        < ^a
        > a LOGIN $u pw
        < ^a
    """ + NOOP),
    Scenario("pre-login-once-more", LOGIN + NOOP),
))
