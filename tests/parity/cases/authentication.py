"""What the client hears when the local authentication says no, and how its answers are kept."""
from __future__ import annotations

from ..scenario import ACCEPT, GREET, LOGIN, NOOP, PROXIED, Group, Scenario

_FAILS = LOGIN + r"""
    > n NOOP
    < ^n
    close
"""


def _fails(name: str, fields: str | None, client: str = _FAILS) -> Scenario:
    return Scenario(name, client, "", fields)


_WRONG = _FAILS.replace(" pw", " wrong")
_H = "host=192.0.2.1"

_REFUSED = (
    _fails("auth-wrong-password", PROXIED, _WRONG),
    _fails("auth-unknown-user", None),
    _fails("auth-wrong-plain", PROXIED, _FAILS.replace("LOGIN $u pw", r"AUTHENTICATE PLAIN $b64(\0$u\0bad)")),
    _fails("auth-bad-characters", None, _FAILS.replace("$u", '"a b*c"')),
    _fails("auth-control-password", PROXIED, _FAILS.replace("LOGIN $u pw", r"AUTHENTICATE PLAIN $b64(\0$u\0p\x01w)")),
    _fails("auth-crlf-password", PROXIED, _FAILS.replace("LOGIN $u pw", r"AUTHENTICATE PLAIN $b64(\0$u\0p\r\nx)")),
    _fails("auth-percent-user", None, _FAILS.replace("$u", '"%u%d"')),
    _fails("auth-empty-user", None, _FAILS.replace("$u", '""')),
    _fails("auth-long-user", None, _FAILS.replace("$u", "${a*300}")),
    _fails("auth-nologin", "nologin=y"),
    _fails("auth-nologin-reason", "nologin=y reason=Closed"),
    _fails("auth-nologin-reason-code", "nologin=y reason=[ALERT]"),
    _fails("auth-nologin-wrong-password", "nologin=y reason=Closed", _WRONG),
    _fails("auth-nologin-repeat", "nologin=y", LOGIN + "> b LOGIN $u pw\n< ^b\nclose"),
    _fails("auth-referral", f"nologin=y {_H}"),
    _fails("auth-referral-port", f"nologin=y {_H} port=1234 destuser=foo@bar reason=Moved"),
    _fails("auth-referral-port-143", f"nologin=y {_H} port=143"),
    _fails("auth-referral-login", f"nologin=y {_H}", r"""
        < ^\* OK
        > a AUTHENTICATE LOGIN $b64($u)
        < ^\+
        > $b64(pw)
        < ^a
        close
    """),
    _fails("auth-allow-nets", PROXIED + " allow_nets=10.0.0.0/8"),
    _fails("auth-allow-nets-bad", PROXIED + " allow_nets=foo,10.0.0.1"),
    Scenario("auth-allow-nets-ok", LOGIN + NOOP, extra="allow_nets=10.0.0.0/8,127.0.0.1"),
    Scenario("auth-allow-nets-local", LOGIN + NOOP, extra="allow_nets=local,127.0.0.0/8"),
    _fails("auth-fail-field", PROXIED + " fail=y"),
    _fails("auth-user-empty", PROXIED + " user="),
    _fails("auth-delay-bad", PROXIED + " delay_until=abc"),
    _fails("auth-reason-wrong-password", PROXIED + " reason=no", _WRONG),
    Scenario("auth-many-failures", r"""
        < ^\* OK
        > a LOGIN $u x
        < ^a
        > b LOGIN $u y
        < ^b
        > c AUTHENTICATE PLAIN $b64(\0$u\0z)
        < ^c
        > d LOGIN $u pw
        < ^d
    """ + NOOP),
    Scenario("auth-protected", LOGIN + NOOP, fields=PROXIED + " destuser=one destuser:protected=two"),
    Scenario("auth-remove", LOGIN + NOOP, fields=PROXIED + " destuser=one destuser:remove"),
    Scenario("auth-domain", LOGIN.replace("$u", "$u@Example.COM") + NOOP, fields=None,
             users={"auth-domain@example.com": PROXIED}),
    Scenario("auth-domain-field", LOGIN + NOOP, extra="domain=example.org"),
    Scenario("auth-delay-until", LOGIN + NOOP, extra="delay_until=1"),
)

_SQL = """
passdb {
  driver = sql
  args = $dir/sql.conf
}
"""
_BROKEN = _SQL.replace("sql.conf", "broken.conf")
_MISSING = """
passdb {
  driver = passwd-file
  args = $dir/missing
}
"""
_MASTER = """
passdb {
  driver = static
  args = password=adminpw
  master = yes
  result_success = continue
  username_filter = admin
}
passdb {
  driver = passwd-file
  args = $dir/users
}
"""
_AS_ADMIN = r"""
    < ^\* OK
    > a LOGIN $u*admin adminpw
    < ^a
"""
_LOGINS = "".join(f"""
    < ^\\* OK
    > a LOGIN $u pw
    < ^a
    > n NOOP
    < ^n
    {'connect' if number < 4 else 'close'}
""" for number in range(5))

GROUPS = (
    Group("auth", _REFUSED, "login_proxy_max_reconnects = 0"),
    Group("tempfail", (
        Scenario("tempfail-login", _FAILS, "", None),
        Scenario("tempfail-plain", _FAILS.replace("LOGIN $u pw", r"AUTHENTICATE PLAIN $b64(\0$u\0pw)"), "", None),
        Scenario("tempfail-twice", LOGIN + "> b LOGIN $u pw\n< ^b\n> c LOGIN $u pw\n< ^c\nclose", "", None),
        Scenario("tempfail-pipelined", "< ^\\* OK\n>> a LOGIN $u pw\\r\\nb NOOP\\r\\nc LOGOUT\\r\\n\neof", "", None),
    ), passdb=_BROKEN, sqlite=True),
    Group("missingfile", (Scenario("missing-passwd-file", _FAILS, "", None),), passdb=_MISSING),
    Group("cache", (
        Scenario("cache-many", _LOGINS),
        Scenario("cache-wrong-then-right", r"""
            < ^\* OK
            > a LOGIN $u pw
            < ^a
            connect
            < ^\* OK
            > a LOGIN $u wrong
            < ^a
            > b LOGIN $u pw
            < ^b
        """ + NOOP),
        Scenario("cache-unknown", LOGIN + "> b LOGIN $u pw\n< ^b\nclose", "", None),
        Scenario("cache-refusing-backend", LOGIN + "> b LOGIN $u pw\n< ^b\nclose",
                 GREET + "< ^L\n>> I OK\\r\\nL NO [INUSE] one\\r\\n"),
        Scenario("cache-quote", LOGIN.replace(" pw", ' "x\'y"') + NOOP, password="x'y"),
        Scenario("cache-sql-injection", _FAILS.replace("$u", '"x\' OR \'1\'=\'1"'), "", None),
    ), "auth_cache_size = 1M\nauth_username_chars =\n", passdb=_SQL, sqlite=True),
    Group("master", (
        Scenario("master-login", _AS_ADMIN + NOOP),
        Scenario("master-wrong-password", _AS_ADMIN.replace("adminpw", "pw") + "close", ""),
        Scenario("master-unknown", _AS_ADMIN.replace("*admin", "*nobody") + "close", ""),
        Scenario("master-plain-authzid", r"""
            < ^\* OK
            > a AUTHENTICATE PLAIN $b64($u\0admin\0adminpw)
            < ^a
        """ + NOOP),
        Scenario("master-pass-field", _AS_ADMIN + NOOP,
                 extra="pass=backend"),
        Scenario("master-master-field", _AS_ADMIN + NOOP,
                 extra="master=other pass=backend"),
        Scenario("master-destuser", _AS_ADMIN + NOOP,
                 extra="destuser=dest"),
        Scenario("master-ordinary", LOGIN + NOOP),
    ), "auth_master_user_separator = *", passdb=_MASTER),
    Group("static", (
        Scenario("static-any-password", LOGIN + NOOP, ACCEPT, None),
    ), passdb="passdb {\n  driver = static\n  args = nopassword=y proxy=y host=127.0.0.1 port=$port\n}"),
)
