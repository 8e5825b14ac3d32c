"""POP3: the commands before login, the dialogue with the backend, what each answer of it means."""
from __future__ import annotations

from ..scenario import Group, Scenario

_FAR = "connect from 127.0.0.6"
_GREETED = "< ^\\+OK\n"
_LOGIN = r"""
    > USER $u
    < ^[+-]
    > PASS pw
    < ^[+-]
"""
_IN = """
    > STAT
    < ^[+-]
"""
_OUT = """
    > NOOP
    < ^-ERR
    close
"""
_BANNER = "> +OK [XCLIENT] Backend ready.\n"
_ACCEPT = _BANNER + r"""
    < ^USER
    >> +OK Updated\r\n+OK\r\n
    < ^PASS
    > +OK Logged in.
    serve pop3
"""
_AUTH_BACKEND = _BANNER + r"""
    < ^AUTH
    >> +OK Updated\r\n+OK Logged in.\r\n
    serve pop3
"""


def _before(name: str, steps: str, **more: object) -> Scenario:
    """Commands of a client that does not log in."""
    return Scenario(name, _GREETED + steps, "", **more)     # type: ignore[arg-type]


def _ok(name: str, extra: str = "", backend: str = _ACCEPT, client: str = _LOGIN + _IN, **more: object) -> Scenario:
    return Scenario(name, _GREETED + client, backend, extra=extra, **more)      # type: ignore[arg-type]


def _fails(name: str, extra: str = "", backend: str = "", client: str = _LOGIN + _OUT, **more: object) -> Scenario:
    return Scenario(name, _GREETED + client, backend, extra=extra, **more)      # type: ignore[arg-type]


def _answer(name: str, reply: str, backend: str = "", **more: object) -> Scenario:
    """The backend answers PASS like this."""
    return _fails(name, "", backend or _BANNER + f"< ^USER\n>> +OK\\r\\n+OK\\r\\n\n< ^PASS\n{reply}\n", **more)


_NUL = "NUL in a POP3 user name or password"
_COMMANDS = (
    _before("pop3-capa", "> CAPA\n< ^\\.$\n> capa\n< ^\\.$\n> CAPA x y\n< ^\\.$\n"),
    _before("pop3-quit", "> QUIT\neof"),
    _before("pop3-quit-lower", "> quit now\neof"),
    _before("pop3-bad", "> NOOP\n< ^-\n> STAT\n< ^-\n> CAPA\n< ^\\.$\n> FOO\n< ^-\n> FOO bar\n< ^-\n> LIST\neof"),
    _before("pop3-long-command", "> ABCDEFGHIJKLMNOP\n< ^-\n> CAPABILITY\n< ^-\n> CAPA\n< ^\\.$\n"),
    _before("pop3-empty-lines", "> \n< ^-\n>  CAPA\n< ^-\n> CAPA\n< ^\\.$\n"),
    _before("pop3-lf-only", ">> CAPA\\n\n< ^\\.$\n>> NOOP\\n\n< ^-\n"),
    _before("pop3-nul", ">> US\\0ER x\\r\\n\n< ^-\n> CAPA\n< ^\\.$\n"),
    _before("pop3-nul-user", ">> USER $u\\0x\\r\\n\n< ^\\+\n> PASS wrong\n< ^-\nclose",
            differs=_NUL, substitute=(("user=<pop3-nul-user>", "user=<>"),)),
    _before("pop3-nul-password", ">> USER $u\\r\\nPASS x\\0y\\r\\n\n< ^\\+\n< ^-\nclose",
            differs=_NUL, substitute=(("user=<pop3-nul-password>", "user=<>"),)),
    _before("pop3-eight-bit", ">> \\xff\\xfe\\r\\n\n< ^-\n> CAPA\n< ^\\.$\n"),
    _before("pop3-stls-apop", "> APOP $u 00112233445566778899aabbccddeeff\n< ^-\n> APOP\n< ^-\n> CAPA\n< ^\\.$\n"),
    _before("pop3-auth-list", "> AUTH\n< ^\\.$\n> auth\n< ^\\.$\n"),
    _before("pop3-auth-unknown", "> AUTH FOO\n< ^-\n> AUTH FOO bar\n< ^-\n> CAPA\n< ^\\.$\nclose"),
    _before("pop3-auth-abort", "> AUTH PLAIN\n< ^\\+\n> *\n< ^-\n> AUTH LOGIN\n< ^\\+\n> *\n< ^-\n> QUIT\neof"),
    _before("pop3-auth-disconnect", "> AUTH PLAIN\n< ^\\+\nclose"),
    _before("pop3-auth-bad-base64", "> AUTH PLAIN !!!\n< ^-\n> AUTH PLAIN\n< ^\\+\n> ???\n< ^-\n> QUIT\neof"),
    _before("pop3-auth-empty", "> AUTH PLAIN =\n< ^-\nclose"),
    _before("pop3-auth-long-ir", "> AUTH PLAIN ${A*9000}\neof"),
    _before("pop3-auth-long-response", "> AUTH PLAIN\n< ^\\+\n> ${A*9000}\neof"),
    _before("pop3-pass-first", "> PASS pw\n< ^-\n> USER $u\n< ^\\+\n> CAPA\n< ^\\.$\nclose"),
    _before("pop3-user-empty", "> USER\n< ^[+-]\n> PASS\n< ^[+-]\n> PASS x\n< ^[+-]\nclose"),
    _before("pop3-user-long", "> USER ${u*1100}\neof"),
    _before("pop3-user-1000", "> USER ${u*1000}\n< ^\\+\n> PASS x\n< ^-\nclose"),
    _before("pop3-no-newline", ">> ${x*1500}\neof"),
    _before("pop3-stls-tls", "> STLS\n< ^\\+\ntls\n> CAPA\n< ^\\.$\n> STLS\n< ^-\n> QUIT\neof"),
    _before("pop3-stls-argument", "> STLS x\n< ^[+-]\ntls\n> QUIT\neof"),
    _before("pop3-stls-injection", ">> STLS\\r\\nUSER evil\\r\\n\n< ^\\+\neof"),
    _before("pop3-xclient-untrusted", "> XCLIENT ADDR=1.2.3.4 PORT=7\n< ^[+-]\n> XCLIENT\n< ^[+-]\n"
            "> XCLIENT ADDR=garbage\n< ^[+-]\n> XOIP 1.2.3.4\n< ^[+-]\n> CAPA\n< ^\\.$\nclose"),
    Scenario("pop3-pop3s", "connect tls\n< ^\\+OK\n> CAPA\n< ^\\.$\n" + _LOGIN + _IN, _ACCEPT),
    _ok("pop3-login"),
    _ok("pop3-login-lower", client="> user $u\n< ^\\+\n> pass pw\n< ^\\+\n" + _IN),
    _ok("pop3-login-pipelined", client=">> USER $u\\r\\nPASS pw\\r\\nSTAT\\r\\nLIST\\r\\n\n< LIST done\n"),
    _ok("pop3-capa-then-login", client="> CAPA\n< ^\\.$\n" + _LOGIN + _IN),
    _ok("pop3-password-spaces", "", client="> USER $u\n< ^\\+\n> PASS a b  c \n< ^\\+\n" + _IN, password="a b  c "),
    _ok("pop3-auth-plain", client="> AUTH PLAIN $b64(\\0$u\\0pw)\n< ^\\+OK\n" + _IN),
    _ok("pop3-auth-plain-continued", client="> AUTH PLAIN\n< ^\\+\n> $b64(\\0$u\\0pw)\n< ^\\+OK\n" + _IN),
    _ok("pop3-auth-lower", client="> auth plain $b64(\\0$u\\0pw)\n< ^\\+OK\n" + _IN),
    _ok("pop3-auth-login", client="> AUTH LOGIN\n< ^\\+\n> $b64($u)\n< ^\\+\n> $b64(pw)\n< ^\\+OK\n" + _IN),
    _ok("pop3-auth-trailing", client="> AUTH PLAIN $b64(\\0$u\\0pw) \n< ^[+-]\nclose"),
    _ok("pop3-user-twice", client="> USER nobody\n< ^\\+\n" + _LOGIN + _IN),
    _ok("pop3-again", client="> USER $u\n< ^\\+\n> PASS wrong\n< ^-\n> PASS pw\n< ^-\n" + _LOGIN + _IN),
    _fails("pop3-wrong-password", client="> USER $u\n< ^\\+\n> PASS wrong\n< ^-\n" + _OUT),
    _fails("pop3-unknown-user", fields=None),
)

_ANSWERS = (
    _answer("pop3-refused", "> -ERR [AUTH] Bad credentials, sir"),
    _answer("pop3-refused-no-code", "> -ERR nope"),
    _answer("pop3-refused-bare", "> -ERR"),
    _answer("pop3-refused-junk", "> what"),
    _answer("pop3-in-use", "> -ERR [IN-USE] Mailbox is locked"),
    _answer("pop3-tempfail", "> -ERR [SYS/TEMP] later"),
    _answer("pop3-user-refused", "", _BANNER + "< ^USER\n>> +OK\\r\\n-ERR no such user\\r\\n\n"),
    _answer("pop3-xclient-refused", "", _BANNER + "< ^USER\n>> -ERR go away\\r\\n+OK\\r\\n\n"),
    _answer("pop3-banner-err", "", "> -ERR busy\n"),
    _answer("pop3-banner-imap", "", "> * OK hello\n"),
    _answer("pop3-banner-long", "", "> +OK ${x*5000}\n"),
    _answer("pop3-closes-after-user", "", _BANNER + "< ^USER\nclose"),
    _answer("pop3-pass-continuation", "> + Zm9v"),
    _ok("pop3-no-xclient", backend="> +OK ready\n< ^USER\n> +OK\n< ^PASS\n> +OK hi\nserve pop3"),
    _ok("pop3-xclient-elsewhere", backend="> +OK ready [XCLIENT]\n< ^USER\n> +OK\n< ^PASS\n> +OK hi\nserve pop3"),
    _ok("pop3-ok-bare", backend="> +OK\n< ^USER\n> +OK\n< ^PASS\n> +OK\nserve pop3"),
    _ok("pop3-ok-glued", backend="> +OKAY\n< ^USER\n> +OKAY\n< ^PASS\n> +OKAY then\nserve pop3"),
    _ok("pop3-early-data", backend="> +OK hi\n< ^USER\n> +OK\n< ^PASS\n>> +OK in\\r\\n+OK more\\r\\n\nserve pop3",
        client=_LOGIN + "< more\n" + _IN),
    _answer("pop3-premature-ok", "", "> +OK hi\n< ^USER\n>> +OK\\r\\n+OK never asked\\r\\n\nserve pop3",
            client=_LOGIN + "< PASS\n" + _IN),
)

_FIELDS = (
    _ok("pop3-destuser", "destuser=Dest@example.com"),
    _ok("pop3-forward", "forward_foo=bar forward_z=a=b forward_e= forward_x-y=1"),
    _ok("pop3-forward-escaped", "forward_a=t\\tt"),
    _ok("pop3-not-trusted", "proxy_not_trusted=y forward_foo=bar",
        _BANNER + "< ^USER\n> +OK\n< ^PASS\n> +OK in\nserve pop3"),
    _ok("pop3-nopipelining", "proxy_nopipelining=y"),
    _ok("pop3-pass", "pass=other"),
    _ok("pop3-master", "master=mm pass=mp destuser=d", _AUTH_BACKEND),
    _ok("pop3-mech-login", "proxy_mech=login", _BANNER + r"""
        < ^AUTH
        >> +OK\r\n+ VXNlcm5hbWU6\r\n
        < .
        > + UGFzc3dvcmQ6
        < .
        > +OK in
        serve pop3
    """),
    _ok("pop3-mech-external", "proxy_mech=external", _AUTH_BACKEND),
    _ok("pop3-mech-xoauth2", "proxy_mech=xoauth2", _AUTH_BACKEND),
    _fails("pop3-mech-challenge-junk", "proxy_mech=login", _BANNER + "< ^AUTH\n>> +OK\\r\\n+ !!!\\r\\n\neof"),
    _fails("pop3-auth-refused", "proxy_mech=plain", _BANNER + "< ^AUTH\n>> +OK\\r\\n-ERR [AUTH] no\\r\\n\neof"),
    _fails("pop3-nologin", client=_LOGIN + _OUT, fields="nologin=y"),
    _fails("pop3-nologin-reason", client=_LOGIN + _OUT, fields="nologin=y reason=Gone"),
    _fails("pop3-nologin-alert", client=_LOGIN + _OUT, fields="nologin=y reason=[ALERT]hey"),
    _fails("pop3-referral", client=_LOGIN + _OUT, fields="nologin=y host=192.0.2.1 port=1234 reason=Moved"),
    _fails("pop3-dead", "", fields="proxy=y host=127.0.0.1 port=$dead"),
    _fails("pop3-loop", "", fields="proxy=y host=127.0.0.1 port=$pop3 destuser=other"),
)

_TRUSTED = "connect from 127.0.0.5\n" + _GREETED
_FULL = "ADDR=10.11.12.13 PORT=4321 SESSION=SESS/abc+1 TTL=%s FORWARD=$b64(foo=bar\\tz=1)"


def _xclient(name: str, *parameters: str, then: str = _LOGIN + _IN, **more: object) -> Scenario:
    """A trusted peer sends these XCLIENT commands, then logs in."""
    steps = "".join(f"> XCLIENT {text}\n< ^[+-]\n" for text in parameters)
    return Scenario(name, _TRUSTED + steps + then, _ACCEPT, **more)     # type: ignore[arg-type]


_PEERS = (
    _xclient("pop3-trusted-full", _FULL % 3),
    _xclient("pop3-trusted-none"),
    _xclient("pop3-trusted-empty", ""),
    _xclient("pop3-trusted-ttl-1", _FULL % 1, then=_LOGIN + _OUT),
    _xclient("pop3-trusted-ttl-bad", "TTL=x ADDR=10.9.9.9", "TTL=", then=_LOGIN + _IN),
    _xclient("pop3-trusted-lower", "addr=10.11.12.13 port=77 session=abc ttl=2"),
    _xclient("pop3-trusted-ipv6", "ADDR=2001:db8::1 PORT=4321"),
    _xclient("pop3-trusted-part", "SESSION=abc ADDR=x TTL=2"),
    _xclient("pop3-trusted-port-0", "PORT=0", "PORT=65536", "PORT=65535"),
    _xclient("pop3-trusted-long-session", "SESSION=${s*64}", "SESSION=${t*65}"),
    _xclient("pop3-trusted-unknown", "FOO=bar LOGIN=x baz ADDR=10.1.1.1"),
    _xclient("pop3-trusted-again", "ADDR=10.1.1.1 FORWARD=$b64(a=1\\tb=2)", "ADDR=10.2.2.2 FORWARD=$b64(c=3)",
             "PORT=7"),
    _xclient("pop3-trusted-forward-bad", "FORWARD=!!!", "FORWARD=Zm9", "FORWARD="),
    _xclient("pop3-trusted-forward-escaped", "FORWARD=$b64(a=\\x01t\\x011\\tb=x=y)"),
    _xclient("pop3-trusted-overridden", "FORWARD=$b64(foo=client\\tother=1)", extra="forward_foo=passdb"),
    _xclient("pop3-trusted-proxy", "FORWARD=$b64(proxy=y\\tpass=evil\\thost=192.0.2.1\\tnopassword=y)"),
    _xclient("pop3-trusted-bare", "FORWARD=$b64(nopassword\\tx)"),
    _xclient("pop3-trusted-bare-proxy", "FORWARD=$b64(destuser\\tmaster)"),
    _xclient("pop3-trusted-control", "FORWARD=$b64(a=1\\0\\tb=2)"),
    _xclient("pop3-trusted-address-short", "ADDR=10.1.2", differs="invalid forwarded address", substitute=(
        ("S: +OK Updated\nC:", "S: -ERR Invalid parameters\nC:"), ("SESSION($client 10.1.0.2)", "SESSION"),
        ("10.1.0.2", "127.0.0.5"), ("in=113, out=77", "in=114, out=89"))),
    _xclient("pop3-trusted-wrong-password", _FULL % 3, then="> USER $u\n< ^\\+\n> PASS wrong\n< ^-\nclose"),
    Scenario("pop3-trusted-xoip", _TRUSTED + "> XOIP 10.3.3.3\n< ^[+-]\n> XOIP x\n< ^[+-]\n> XOIP\n< ^[+-]\n" + _LOGIN
             + _IN, _ACCEPT),
    Scenario("pop3-trusted-stls", _TRUSTED + "> STLS\n< ^\\+\ntls\n> XCLIENT " + _FULL % 3 + "\n< ^[+-]\n" + _LOGIN
             + _IN, _ACCEPT),
)
_REFUSED = """
    > CAPA
    < ^\\.$
    > AUTH
    < ^\\.$
    > USER $u
    < ^-
    > PASS pw
    < ^-
    > AUTH PLAIN $b64(\\0$u\\0pw)
    < ^-
    > AUTH FOO
    < ^-
    close
"""


def _insecure(prefix: str) -> tuple[Scenario, ...]:
    return (
        Scenario(f"{prefix}-refused", f"{_FAR}\n{_GREETED}{_REFUSED}", ""),
        Scenario(f"{prefix}-user", f"{_FAR}\n{_GREETED}> USER $u\n< ^-\nclose", ""),
        Scenario(f"{prefix}-pass", f"{_FAR}\n{_GREETED}> PASS pw\n< ^-\n> APOP a b\n< ^-\nclose", ""),
        Scenario(f"{prefix}-stls", f"{_FAR}\n{_GREETED}> STLS\n< ^\\+\ntls\n> CAPA\n< ^\\.$\n{_LOGIN}{_IN}", _ACCEPT),
    )


_CODES = (
    _answer("pop3-retried", "> -ERR [SYS/TEMP] later\n---\n" + _ACCEPT, client=_LOGIN + _IN),
    _answer("pop3-retried-in-vain", "> -ERR [SYS/TEMP] later"),
    _fails("pop3-dies-often", "", "close"),
)
_APOP = (
    Scenario("pop3-apop-wrong", _GREETED + "> APOP $u 00112233445566778899aabbccddeeff\n< ^-\n> APOP $u 0011\n< ^-\n"
             "> APOP $u\n< ^-\n> APOP\n< ^-\n> APOP $u zz112233445566778899aabbccddeeff\n< ^-\n> AUTH APOP\n< ^-\n"
             "> AUTH\n< ^\\.$\n> CAPA\n< ^\\.$\nclose", ""),
)
_STLS = "> +OK hi\n< ^STLS\n"
_TLS = (
    _ok("pop3-backend-stls", "starttls=yes forward_a=b",
        "> +OK [XCLIENT] hi\n< ^STLS\n> +OK go\ntls\n< ^USER\n>> +OK\\r\\n+OK\\r\\n\n< ^PASS\n> +OK in\nserve pop3"),
    _fails("pop3-backend-stls-refused", "starttls=yes", _STLS + "> -ERR no\n"),
    _fails("pop3-backend-stls-injected", "starttls=yes", _STLS + ">> +OK go\\r\\n+OK more\\r\\n+OK in\\r\\n\neof",
           differs="clear text behind STARTTLS", substitute=(("P: a TLS handshake\n", ""),)),
    _fails("pop3-backend-stls-stripped", "starttls=yes", _STLS + "> -ERR unknown\neof"),
    _ok("pop3-backend-tls", "ssl=yes", "tls\n" + _ACCEPT),
    _fails("pop3-backend-foreign", "ssl=yes", "tls foreign\n", log=False),
)
GROUPS = (
    Group("pop3-tls", _TLS, "ssl_ca = <$dir/tls/ca.pem\nssl_require_crl = no\nlogin_proxy_max_reconnects = 0",
          protocol="pop3"),
    Group("pop3", (*_COMMANDS, *_ANSWERS, *_FIELDS), "login_proxy_max_reconnects = 0", protocol="pop3"),
    Group("pop3-trusted", _PEERS, "login_trusted_networks = 127.0.0.5\nlogin_log_format_elements = user=<%u> "
          "method=%m rip=%r lip=%l rport=%b real_rip=%{real_rip} real_rport=%{real_rport} %c session=<%{session}> "
          "fwd=%{passdb:forward_foo}\n", protocol="pop3"),
    Group("pop3-insecure", _insecure("pop3-insecure"), protocol="pop3"),
    Group("pop3-required", _insecure("pop3-required"), "ssl = required", protocol="pop3"),
    Group("pop3-nossl", (
        _before("pop3-nossl-stls", "> STLS\n< ^-\n> CAPA\n< ^\\.$\n"),
        Scenario("pop3-nossl-far", f"{_FAR}\n{_GREETED}> CAPA\n< ^\\.$\n{_LOGIN}{_IN}", _ACCEPT),
    ), "ssl = no\ndisable_plaintext_auth = no", protocol="pop3"),
    Group("pop3-retries", _CODES, "login_proxy_max_reconnects = 1", protocol="pop3"),
    Group("pop3-apop", _APOP, "auth_mechanisms = plain apop", protocol="pop3"),
    Group("pop3-quiet", (_before("pop3-quiet-apop", "> APOP x y\n< ^-\nclose"),
                         _fails("pop3-quiet-refused", backend=_BANNER + "< ^USER\n>> +OK\\r\\n-ERR no\\r\\n\n")),
          "auth_verbose = no", protocol="pop3"),
)
