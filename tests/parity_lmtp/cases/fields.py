"""Fields of the passdb, and the settings of LMTP."""
# ruff: noqa: E501 - a line of a dialogue is not broken
from __future__ import annotations

from ..scenario import ACCEPT, ALL, DATA, GREET, ON_A, ON_B, QUIT, RCPT, SAVED, START, TO, Group, Scenario

_TRY = START + TO + QUIT
_XCAPS = "250-be\\r\\n250-ENHANCEDSTATUSCODES\\r\\n250-PIPELINING\\r\\n250-CHUNKING\\r\\n250-XRCPTFORWARD\\r\\n" \
         "250 XCLIENT ADDR PORT PROTO HELO LOGIN TTL TIMEOUT SESSION\\r\\n"
_XGREET = f"""
    > 220 be LMTP
    < ^LHLO
    >> {_XCAPS}
    < ^XCLIENT
    > 220 again
    < ^LHLO
    >> {_XCAPS}
"""
_XACCEPT = _XGREET + RCPT + SAVED
_TLS = """
    > 220 be
    < ^LHLO
    >> 250-be\\r\\n250-STARTTLS\\r\\n250 ENHANCEDSTATUSCODES\\r\\n
    < ^STARTTLS
    > 220 2.0.0 go
    tls %s
    < ^LHLO
    >> 250-be\\r\\n250-ENHANCEDSTATUSCODES\\r\\n250-PIPELINING\\r\\n250 CHUNKING\\r\\n
""" + RCPT + SAVED
_SMTP = ACCEPT.replace("LHLO", "EHLO")


def _bad(name: str, fields: str) -> Scenario:
    return Scenario(name, _TRY, fields=fields, differs="LMTP broken proxy fields", substitute=(
        (f"550 5.1.1 <{name}> User doesn't exist: {name}", f"451 4.3.0 <{name}> Temporary user lookup failure"),))


def _nowhere(name: str, fields: str, why: str = "the user is not proxied") -> Scenario:
    """Users that Dovecot looks up in its userdb, which does not know them either."""
    return Scenario(name, _TRY, fields=fields, differs="LMTP recipients without a backend", substitute=(
        (f"550 5.1.1 <{name}> User doesn't exist: {name}", f"451 4.3.0 <{name}> Temporary user lookup failure"),
        ("Info: Disconnect", f"Error: lmtp-server: conn $address:$client [N]: rcpt {name}: {why}, and no mail is stored "
                             "here\nInfo: Disconnect")))


def _rcpt_to(rcpt: str) -> str:
    return ALL.replace("TO:<$u>", f"TO:<{rcpt}>")


FIELDS = Group("fields", (
    Scenario("destuser", fields=ON_A + " destuser=other"),
    Scenario("destuser-detail", _rcpt_to("$u+det@dom"), fields=None, users={"$u@dom": ON_A + " destuser=dest@example.com"}),
    Scenario("destuser-same", fields=ON_A + " destuser=destuser-same"),
    Scenario("destuser-empty", _TRY, fields=ON_A + " destuser="),
    Scenario("destuser-bad", _TRY, fields=ON_A + " destuser=a@b@c"),
    Scenario("user-change", fields=ON_A + " user=newname"),
    Scenario("user-detail", _rcpt_to("$u+det"), fields=ON_A),
    Scenario("user-case", _rcpt_to("User-Case@Dom"), fields=None, users={"user-case@dom": ON_A}),
    Scenario("user-case-det", _rcpt_to("User-Case-Det+Foo@Dom"), fields=None, users={"user-case-det@dom": ON_A}),
    Scenario("user-quoted", _rcpt_to('"$u"@dom'), fields=None, users={"$u@dom": ON_A}),
    Scenario("user-space", START + "    > RCPT TO:<\"a b\"@dom>\n    < ^[245]\n" + QUIT),
    Scenario("orcpt-dest", ALL.replace("TO:<$u>", "TO:<$u> ORCPT=rfc822;orig@x"), fields=ON_A + " destuser=other",
             a=_XACCEPT.replace("250-be\\r\\n", "250-be\\r\\n250-DSN\\r\\n")),
    Scenario("dest-dsn", fields=ON_A + " destuser=other", a=ACCEPT.replace("250-8BITMIME", "250-DSN")),
    _bad("no-host", "proxy=y port=$porta"),
    _bad("bad-hostip", ON_A + " hostip=zz"),
    _bad("bad-port", "proxy=y host=127.0.0.1 port=0"),
    _bad("bad-port-2", "proxy=y host=127.0.0.1 port=99999"),
    _bad("bad-timeout", ON_A + " proxy_timeout=2s"),
    _bad("bad-source", ON_A + " source_ip=zz"),
    _bad("bad-protocol", ON_A + " protocol=foo"),
    Scenario("bad-host", _TRY, fields="proxy=y host=no-such.invalid port=$porta"),
    _nowhere("local", "nologin=y"),
    _nowhere("maybe-self", "proxy_maybe=y host=127.0.0.1 port=$lmtp"),
    Scenario("maybe-other", fields=ON_A.replace("proxy=y", "proxy_maybe=y")),
    Scenario("nologin", fields=ON_A + " nologin=y reason=foo"),
    Scenario("source-ip", fields=ON_A + " source_ip=127.0.0.8"),
    Scenario("source-bad", _TRY, fields=ON_A + " source_ip=10.99.99.99", differs="LMTP bind errors", substitute=(
        ("Error: bind(10.99.99.99) failed: Cannot assign requested address\n" * 20, ""),)),
    Scenario("hostip", fields="proxy=y host=backend.test hostip=127.0.0.1 port=$porta"),
    Scenario("host-name", fields="proxy=y host=localhost hostip=127.0.0.1 port=$porta"),
    Scenario("timeout", fields=ON_A + " proxy_timeout=1",
             a=GREET + RCPT + "    < ^end\n    eof\n"),
    Scenario("xclient", a=_XACCEPT),
    Scenario("xclient-no-lhlo", ALL.replace("> LHLO mx.test\n    < ^250\\x20\n", "> NOOP\n    < ^250\\x20\n"), a=_XACCEPT),
    Scenario("xclient-some", a=_XACCEPT.replace("ADDR PORT PROTO HELO LOGIN TTL TIMEOUT SESSION", "ADDR FOO")),
    Scenario("xclient-none", a=GREET.replace("250 CHUNKING", "250-CHUNKING\\r\\n250 XCLIENT") + RCPT + SAVED),
    Scenario("xclient-refused", _TRY, a=_XGREET.split("> 220 again", maxsplit=1)[0] + "    > 550 5.7.0 no\n    eof\n", log=False,
             dovecot_breaks=True, differs="LMTP refused XCLIENT", expected_client="""
        S: 220 proxy.test Proxy ready.
        C: LHLO mx.test
        S: 250-proxy.test
        S: 250-8BITMIME
        S: 250-CHUNKING
        S: 250-ENHANCEDSTATUSCODES
        S: 250-PIPELINING
        S: 250 STARTTLS
        C: MAIL FROM:<s@test>
        S: 250 2.1.0 OK
        C: RCPT TO:<xclient-refused>
        S: 550 5.7.0 <xclient-refused> no
        C: QUIT
        S: 221 2.0.0 Bye
        <EOF>
    """, expected_backend=f"""
        a1
        B: 220 be LMTP
        P: LHLO proxy.test
        B: {_XCAPS.replace(chr(92) + "r" + chr(92) + "n", "⏎").removesuffix("⏎")}
        P: XCLIENT HELO=mx.test PROTO=LMTP SESSION=ID:P1 TTL=5 PORT=$client ADDR=$address
        B: 550 5.7.0 no
        P: QUIT
        <EOF>
    """),
    Scenario("forward", fields=ON_A + " forward_foo=bar forward_z=a=b forward_e=", a=_XACCEPT),
    Scenario("forward-none", fields=ON_A + " forward_foo=bar"),
    Scenario("smtp", fields=ON_A + " protocol=smtp", a=_SMTP),
    Scenario("smtp-xclient", fields=ON_A + " protocol=smtp", a=_XACCEPT.replace("LHLO", "EHLO")),
    Scenario("smtp-two", START + TO + "    > RCPT TO:<$ub>\n    < ^[245]\n" + DATA + "    < ^[245]\n" + QUIT,
             fields=ON_A + " protocol=smtp", users={"$ub": ON_A + " protocol=smtp"}, a=GREET.replace("LHLO", "EHLO") + """
    < ^RCPT
    >> 250 2.1.0 OK\\r\\n250 2.1.5 OK\\r\\n
    < ^RCPT
    >> 250 2.1.5 OK2\\r\\n
    < ^end
    >> 250 2.0.0 Saved all\\r\\n
    < ^QUIT
    > 221 Bye
"""),
    Scenario("starttls-be", fields="proxy=y host=backend.test hostip=127.0.0.1 port=$porta starttls=y", a=_TLS % "name"),
    Scenario("starttls-ip", fields=ON_A + " starttls=y", a=_TLS % "ip"),
    Scenario("starttls-badname", _TRY, fields=ON_A + " starttls=y", a=_TLS % "name"),
    Scenario("starttls-self", _TRY, fields=ON_A + " starttls=y", a=_TLS % "self"),
    Scenario("starttls-any", fields=ON_A + " starttls=any-cert", a=_TLS % "self"),
    Scenario("starttls-missing", _TRY, fields=ON_A + " starttls=y", a=GREET + "    eof\n"),
    Scenario("starttls-refused", _TRY, fields=ON_A + " starttls=y", a=_TLS.split("> 220 2.0.0 go")[0]
             + "    > 454 4.7.0 no\n    eof\n"),
    Scenario("starttls-inject", _TRY, fields=ON_A + " starttls=y", a=_TLS.split("> 220 2.0.0 go")[0]
             + "    >> 220 2.0.0 go\\r\\n250-evil\\r\\n250 CHUNKING\\r\\n\n    tls ip\n    eof\n",
             differs="LMTP clear text behind a backend's STARTTLS", expected_log="""
        Info: Connect from $address
        Error: lmtp-client: conn 127.0.0.1:$porta [N]: Plain text behind the reply to STARTTLS
        Info: Disconnect from $address: Logged out (state=RCPT TO)
    """),
    Scenario("ssl", fields=ON_A + " ssl=yes", a="    tls ip\n" + ACCEPT),
    Scenario("ssl-plain", _TRY, fields=ON_A + " ssl=yes", a="    > 220 hello\n    eof\n"),
    Scenario("loop", START + TO + QUIT, fields="proxy=y host=127.0.0.1 port=$lmtp"),
    Scenario("two-ports", START + TO + "    > RCPT TO:<$ub>\n    < ^[245]\n" + DATA + "    < ^[245]\n" + QUIT,
             users={"$ub": ON_A + " source_ip=127.0.0.9"}),
    Scenario("two-xclient", START + TO + "    > RCPT TO:<nobody>\n    < ^5\n    > RCPT TO:<$ub>\n    < ^[245]\n" + DATA + "    < ^[245]\n" + QUIT,
             a=_XACCEPT, b=_XACCEPT, users={"$ub": ON_B}),
    Scenario("unknown-first", START + "    > RCPT TO:<nobody>\n    < ^5\n" + TO + DATA + QUIT),
    Scenario("allow-nets", _TRY, fields=ON_A + " allow_nets=10.0.0.0/8"),
    Scenario("fail", _TRY, fields=ON_A + " fail=y"),
))

#: XCLIENT from trusted peers.
_X = "connect from 127.0.0.7\n"


def _trusted(name: str, xclient: str, rest: str = "", **more: object) -> Scenario:
    return Scenario(name, f"""
    < ^220
    > LHLO mx.test
    < ^250\\x20
    > XCLIENT {xclient}
    < ^[245]
    > LHLO again.test
    < ^250\\x20
    """ + (rest or "> MAIL FROM:<s@test>\n    < ^250\n" + TO + DATA + QUIT), **more)  # type: ignore[arg-type]


TRUSTED = Group("trusted", (
    _trusted("x-none", ""),
    _trusted("x-all", "ADDR=10.11.12.13 PORT=4321 PROTO=LMTP HELO=orig.test LOGIN=who SESSION=SESS/abc+2B1 TTL=3 TIMEOUT=100",
             a=_XACCEPT),
    _trusted("x-v6", "ADDR=IPV6:2001:db8::1", a=_XACCEPT),
    _trusted("x-v6-bare", "ADDR=2001:db8::1", a=_XACCEPT),
    _trusted("x-v6-smtp", "ADDR=IPV6:2001:db8::1", fields=ON_A + " protocol=smtp", a=_XACCEPT.replace("LHLO", "EHLO")),
    _trusted("x-bad-addr", "ADDR=zz"),
    _trusted("x-bad-port", "PORT=0"),
    _trusted("x-bad-port-2", "PORT=99999"),
    _trusted("x-bad-proto", "PROTO=foo"),
    _trusted("x-bad-ttl", "TTL=x"),
    _trusted("x-bad-timeout", "TIMEOUT=x"),
    _trusted("x-unknown", "FOO=bar", a=_XACCEPT),
    _trusted("x-unavailable", "ADDR=[UNAVAILABLE] HELO=[UNAVAILABLE] PORT=[UNAVAILABLE]", a=_XACCEPT),
    _trusted("x-session-long", "SESSION=${x*70}", a=_XACCEPT),
    _trusted("x-ttl-1", "TTL=1", a=_XACCEPT),
    _trusted("x-ttl-0", "TTL=0", rest="> MAIL FROM:<s@test>\n    < ^250\n" + TO + QUIT),
    _trusted("x-helo", "HELO=orig.test", a=_XACCEPT),
    _trusted("x-bad-xtext", "HELO=a+zz"),
    _trusted("x-noequals", "ADDR"),
    _trusted("x-in-mail", "ADDR=1.2.3.4", rest="""> MAIL FROM:<s@test>
    < ^250
    > XCLIENT ADDR=1.2.3.5
    < ^5
    """ + QUIT),
    Scenario("x-forward", START + "    > RCPT TO:<$u> XRCPTFORWARD=foo+3Dbar+09y+3Dz\n    < ^[245]\n" + DATA + QUIT,
             fields=ON_A + " forward_foo=own forward_new=1", a=_XACCEPT),
    Scenario("x-forward-bad", START + "    > RCPT TO:<$u> XRCPTFORWARD=foo+zz\n    < ^[245]\n" + QUIT),
    Scenario("x-forward-evil", START
             + "    > RCPT TO:<$u> XRCPTFORWARD=proxy+3Dn+09host+3D127.0.0.2\n    < ^[245]\n" + DATA + QUIT, a=_XACCEPT),
), conf="login_trusted_networks = 127.0.0.0/8\n")

UNTRUSTED = Group("untrusted", (
    Scenario("u-forward", START + "    > RCPT TO:<$u> XRCPTFORWARD=foo+3Dbar\n    < ^[245]\n" + QUIT),
))

VERBOSE = Group("verbose", (
    Scenario("v-refused", _TRY, fields="proxy=y host=127.0.0.1 port=$dead"),
    Scenario("v-421", _TRY, GREET + "    < ^RCPT\n    >> 250 OK\\r\\n421 4.3.2 busy\\r\\n\n    eof\n"),
    Scenario("v-550", _TRY, GREET + "    < ^RCPT\n    >> 250 OK\\r\\n550 5.1.1 no\\r\\n\n    eof\n"),
    Scenario("v-dies", ALL, GREET + RCPT + "    < ^end\n    close\n"),
    Scenario("v-noreceived", ALL),
), conf="lmtp_verbose_replies = yes\nlmtp_add_received_header = no\nrecipient_delimiter = _\n")

WORKAROUNDS = Group("workarounds", (
    Scenario("w-space", ALL.replace("FROM:<", "FROM: <").replace("TO:<", "TO: <")),
    Scenario("w-mailbox", ALL.replace("<s@test>", "s@test").replace("<$u>", "$u")),
    Scenario("w-delimiter", _rcpt_to("$u=det@dom"), fields=None, users={"$u@dom": ON_A}),
    Scenario("w-delimiter-2", _rcpt_to("$u+det=x@dom"), fields=None, users={"$u@dom": ON_A}),
    Scenario("w-nodelimiter", _TRY, fields="proxy=y host=127.0.0.1 port=$dead"),
), conf="lmtp_client_workarounds = whitespace-before-path mailbox-for-path\nrecipient_delimiter = =+\n"
        "login_greeting =\nssl = no\n")

NOPROXY = Group("noproxy", (
    _nowhere("np-known", ON_A, "lmtp_proxy is off"),
), conf="lmtp_proxy = no\n")

GROUPS: tuple[Group, ...] = (NOPROXY, FIELDS, TRUSTED, UNTRUSTED, VERBOSE, WORKAROUNDS)
