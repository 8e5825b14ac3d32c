"""Settings that change what is said: capabilities, ID, the greeting, the log."""
from __future__ import annotations

from ..scenario import LOGIN, NOOP, Group, Scenario

_CAPABILITY = r"""
    < ^\* OK
    > c CAPABILITY
    < ^c
    > i ID NIL
    < ^i
"""
_CLIENT_ID = r"""
    < ^\* OK
    > i ID %s
    < ^i
    > a LOGIN $u pw
    < ^a
"""


def _retain(name: str, *parameters: str, differs: str = "",
            substitute: tuple[tuple[str, str], ...] = ()) -> Scenario:
    ids = "".join(f"> i ID {text}\n< ^i\n" for text in parameters)
    return Scenario(name, "< ^\\* OK\n" + ids + "> a LOGIN $u pw\n< ^a\n" + NOOP, differs=differs,
                    substitute=substitute)


_LITERAL_MINUS = (
    Scenario("minus-small", "< ^\\* OK\n>> a LOGIN {11+}\\r\\n$u {2+}\\r\\npw\\r\\n\n< ^a\n" + NOOP),
    Scenario("minus-large", "< ^\\* OK\n> a LOGIN {5000+}\neof", ""),
    Scenario("minus-4096", "< ^\\* OK\n> a LOGIN {4096+}\nquiet 0.2", ""),
    Scenario("minus-4097", "< ^\\* OK\n> a LOGIN {4097+}\neof", ""),
)

GROUPS = (
    Group("capability-replaced", (
        Scenario("capability-replaced-cmd", _CAPABILITY, ""),
        Scenario("capability-replaced-login", LOGIN + NOOP),
        Scenario("capability-replaced-insecure", "connect from 127.0.0.5" + _CAPABILITY, ""),
    ), "imap_capability = IMAP4rev1 FOO\nimap_id_send =\nlogin_greeting =\n"),
    Group("capability-added", (
        Scenario("capability-added-cmd", _CAPABILITY, ""),
        Scenario("id-logged", _CLIENT_ID % r'("name" "Thunder\\"bird" "version" "1.0" "os" NIL)' + NOOP),
        Scenario("id-logged-nil", _CLIENT_ID % "NIL" + NOOP),
        Scenario("greeting-variables", "< ^\\* OK", ""),
    ), 'imap_capability = +XAPPLEPUSH XFOO\nimap_id_send = name * version 1 foo "bar baz" empty ""\nimap_id_log = *\n'
       "login_greeting = Hi %s %r %l 100%%.\nlogin_log_format = [%$] %s\n"),
    Group("id-keys", (
        Scenario("id-log-keys", _CLIENT_ID % '("name" "x" "VERSION" "1" "os" "y")' + NOOP),
    ), "imap_id_log = name version\n"
       "login_log_format_elements = u=%u n=%n d=%d m=%m c=%c s=%s k=%k r=%r session=<%{session}>\n"),
    Group("id-retain", (
        _retain("retain-plain", '("name" "Thunderbird" "version" "1.0" "os" NIL)'),
        _retain("retain-none"),
        _retain("retain-nil", "NIL"),
        _retain("retain-escapes", r'("vendor" "a\\"b\\\\c")'),
        _retain("retain-reserved", '("x-originating-ip" "1.2.3.4" "x-proxy-ttl" "1" "x-foo" "y" "name" "z")'),
        _retain("retain-long", '("name" "${n*200}" "version" "${v*100}" "os" "ok")'),
        _retain("retain-longest", '("name" "${n*240}")'),
        _retain("retain-too-long", '("name" "${n*300}")'),
        _retain("retain-too-long-first", '("name" "${n*300}" "os" "ok")'),
        _retain("retain-too-long-second", '("a" "1" "name" "${n*300}" "os" "ok")'),
        _retain("retain-too-long-nil", '("a" "${n*238}" "b" NIL "c" "d")'),
        _retain("retain-twice", '("name" "one")', '("name" "two")', differs="retained ID of a second ID command",
                substitute=(("ID ( ", "ID ("), ("in=227", "in=226"))),
        _retain("retain-lower-upper", '("NAME" "Foo")'),
    ), "imap_id_retain = yes"),
    Group("literal-minus", _LITERAL_MINUS, "imap_literal_minus = yes"),
    Group("default-greeting", (
        Scenario("greeting-default", "< ^\\* OK\n> a LOGOUT\neof", ""),
    ), "login_greeting = Dovecot ready.\nauth_mechanisms = plain"),
    Group("client-certificate", (
        Scenario("cert-missing", LOGIN + "> n NOOP\n< ^n\nclose", ""),
        Scenario("cert-missing-tls", "connect tls" + LOGIN + "> n NOOP\n< ^n\nclose", ""),
        Scenario("cert-valid", "connect imaps\ntls client" + LOGIN + NOOP),
        Scenario("cert-invalid", "connect imaps\ntls badclient" + LOGIN + "> n NOOP\n< ^n\nclose", "",
                 differs="invalid client certificate", expected_client=r"""
            -- connect imaps
            -- TLS
            <EOF> while waiting for '^\\* OK'
        """, log=False),
        Scenario("cert-starttls", "< ^\\* OK\n> s STARTTLS\n< ^s\ntls client\n> a LOGIN $u pw\n< ^a\n" + NOOP),
    ), "ssl_ca = <$dir/tls/ca.pem\nssl_verify_client_cert = yes\n"
       "auth_ssl_require_client_cert = yes\nssl_require_crl = no"),
)
