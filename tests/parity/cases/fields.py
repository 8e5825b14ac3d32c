"""Each passdb field that steers the proxy."""
from __future__ import annotations

from ..scenario import ACCEPT, CAPABILITIES, GREET, ID_PARAMETERS, LOGGED_IN, LOGIN, NOOP, PROXIED, Group, Scenario

_NO_SASL_IR = r"""
    > * OK [CAPABILITY IMAP4rev1 ID AUTH=PLAIN] hi
    < ^L
    > +\x20
    < .
    > L OK [CAPABILITY IMAP4rev1] in
    serve
"""
_FAILS = LOGIN + r"""
    > n NOOP
    < ^n
    close
"""
#: A backend that offers ID and does not wait for it.
_NO_ID = f"> * OK [CAPABILITY {CAPABILITIES}] hi\n< ^L\n" + LOGGED_IN
_CAPS = "IMAP4rev1 SASL-IR ID STARTTLS AUTH=PLAIN"


def _starttls(certificate: str) -> str:
    return f"""
    > * OK [CAPABILITY {_CAPS}] hi
    < ^S STARTTLS
    > S OK begin
    tls {certificate}
    < ^L
    >> L OK [CAPABILITY IMAP4rev1] in\\r\\n
    serve
"""


def _ok(name: str, extra: str, backend: str = ACCEPT, **more: object) -> Scenario:
    return Scenario(name, LOGIN + NOOP, backend, extra=extra, **more)    # type: ignore[arg-type]


def _fails(name: str, extra: str, backend: str = ACCEPT, **more: object) -> Scenario:
    return Scenario(name, _FAILS, backend, extra=extra, **more)          # type: ignore[arg-type]


_PREFLIGHT = "failed start check"


def _preflight(name: str, text: str, fields: str) -> Scenario:
    """Dovecot's login process crashes behind its reply, which resets the connection; here the client goes on."""
    elements = f"user=<{name}>, method=PLAIN, rip=127.0.0.1, lip=127.0.0.1, secured, session=<SESSION>"
    return Scenario(name, _FAILS, "", fields, differs=_PREFLIGHT, dovecot_breaks=True,
                    substitute=(("<EOF> while waiting for '^n'", "S: n OK NOOP completed.\n-- close"),),
                    expected_log=f"""
        Error: proxy({name}): {text}: {elements}
        Info: Disconnected: Connection closed (internal failure, 1 successful auths): {elements}
    """)


_NAMES = (
    _ok("field-destuser", "destuser=Dest.User@example.com"),
    _ok("field-destuser-variable", "destuser=%n@example.org"),
    _ok("field-destuser-empty", "destuser=", differs="empty `destuser`",
        substitute=(('LOGIN ""', 'LOGIN "field-destuser-empty"'), (" as user ", ""), ("in=201", "in=221"))),
    _ok("field-pass", "pass=other"),
    _ok("field-pass-empty", "pass="),
    _ok("field-pass-quote", r'pass=a"b\\c'),
    _ok("field-user", "user=renamed"),
    _ok("field-master", "master=mm pass=mpass destuser=dest"),
    _ok("field-master-client-pass", "master=mm"),
    _ok("field-master-empty", "master="),
    _ok("field-master-no-sasl-ir", "master=mm pass=mpass", _NO_SASL_IR),
    _ok("field-mech-plain", "proxy_mech=PLAIN"),
    _ok("field-mech-lower-case", "proxy_mech=plain"),
    _ok("field-mech-plain-no-ir", "proxy_mech=PLAIN", _NO_SASL_IR),
    _ok("field-mech-login", "proxy_mech=LOGIN", GREET + r"""
        < ^L
        > + VXNlcm5hbWU6
        < .
        > + UGFzc3dvcmQ6
        < .
    """ + LOGGED_IN),
    _ok("field-mech-login-no-ir", "proxy_mech=LOGIN", r"""
        > * OK [CAPABILITY IMAP4rev1 ID AUTH=LOGIN] hi
        < ^L
        > + VXNlcm5hbWU6
        < .
        > + UGFzc3dvcmQ6
        < .
    """ + LOGGED_IN),
    _ok("field-mech-external", "proxy_mech=EXTERNAL destuser=dest"),
    _ok("field-mech-xoauth2", "proxy_mech=XOAUTH2"),
    _ok("field-mech-oauthbearer", "proxy_mech=OAUTHBEARER"),
    _fails("field-mech-refused", "proxy_mech=PLAIN", GREET + "< ^L\n>> I OK\\r\\nL NO [ALERT] nope\\r\\n"),
    _fails("field-mech-bad-challenge", "proxy_mech=LOGIN", GREET + "< ^L\n> + !!!\neof"),
    _fails("field-mech-xoauth2-error", "proxy_mech=XOAUTH2", GREET + r"""
        < ^L
        > + $b64({"status":"401"})
        < ^
        >> I OK\r\nL NO [AUTHENTICATIONFAILED] token\r\n
    """, log=False),
    _preflight("field-mech-unknown", "Unsupported SASL mechanism FOO", f"{PROXIED} proxy_mech=FOO"),
    _preflight("field-mech-empty", "Unsupported SASL mechanism ", f"{PROXIED} proxy_mech="),
    _preflight("field-host-missing", "host not given", "proxy=y port=$port"),
    _preflight("field-hostip-garbage", "Invalid hostip foo", "proxy=y host=127.0.0.1 hostip=foo port=$port"),
    _preflight("field-loop", "Proxying loops to itself", "proxy=y host=127.0.0.1 port=$imap"),
)

_DESTINATION = (
    Scenario("field-hostip", LOGIN + NOOP, fields="proxy=y host=backend.invalid hostip=127.0.0.1 port=$port"),
    Scenario("field-host-address-short", LOGIN + NOOP, fields="proxy=y host=127.1 port=$port"),
    Scenario("field-proxy-no", LOGIN + NOOP, fields="proxy=no host=127.0.0.1 port=$port"),
    _ok("field-source-ip", "source_ip=127.0.0.9"),
    _ok("field-source-ip-empty", "source_ip="),
    _ok("field-timeout-zero", "proxy_timeout=0"),
    _ok("field-not-trusted", backend=_NO_ID, extra="proxy_not_trusted=y"),
    _ok("field-not-trusted-empty", backend=_NO_ID, extra="proxy_not_trusted="),
    _ok("field-refresh-bad", "proxy_refresh=zz"),
    _ok("field-unknown", "foo=bar proxy_noauth=y"),
    _ok("field-nologin-ignored", "nologin=y reason=no"),
    _ok("field-immediate-failure-bad", "proxy_host_immediate_failure_after=2"),
    Scenario("field-maybe", LOGIN + NOOP, fields="proxy_maybe=y host=127.0.0.1 port=$port"),
)

_FORWARD = (
    _ok("forward-one", "forward_foo=bar"),
    _ok("forward-several", "forward_a=1 forward_b=two forward_c=3"),
    _ok("forward-empty", "forward_empty="),
    _ok("forward-escapes", r'forward_x=a"b\\c'),
    _ok("forward-no-name", "forward_=x"),
    _ok("forward-case", "FORWARD_Foo=Bar"),
    _ok("forward-8bit", r"forward_x=\xc3\xa4", differs="IMAP literals to the backend",
        substitute=(("{2}", "{2+}"), ("in=235", "in=236"))),
    _ok("forward-long", "forward_x=${v*1500}"),
    _ok("forward-not-trusted", "forward_foo=bar proxy_not_trusted=y", _NO_ID),
    _ok("forward-no-id-capability", "forward_foo=bar",
        "> * OK [CAPABILITY IMAP4rev1] hi\n< ^L\n>> L OK [CAPABILITY X] in\\r\\n\nserve"),
)

_NOPIPELINING = (
    _ok("nopipelining", "proxy_nopipelining=y", f"""
        > * OK [CAPABILITY {CAPABILITIES}] hi
        < ^I
        quiet 0.2
        > I OK done
        < ^L
        >> L OK [CAPABILITY X] in\\r\\n
        serve
    """),
    _ok("nopipelining-id-refused", "proxy_nopipelining=y", f"""
        > * OK [CAPABILITY {CAPABILITIES}] hi
        < ^I
        quiet 0.2
        > I NO done
        < ^L
        >> L OK [CAPABILITY X] in\\r\\n
        serve
    """),
    _ok("nopipelining-capability", "proxy_nopipelining=y", r"""
        > * OK hi
        < ^C
        quiet 0.2
        >> * CAPABILITY IMAP4rev1 LATER\r\nC OK done\r\n
        < ^L
        >> L OK in\r\n
        serve
    """),
    _ok("nopipelining-starttls", "proxy_nopipelining=y starttls=any-cert proxy_not_trusted=y", f"""
        > * OK [CAPABILITY {_CAPS}] hi
        < ^S
        > S OK go
        tls
        < ^L
        >> L OK in\\r\\n
        serve
    """),
    Scenario("nopipelining-client-capability", r"""
        < ^\* OK
        > c CAPABILITY
        < ^c
        > a LOGIN $u pw
        < ^a
    """ + NOOP, f"""
        > * OK [CAPABILITY {CAPABILITIES}] hi
        < ^I
        quiet 0.2
        > I OK done
        < ^C
        quiet 0.2
        >> * CAPABILITY IMAP4rev1 ASKED\\r\\nC OK done\\r\\n
        < ^L
        >> L OK in\\r\\n
        serve
    """, extra="proxy_nopipelining=y"),
)

_TLS_SERVES = f"""
    tls %s
    > * OK [CAPABILITY {CAPABILITIES}] hi
    < ^L
""" + LOGGED_IN

_TLS = (
    _ok("ssl-any-cert", "ssl=any-cert", _TLS_SERVES % "self"),
    _ok("ssl-yes", "ssl=yes", _TLS_SERVES % "ip"),
    _ok("ssl-no-is-yes", "ssl=no", _TLS_SERVES % "ip"),
    Scenario("ssl-name", LOGIN + NOOP, _TLS_SERVES % "name",
             fields="proxy=y host=backend.test hostip=127.0.0.1 port=$port ssl=yes"),
    Scenario("ssl-wrong-name", _FAILS, "tls name\neof",
             fields="proxy=y host=other.test hostip=127.0.0.1 port=$port ssl=yes"),
    _fails("ssl-no-ip-in-cert", "ssl=yes", "tls name\neof"),
    _fails("ssl-foreign-ca", "ssl=yes", "tls foreign\neof"),
    _fails("ssl-self-signed", "ssl=yes", "tls self\neof"),
    _fails("ssl-plain-backend", "ssl=any-cert", "> * OK I speak no TLS\neof", log=False),
    _fails("ssl-backend-closes", "ssl=any-cert", "close", log=False),
    _ok("ssl-logindisabled", "ssl=any-cert", r"""
        tls
        > * OK [CAPABILITY IMAP4rev1 LOGINDISABLED] hi
        < ^L
        >> L OK [CAPABILITY X] in\r\n
        serve
    """),
    _ok("ssl-large", "ssl=any-cert", r"""
        tls
        > * OK [CAPABILITY IMAP4rev1] hi
        < ^L
        >> L OK [CAPABILITY X] in\r\n* ${z*60000}\r\n
        serve
    """),
    _ok("starttls-any-cert", "starttls=any-cert forward_foo=bar", _starttls("self"), log=False,
        differs="IMAP ID and STARTTLS", expected_backend=f"""
        #1
        B: * OK [CAPABILITY {_CAPS}] hi
        P: S STARTTLS
        B: S OK begin
        -- TLS
        P: I ID ({ID_PARAMETERS} "x-forward-foo" "bar")
        P: L LOGIN "starttls-any-cert" "pw"
        B: L OK [CAPABILITY IMAP4rev1] in
        P: n NOOP
        B: n OK NOOP done
        <EOF>
    """),
    _ok("starttls-yes", "starttls=yes proxy_not_trusted=y", _starttls("ip")),
    _ok("starttls-with-ssl", "ssl=yes starttls=yes proxy_not_trusted=y", _starttls("ip")),
    _fails("starttls-foreign-ca", "starttls=yes proxy_not_trusted=y", _starttls("foreign")),
    _fails("starttls-not-offered", "starttls=any-cert proxy_not_trusted=y",
           "> * OK [CAPABILITY IMAP4rev1 ID] hi\neof"),
    _ok("starttls-capabilities-unknown", "starttls=any-cert", r"""
        > * OK hi
        < ^S
        > S OK go
        tls
        < ^L
        >> * CAPABILITY IMAP4rev1 LATER\r\nC OK\r\nL OK in\r\n
        serve
    """),
    _fails("starttls-ok-without-text", "starttls=any-cert proxy_not_trusted=y",
           f"> * OK [CAPABILITY {_CAPS}] hi\n< ^S\n> S OK\neof"),
    _fails("starttls-refused", "starttls=any-cert proxy_not_trusted=y",
           f"> * OK [CAPABILITY {_CAPS}] hi\n< ^S\n> S NO not now\neof"),
    _fails("starttls-bad", "starttls=any-cert proxy_not_trusted=y",
           f"> * OK [CAPABILITY {_CAPS}] hi\n< ^S\n> S BAD not now\neof", differs="IMAP STARTTLS BAD text",
           substitute=(("failed:  not", "failed: not"),)),
    _fails("starttls-injection", "starttls=any-cert proxy_not_trusted=y", f"""
        > * OK [CAPABILITY {_CAPS}] hi
        < ^S
        >> S OK go\\r\\n* OK [CAPABILITY EVIL] hi\\r\\nL OK in\\r\\n
        wait 0.3
        close
    """, log=False),
    _ok("starttls-logindisabled", "starttls=any-cert proxy_not_trusted=y", r"""
        > * OK [CAPABILITY IMAP4rev1 STARTTLS LOGINDISABLED] hi
        < ^S
        > S OK go
        tls
        < ^L
        >> L OK [CAPABILITY X] in\r\n
        serve
    """),
)

_PORTS = (
    Scenario("port-missing", _FAILS, fields="proxy=y host=127.0.0.77"),
    Scenario("port-missing-ssl", _FAILS, fields="proxy=y host=127.0.0.77 ssl=any-cert"),
    Scenario("port-missing-starttls", _FAILS, fields="proxy=y host=127.0.0.77 starttls=any-cert"),
    Scenario("port-with-ssl-behind", _FAILS, fields="proxy=y host=127.0.0.77 port=1 ssl=any-cert"),
    Scenario("port-with-ssl-before", _FAILS, fields="proxy=y host=127.0.0.77 ssl=any-cert port=1"),
)
_ELEMENTS = "method=PLAIN, rip=127.0.0.1, lip=127.0.0.1, secured, session=<SESSION>"
_BAD_TIMEOUT = Scenario("field-timeout-bad", _FAILS, extra="proxy_timeout=abc", differs="invalid `proxy_timeout`",
                        expected_client=f"""
        -- connect
        S: * OK [CAPABILITY {CAPABILITIES.replace(" AUTH=PLAIN", "")} STARTTLS AUTH=PLAIN AUTH=LOGIN] Proxy ready.
        C: a LOGIN field-timeout-bad pw
        S: a NO [UNAVAILABLE] Account is temporarily unavailable.
        C: n NOOP
        S: n OK NOOP completed.
        -- close
    """, expected_backend="", expected_log=f"""
        Error: proxy(field-timeout-bad): BUG: Auth service returned invalid proxy_timeout value 'abc': \
Invalid time interval: abc: user=<field-timeout-bad>, {_ELEMENTS}
        Info: Disconnected: Connection closed (internal failure, 1 successful auths): \
user=<field-timeout-bad>, {_ELEMENTS}
    """)
_BAD_PORTS = tuple(
    Scenario(f"port-{name}", _FAILS, fields=f"proxy=y host=127.0.0.77 port={value}", differs="invalid `port`",
             expected_log=f"""
        Error: proxy(port-{name}): Auth service returned invalid port number: {value}: user=<port-{name}>, {_ELEMENTS}
        Info: Disconnected: Connection closed (internal failure, 1 successful auths): user=<port-{name}>, {_ELEMENTS}
    """) for name, value in (("zero", "0"), ("too-large", "99999"), ("empty", ""), ("garbage", "imap")))

_TLS_CONF = """
ssl_ca = <$dir/tls/ca.pem
ssl_require_crl = no
"""
GROUPS = (
    Group("fields", (*_NAMES, *_DESTINATION, *_FORWARD, *_NOPIPELINING),
          "login_proxy_max_reconnects = 0", login="service_count = 1"),
    Group("tls", _TLS, _TLS_CONF + "login_proxy_max_reconnects = 0"),
    Group("ports", (*_PORTS, *_BAD_PORTS, _BAD_TIMEOUT), "login_proxy_max_reconnects = 0"),
    Group("clientcert", (
        _ok("ssl-client-cert", "ssl=yes", _TLS_SERVES % "ip"),
        _ok("starttls-client-cert", "starttls=yes proxy_not_trusted=y", _starttls("ip")),
        _ok("ssl-external", "ssl=yes proxy_mech=EXTERNAL", _TLS_SERVES % "ip"),
    ), _TLS_CONF + "ssl_client_cert = <$dir/tls/client.pem\nssl_client_key = <$dir/tls/client.key\n"),
    Group("lenient", (
        _ok("ssl-not-required-valid", "ssl=yes", _TLS_SERVES % "self"),
        _ok("starttls-not-required-valid", "starttls=yes proxy_not_trusted=y", _starttls("foreign")),
    ), _TLS_CONF + "ssl_client_require_valid_cert = no\n"),
    Group("sources", (
        _ok("sources-address", ""),
        _ok("sources-field-wins", "source_ip=127.0.0.9"),
        _ok("sources-field-empty", "source_ip=", differs="invalid `source_ip`", log=False,
            substitute=(("#1\n", "#1\n-- from 127.0.0.8\n"),)),
        _ok("sources-field-garbage", "source_ip=foo", differs="invalid `source_ip`", log=False,
            substitute=(("#1\n", "#1\n-- from 127.0.0.8\n"),)),
    ), "login_source_ips = 127.0.0.8"),
)
