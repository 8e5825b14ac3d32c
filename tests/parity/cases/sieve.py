"""ManageSieve: the commands before login, the dialogue with the backend, what each answer of it means."""
from __future__ import annotations

from ..scenario import Group, Scenario

_FAR = "connect from 127.0.0.6\n"
_READY = '< ^OK "Proxy ready'
_GREETED = _READY + "\n"
_STATUS = "< ^(OK|NO|BYE)\n"
_AUTH = r'> AUTHENTICATE "PLAIN" "$b64(\0$u\0pw)"'
_LOGIN = f"{_AUTH}\n{_STATUS}"
_IN = "> LISTSCRIPTS\n< LISTSCRIPTS done\n"
_OUT = "> NOOP\n< NOOP\nclose"
_LINES = r"""
    >> "IMPLEMENTATION" "Fake"\r\n"SIEVE" "fileinto"\r\n"SASL" "PLAIN LOGIN"\r\n"STARTTLS"\r\n
    >> "VERSION" "1.0"\r\n"XCLIENT"\r\n
"""
_GREET = _LINES + '> OK "Fake ready."\n'
_TRUSTING = _GREET + '< ^XCLIENT\n> OK "Updated"\n< ^AUTH\n'
_ACCEPT = _TRUSTING + '> OK "Logged in."\nserve sieve'
_NO_XCLIENT = '> "SASL" "PLAIN"\n> OK "hi"\n< ^AUTH\n'


def _before(name: str, steps: str, **more: object) -> Scenario:
    """Commands of a client that does not log in."""
    return Scenario(name, _GREETED + steps, "", **more)     # type: ignore[arg-type]


def _each(*commands: str) -> str:
    return "".join(f"> {command}\n{_STATUS}" for command in commands)


def _ok(name: str, extra: str = "", backend: str = _ACCEPT, client: str = _LOGIN + _IN, **more: object) -> Scenario:
    return Scenario(name, _GREETED + client, backend, extra=extra, **more)      # type: ignore[arg-type]


def _fails(name: str, extra: str = "", backend: str = "", client: str = _LOGIN + _OUT, **more: object) -> Scenario:
    return Scenario(name, _GREETED + client, backend, extra=extra, **more)      # type: ignore[arg-type]


def _answer(name: str, reply: str, **more: object) -> Scenario:
    """The backend answers AUTHENTICATE like this."""
    return _fails(name, "", _NO_XCLIENT + reply + "\n", **more)


_COMMANDS = (
    _before("sieve-capability", _each("CAPABILITY", "capability", "CAPABILITY x")),
    _before("sieve-logout", "> LOGOUT\neof"),
    _before("sieve-logout-arg", _each("LOGOUT x", "logout") + "eof"),
    _before("sieve-noop", _each("NOOP", 'NOOP "abc"', 'NOOP ""', "NOOP abc", r'NOOP "a\\"b\\\\c"')),
    _before("sieve-noop-literal", "> NOOP {3+}\n> abc\n< ^OK\n> NOOP {5+}\n> a\\r\\nbc\n< Done\n" + _each("NOOP")),
    _before("sieve-noop-utf8", _each(r'NOOP "\xc3\xa4"', r'NOOP "\xff\xfe"', "NOOP")),
    _before("sieve-bad", _each("FOO", "NOOP", "BAR x") + '> HAVESPACE "x" 5\neof'),
    _before("sieve-bad-args", _each('NOOP "x', "NOOP (a)", r'NOOP "a\0b"', "NOOP", 'NOOP "a" "b"')),
    _before("sieve-empty-lines", "> \n< ^NO\n>  NOOP\n< ^NO\n> \neof"),
    _before("sieve-lf-only", ">> NOOP\\n\n< ^OK\n>> CAPABILITY\\n\n< ^OK\n"),
    _before("sieve-starttls", '> STARTTLS\n< ^OK\ntls\n< ^OK "TLS\n'
            + _each("STARTTLS", "CAPABILITY", "LOGOUT") + "eof"),
    _before("sieve-starttls-arg", _each("STARTTLS x", "NOOP")),
    _before("sieve-starttls-injection", ">> STARTTLS\\r\\nAUTHENTICATE \"PLAIN\"\\r\\n\n< ^OK\neof"),
    _before("sieve-long-quoted", '> NOOP "${a*2000}"\neof'),
    _before("sieve-long-literal", "> NOOP {2000+}\n> ${a*2000}\neof"),
    _before("sieve-long-command", "> ${X*2000}\neof"),
    _before("sieve-longest", '>> NOOP "${a*1024}"\\r\\n\n< ^OK\n> NOOP {1026+}\n> ${a*1026}\n< ^OK\n'),
    _before("sieve-auth-unknown", _each('AUTHENTICATE "FOO"', 'AUTHENTICATE "FOO" "bar"', "AUTHENTICATE PLAIN",
                                        "AUTHENTICATE") + "close"),
    _before("sieve-auth-abort", '> AUTHENTICATE "PLAIN"\n< ^"\n> "*"\n< ^NO\n> AUTHENTICATE "LOGIN"\n< ^"\n'
            "> {1+}\n> *\n< ^NO\n" + _each("NOOP") + "close"),
    _before("sieve-auth-unquoted", '> AUTHENTICATE "PLAIN"\n< ^"\n> *\n< ^NO\n' + _each("NOOP") + "close"),
    _before("sieve-auth-disconnect", '> AUTHENTICATE "PLAIN"\n< ^"\nclose'),
    _before("sieve-auth-bad-initial", '> AUTHENTICATE "PLAIN" "!!!"\n< ^NO\nclose'),
    _before("sieve-auth-bad-response", '> AUTHENTICATE "PLAIN"\n< ^"\n> "???"\n< ^NO\nclose'),
    _before("sieve-auth-after-initial", '> AUTHENTICATE "PLAIN" "!!!"\n< ^NO\n> AUTHENTICATE "PLAIN"\n'
            '< ^(NO|"")\nclose', differs="ManageSieve initial response of an earlier command", substitute=(
                ('"PLAIN"\nS: NO "Authentication failed."', '"PLAIN"\nS: ""'),
                ("auth failed, 2 attempts in N secs", "sent invalid base64 in response"))),
    _before("sieve-auth-empty", '> AUTHENTICATE "PLAIN" ""\n< ^NO\nclose'),
    _before("sieve-auth-equals", '> AUTHENTICATE "PLAIN" "="\n< ^NO\nclose'),
    _before("sieve-auth-large-quoted", '> AUTHENTICATE "PLAIN" "${A*9000}"\neof'),
    _before("sieve-auth-large-literal", '> AUTHENTICATE "PLAIN" {9000+}\n> ${A*9000}\neof'),
    _before("sieve-auth-large-response", '> AUTHENTICATE "PLAIN"\n< ^"\n> {9000+}\n> ${A*9000}\neof'),
    _before("sieve-auth-huge-literal", '> AUTHENTICATE "PLAIN" {4294967295+}\neof'),
    _before("sieve-auth-overflow", '> AUTHENTICATE "PLAIN" {99999999999999999999+}\n< ^NO\n', log=False),
    _before("sieve-xclient-untrusted", _each("XCLIENT ADDR=1.2.3.4", "XCLIENT", "XCLIENT x", "NOOP")),
    # Dovecot now and then overlooks a command that comes at once behind its greeting inside TLS
    Scenario("sieve-tls", f"connect tls\n{_GREETED}wait 0.3\n" + _LOGIN + _IN, _ACCEPT),
    _ok("sieve-login"),
    _ok("sieve-login-lower", client=r'> authenticate "plain" "$b64(\0$u\0pw)"' f"\n{_STATUS}{_IN}"),
    _ok("sieve-login-literal", client='> AUTHENTICATE "PLAIN" {44+}\n'
        r"> $b64(\0sieve-login-literal\0pw\0\0\0\0\0\0\0\0\0)"
        f"\n{_STATUS}close", backend=""),
    _ok("sieve-login-literals", client="> AUTHENTICATE {5+}\n> PLAIN {32+}\n" r"> $b64(\0sieve-login-literals\0pw)"
        f"\n{_STATUS}{_IN}"),
    _ok("sieve-login-continued", client='> AUTHENTICATE "PLAIN"\n< ^"\n' r'> "$b64(\0$u\0pw)"' f"\n{_STATUS}{_IN}"),
    _ok("sieve-login-continued-literal", client='> AUTHENTICATE "PLAIN"\n< ^"\n> {44+}\n'
        r"> $b64(\0sieve-login-continued-literal\0pw)" f"\n{_STATUS}{_IN}"),
    _ok("sieve-login-login", client='> AUTHENTICATE "LOGIN"\n< ^"\n> "$b64($u)"\n< ^"\n> "$b64(pw)"\n' + _STATUS + _IN),
    _ok("sieve-login-pipelined", client=r'>> AUTHENTICATE "PLAIN" "$b64(\0$u\0pw)"\r\nLISTSCRIPTS\r\nNOOP\r\n'
        "\n< NOOP done\n"),
    _ok("sieve-again", client=r'> AUTHENTICATE "PLAIN" "$b64(\0$u\0wrong)"' f"\n{_STATUS}{_LOGIN}{_IN}"),
    _fails("sieve-wrong-password", client=r'> AUTHENTICATE "PLAIN" "$b64(\0$u\0wrong)"' f"\n{_STATUS}{_OUT}"),
    _fails("sieve-unknown-user", fields=None),
    _before("sieve-nul-literal", '>> NOOP {3+}\\r\\na\\0b\\r\\n\n' + _STATUS + _each("NOOP"),
            differs="NUL in a ManageSieve literal",
            substitute=(('OK (TAG "a") "Done"', 'NO "NULs not allowed in strings"'),)),
    _before("sieve-literal-no-command", "> NOOP {8+}\n>> LOGOUT\\r\\n\\r\\n\n< Done\n" + _each("NOOP")),
)
_ELEMENTS = "user=<sieve-greeting-code>, method=PLAIN, rip=127.0.0.1, lip=127.0.0.1, secured, session=<SESSION>"
_ANSWERS = (
    _answer("sieve-ok-bare", "> OK\nserve sieve", client=_LOGIN + _IN),
    _answer("sieve-ok-sasl", '> OK (SASL "cnNwYXV0aD0=")\nserve sieve', client=_LOGIN + _IN),
    _answer("sieve-ok-literal", ">> OK {4+}\\r\\nhey!\\r\\n\nserve sieve", client=_LOGIN + "< hey!\n" + _IN),
    _answer("sieve-ok-more", '>> OK "in"\\r\\n"SIEVE" "fileinto"\\r\\nOK "more"\\r\\n\nserve sieve',
            client=_LOGIN + "< more\n" + _IN),
    _answer("sieve-refused", '> NO "Bad \\\\"creds\\\\""'),
    _answer("sieve-refused-code", '> NO (QUOTA/MAXSIZE) "Bad creds"'),
    _answer("sieve-refused-bare", "> NO"),
    _answer("sieve-refused-literal", ">> NO {4+}\\r\\nhey!\\r\\n"),
    _answer("sieve-refused-bye", '> BYE "go away"'),
    _answer("sieve-refused-junk", "> what"),
    _answer("sieve-tempfail", '> NO (TRYLATER) "later"'),
    _answer("sieve-tempfail-bare", "> NO (TRYLATER)"),
    _fails("sieve-no-sasl", "", '> "SASL" ""\n> OK "hi"\n'),
    _fails("sieve-no-sasl-line", "", '> "VERSION" "1.0"\n> OK "hi"\n'),
    _fails("sieve-greeting-no", "", '> NO "busy"\n'),
    _fails("sieve-greeting-bye", "", '> BYE "busy"\n'),
    _fails("sieve-greeting-imap", "", "> * OK hello\n"),
    _fails("sieve-greeting-long", "", '> "SIEVE" "${x*5000}"\n'),
    _ok("sieve-greeting-lower", "", '> "sasl" "PLAIN"\n> ok "hi"\n< ^AUTH\n> ok "in"\nserve sieve',
        client=_AUTH + "\n< ^ok\n" + _IN),
    _fails("sieve-greeting-code", "", '> "SASL" "PLAIN"\n> OK (TAG "x") "hi"\n< ^AUTH\n> NO "no"\n',
           differs="ManageSieve greeting with a response code",
           substitute=(('(TRYLATER) "Account is temporarily unavailable."', '"Authentication failed."'),),
           expected_backend="""
        #1
        B: "SASL" "PLAIN"
        B: OK (TAG "x") "hi"
        P: AUTHENTICATE "PLAIN" "c2lldmUtZ3JlZXRpbmctY29kZQBzaWV2ZS1ncmVldGluZy1jb2RlAHB3"
        B: NO "no"
        <EOF>
    """, expected_log=f"""
        Info: proxy(sieve-greeting-code,127.0.0.1:$port): Login failed: no: {_ELEMENTS}
        Info: Disconnected: Connection closed (proxy dest auth failed): {_ELEMENTS}
    """),
    _ok("sieve-greeting-bare", "", '> "SASL" "PLAIN"\n> OK\n< ^AUTH\n> OK "in"\nserve sieve'),
    _fails("sieve-xclient-refused", "", _GREET + '< ^XCLIENT\n> NO "no"\n'),
    _fails("sieve-closes", "", _GREET + "< ^XCLIENT\nclose"),
    _fails("sieve-closes-auth", "", _NO_XCLIENT + "close"),
)
_FIELDS = (
    _ok("sieve-destuser", "destuser=Dest@example.com"),
    _ok("sieve-forward", "forward_foo=bar forward_z=a=b forward_e="),
    _ok("sieve-pass", "pass=other"),
    _fails("sieve-not-trusted", "proxy_not_trusted=y forward_foo=bar", _GREET + "< ^(AUTH|XCLIENT)\nclose",
           differs="ManageSieve `proxy_not_trusted`", substitute=(
               ("P: XCLIENT ADDR=127.0.0.1 PORT=$client SESSION=SESSION TTL=4 FORWARD=Zm9vPWJhcg==",
                'P: AUTHENTICATE "PLAIN" "c2lldmUtbm90LXRydXN0ZWQAc2lldmUtbm90LXRydXN0ZWQAcHc="'),
               ("state=xclient", "state=auth"))),
    _ok("sieve-master", "master=mm pass=mp destuser=d"),
    _ok("sieve-mech-login", "proxy_mech=login", _GREET + '< ^XCLIENT\n> OK\n< ^AUTH\n> "VXNlcm5hbWU6"\n< .\n'
        '> "UGFzc3dvcmQ6"\n< .\n> OK "in"\nserve sieve'),
    _ok("sieve-mech-external", "proxy_mech=external"),
    _fails("sieve-mech-junk", "proxy_mech=login", _NO_XCLIENT + '> "!!!"\n'),
    _fails("sieve-nologin", fields="nologin=y"),
    _fails("sieve-nologin-reason", fields='nologin=y reason=Go"ne\\\\\\\\now'),
    _fails("sieve-referral", fields="nologin=y host=192.0.2.1 port=1234 reason=Moved"),
    _fails("sieve-referral-port", fields="nologin=y host=192.0.2.1 port=4190 destuser=a@b"),
    _fails("sieve-dead", fields="proxy=y host=127.0.0.1 port=$dead"),
)
_STARTTLS_CONF = "ssl_ca = <$dir/tls/ca.pem\nssl_require_crl = no\nlogin_proxy_max_reconnects = 0"
_SECURE = _LINES + '> OK "again"\n'
_TLS = (
    _ok("sieve-backend-starttls", "starttls=yes", _GREET + '< ^STARTTLS\n> OK "go"\ntls\n' + _SECURE
        + '< ^XCLIENT\n> OK\n< ^AUTH\n> OK "in"\nserve sieve'),
    _fails("sieve-backend-starttls-absent", "starttls=yes", '> "SASL" "PLAIN"\n> OK "hi"\n'),
    _fails("sieve-backend-starttls-refused", "starttls=yes", _GREET + '< ^STARTTLS\n> NO "no"\n'),
    _fails("sieve-backend-starttls-injected", "starttls=yes",
           _GREET + '< ^STARTTLS\n>> OK "go"\\r\\n"SASL" "PLAIN"\\r\\nOK "in"\\r\\n\neof',
           differs="clear text behind STARTTLS", substitute=(("P: a TLS handshake\n", ""),)),
    _ok("sieve-backend-tls", "ssl=yes", "tls\n" + _ACCEPT),
    _fails("sieve-backend-tls-forgets", "starttls=yes", _GREET + '< ^STARTTLS\n> OK "go"\ntls\n> "VERSION" "1.0"\n'
           '> OK "again"\neof'),
)
_TRUSTED = f"connect from 127.0.0.5\n{_GREETED}"
_FULL = "ADDR=10.11.12.13 PORT=4321 SESSION=SESS/abc+1 TTL=%s FORWARD=$b64(foo=bar\\tz=1)"


def _xclient(name: str, *parameters: str, then: str = _LOGIN + _IN, **more: object) -> Scenario:
    """A trusted peer sends these XCLIENT commands, then logs in."""
    return Scenario(name, _TRUSTED + _each(*(f"XCLIENT {text}" for text in parameters)) + then, _ACCEPT,
                    **more)     # type: ignore[arg-type]


_PEERS = (
    _xclient("sieve-trusted-full", _FULL % 3),
    _xclient("sieve-trusted-none", then="> CAPABILITY\n< ^OK\n" + _LOGIN + _IN),
    _xclient("sieve-trusted-ttl-1", _FULL % 1, then=_LOGIN + _OUT),
    _xclient("sieve-trusted-bad", "ADDR=x TTL=3", "PORT=0 ADDR=10.1.1.1"),
    _xclient("sieve-trusted-bad-often", "ADDR=x", '"ADDR=1.2.3.4"', "TTL=x", then="eof"),
    _xclient("sieve-trusted-again", "ADDR=10.1.1.1 FORWARD=$b64(a=1)", "ADDR=10.2.2.2 FORWARD=$b64(c=3)"),
    _xclient("sieve-trusted-forward-bad", "FORWARD=!!!", "FORWARD="),
    _xclient("sieve-trusted-proxy", "FORWARD=$b64(proxy=y\\tpass=evil\\thost=192.0.2.1\\tnopassword=y)"),
    _xclient("sieve-trusted-lower", "addr=10.11.12.13 port=77 ttl=2"),
)
_REFUSED = _each("CAPABILITY") + _LOGIN + '> AUTHENTICATE "PLAIN"\n' + _STATUS + _each('AUTHENTICATE "FOO"') + "close"


def _insecure(prefix: str) -> tuple[Scenario, ...]:
    return (
        Scenario(f"{prefix}-refused", _FAR + _GREETED + _REFUSED, ""),
        Scenario(f"{prefix}-starttls", f'{_FAR}{_GREETED}> STARTTLS\n< ^OK\ntls\n< ^OK "TLS\n{_LOGIN}{_IN}', _ACCEPT),
    )


_IMPLEMENTATION = "managesieve_implementation_string = Any Pigeon\n"
GROUPS = (
    Group("sieve", (*_COMMANDS, *_ANSWERS, *_FIELDS), _IMPLEMENTATION + "login_proxy_max_reconnects = 0",
          protocol="sieve"),
    Group("sieve-tls", _TLS, _IMPLEMENTATION + _STARTTLS_CONF, protocol="sieve"),
    Group("sieve-trusted", _PEERS, _IMPLEMENTATION + "login_trusted_networks = 127.0.0.5\n"
          "login_log_format_elements = user=<%u> method=%m rip=%r rport=%b real_rip=%{real_rip} %c "
          "session=<%{session}> fwd=%{passdb:forward_foo}\n", protocol="sieve"),
    Group("sieve-insecure", _insecure("sieve-insecure"), _IMPLEMENTATION, protocol="sieve"),
    Group("sieve-required", _insecure("sieve-required"), _IMPLEMENTATION + "ssl = required", protocol="sieve"),
    Group("sieve-capabilities", (_before("sieve-own-capabilities", _each("CAPABILITY")),),
          'managesieve_implementation_string = A plain one\nmanagesieve_sieve_capability = fileinto reject\n'
          "managesieve_notify_capability = mailto xmpp\nssl = no", protocol="sieve"),
    Group("sieve-retries", (
        _answer("sieve-retried", f'> NO (TRYLATER) "x"\n---\n{_ACCEPT}', client=_LOGIN + _IN),
        _answer("sieve-retried-in-vain", '> NO (TRYLATER) "x"'),
    ), _IMPLEMENTATION + "login_proxy_max_reconnects = 1", protocol="sieve"),
)
