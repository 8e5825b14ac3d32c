"""Submission: what the client may say before it logs in, what the backend is told, and what is made of its answers."""
from __future__ import annotations

from base64 import b64encode
from textwrap import dedent

from ..scenario import Group, Scenario

_CAPS = "250-be\\r\\n250-AUTH PLAIN LOGIN\\r\\n250 ENHANCEDSTATUSCODES\\r\\n"
_XCLIENT = ("250-be\\r\\n250-AUTH PLAIN LOGIN\\r\\n250-XCLIENT ADDR PORT PROTO HELO LOGIN TTL TIMEOUT SESSION "
             "FORWARD\\r\\n"
            "250 ENHANCEDSTATUSCODES\\r\\n")
_GREET = "< ^220\n"
_EHLO = "> EHLO client.test\n< ^250 \n"
_PLAIN = "> AUTH PLAIN $b64(\\0$u\\0pw)\n"
_AUTH = _PLAIN + "< ^[2345]\n"
_LOGIN = _GREET + _EHLO + _AUTH
_GREETED = r"""
    -- connect
    S: 220 proxy.test Proxy ready.
    C: EHLO client.test
    S: 250-proxy.test
    S: 250-8BITMIME
    S: 250-AUTH PLAIN LOGIN
    S: 250-BURL imap
    S: 250-CHUNKING
    S: 250-ENHANCEDSTATUSCODES
    S: 250-SIZE
    S: 250-STARTTLS
    S: 250 PIPELINING
"""
_NOOP = "> NOOP\n< ^250\n"
_QUIT = "> QUIT\neof\n"
_FAILED = _LOGIN + _NOOP + "close"


_UNAVAILABLE = "454 4.7.0 Account is temporarily unavailable."


def _said(user: str, *lines: str, password: str = "pw") -> str:
    """How AUTH of that user shows in a client's transcript, and what comes behind it: replies, commands in between."""
    text = f"C: AUTH PLAIN {b64encode(chr(0).join(('', user, password)).encode()).decode()}"
    for number, line in enumerate(lines):
        text += "".join(f"\n{'CS'[number % 2 == 0]}: {part}" for part in line.split("\n"))
    return text


def _expected(user: str, *lines: str, end: str = "<EOF>") -> str:
    return "\n".join((dedent(_GREETED).strip(), _said(user, *lines), end))


def _backend(caps: str = _CAPS, then: str = ">> 235 2.7.0 Logged in.\\r\\n\nserve submission\n") -> str:
    """A backend until AUTH, and what it does then."""
    return f"> 220 be ESMTP\n< ^EHLO\n>> {caps}\n< ^AUTH\n{then}"


def _trusting(then: str = ">> 235 2.7.0 Logged in.\\r\\n\nserve submission\n") -> str:
    """A backend that wants XCLIENT."""
    return (f"> 220 be ESMTP\n< ^EHLO\n>> {_XCLIENT}\n< ^EHLO\n>> 220 be again\\r\\n{_XCLIENT}\n< ^AUTH\n{then}")


def _lines(name: str, *lines: str, differs: str = "", end: str = "close", **more: str) -> Scenario:
    """The client says these lines one by one; no backend comes into it."""
    steps = "".join(f"> {line}\n< ^[2345]\\d\\d( |$)\n" for line in lines)
    return Scenario(name, _GREET + steps + end, "eof", differs=differs, **more)     # type: ignore[arg-type]


def _answers(name: str, answer: str, differs: str = "", client: str = _FAILED, **more: object) -> Scenario:
    """The backend's answer to AUTH."""
    return Scenario(name, client, _backend(then=f">> {answer}\n"), differs=differs, **more)  # type: ignore[arg-type]


def _says(name: str, backend: str, client: str = _FAILED, extra: str = "", **more: object) -> Scenario:
    return Scenario(name, client, backend, extra=extra, **more)     # type: ignore[arg-type]


_PRELOGIN = (
    _lines("sub-ehlo", "EHLO x", "ehlo x y", "EHLO [127.0.0.1]", "HELO x", "EHLO", "HELO"),
    _lines("sub-noop", "NOOP", "noop", "NOOP x", 'NOOP "a b"', "NOOP x y", 'NOOP "a', "NOOP <a@b>", "NOOP  ",
           "NOOP \\t"),
    _lines("sub-rset", "RSET", "RSET x"),
    _lines("sub-quit", "QUIT x", "QUIT", end="eof"),
    _lines("sub-not-yet", "MAIL FROM:<a@b>", "MAIL", "RCPT TO:<a@b>", "DATA", "VRFY x", "VRFY", "BURL imap://x"),
    _lines("sub-unknown", "HELP", "EXPN x", "ETRN x", "TURN", "A1", "", " NOOP", "FOO bar"),
    _lines("sub-syntax", "NO\\0OP", "NOOP \\x80", "NOOP \\xc3\\xa9", "NOOP\\rQUIT", "EHLO  x", "NOOP x\\x01",
           "${X*32}", "${X*33}", "${X*600}", "NOOP\\t"),
    Scenario("sub-bare-lf", _GREET + ">> NOOP\\n\n< ^250\n>> NOOP\\r\\r\\n\n< ^500\nclose", "eof"),
    _lines("sub-line-limit", "NOOP ${x*1025}", "NOOP ${x*1026}", "NOOP ${x*5000}", "VRFY ${x*1025}", "VRFY ${x*1026}",
           "NOOP"),
    _lines("sub-eleven-bad", *["FOO"] * 11, end="eof"),
    _lines("sub-bad-row-ends", *["FOO"] * 10, "NOOP", *["FOO"] * 10, "VRFY", "FOO", "FOO"),
    _lines("sub-eleven-501", *["NOOP x y"] * 11, end="eof"),
    _lines("sub-eleven-starttls-x", *["STARTTLS x"] * 11, end="eof"),
    _lines("sub-eleven-long", *["NOOP ${x*1100}"] * 11, end="eof"),
    Scenario("sub-pipelined", _GREET + ">> EHLO x\\r\\nNOOP\\r\\nRSET\\r\\nFOO\\r\\nQUIT\\r\\n\neof", "eof"),
    Scenario("sub-bdat-refused", _GREET + ">> BDAT 6\\r\\nQUIT\\r\\n\n> NOOP\n< ^250\nclose", "eof",
             differs="BDAT before login", expected_client=r"""
        -- connect
        S: 220 proxy.test Proxy ready.
        C: BDAT 6⏎QUIT
        C: NOOP
        S: 530 5.7.0 Authentication required.
        S: 250 2.0.0 OK
        -- close
    """, log=False),
    Scenario("sub-early-talker", ">> EHLO x\\r\\n\n< ^220\n< ^250 \nclose", "eof"),
    Scenario("sub-rst", _GREET + "rst", "eof", log=False),
)

_SASL = (
    _lines("sub-auth-none", "AUTH", "AUTH PLAIN a b", "AUTH NONE", "AUTH none x", "AUTH P%N", "AUTH PLAIN !!!"),
    _lines("sub-auth-sets", "AUTH PLAIN", "!!!", "AUTH PLAIN", "*", "AUTH LOGIN", "$b64($u)", "*", "NOOP"),
    _lines("sub-auth-star", "AUTH PLAIN", "* ", "AUTH PLAIN", "  *", "NOOP"),
    _lines("sub-auth-nul", "AUTH PLAIN", "A\\0A", "NOOP"),
    _lines("sub-auth-control", "AUTH LOGIN", "$b64($u)", "\\x01", "NOOP"),
    _lines("sub-auth-eleven-aborts", *["AUTH PLAIN", "*"] * 3, "NOOP"),
    _lines("sub-auth-wrong", "AUTH PLAIN $b64(\\0$u\\0wrong)", "NOOP"),
    _lines("sub-auth-empty", "AUTH PLAIN =", "NOOP"),
    _lines("sub-auth-empty-line", "AUTH PLAIN", "", "NOOP"),
    _lines("sub-auth-equals", "AUTH PLAIN", "=", "NOOP"),
    _lines("sub-auth-space", "AUTH PLAIN ", "*", "AUTH  PLAIN", "auth", "NOOP"),
    Scenario("sub-auth-long-response", _GREET + "> AUTH PLAIN\n< ^334\n> ${A*8300}\n< ^500\n" + _NOOP + "close", "eof"),
    Scenario("sub-auth-long-initial", _GREET + "> " + _said("sub-auth-long-initial", password="x" * 900)[3:] + "\n< "
             "^[2345]\nclose",
             _backend(then="> 334 \n< .\n> 235 2.7.0 Logged in.\nserve submission\n"), password="${x*900}",
             differs="long initial response", log=False, expected_backend="#1\nB: 220 be ESMTP\nP: EHLO proxy.test\n"
             "B: 250-be⏎250-AUTH PLAIN LOGIN⏎250 ENHANCEDSTATUSCODES\nP: AUTH PLAIN\nB: 334 \nP: "
             + b64encode(b"\0".join((b"sub-auth-long-initial",) * 2 + (b"x" * 900,))).decode()
             + "\nB: 235 2.7.0 Logged in.\n<EOF>", expected_client="-- connect\nS: 220 proxy.test Proxy "
             "ready.\n" + _said("sub-auth-long-initial", "235 2.7.0 Logged in.",
        password="x" * 900) + "\n-- close"),
    Scenario("sub-login-mechanism", _GREET + _EHLO + "> AUTH LOGIN\n< ^334\n> $b64($u)\n< ^334\n> $b64(pw)\n< ^2\n"
             + _NOOP + _QUIT, _backend()),
    Scenario("sub-plain-continued", _GREET + "> AUTH PLAIN\n< ^334\n> $b64(\\0$u\\0pw)\n< ^2\n" + _NOOP, _backend()),
    Scenario("sub-gone-in-auth", _GREET + "> AUTH LOGIN\n< ^334\nclose", "eof"),
    Scenario("sub-insecure", "connect from 127.0.0.2\n" + _GREET + _EHLO + "> AUTH PLAIN\n< ^5\n" + _PLAIN + "< ^5\n"
             "> AUTH NONE\n< ^5\n" + _NOOP + "close", "eof"),
    Scenario("sub-insecure-starttls", "connect from 127.0.0.2\n" + _GREET + _EHLO + "> STARTTLS\n< ^220\ntls\n"
             + _EHLO + _AUTH + _NOOP + _QUIT, _backend()),
)

_TLS = (
    Scenario("sub-starttls", _GREET + _EHLO + "> STARTTLS\n< ^220\ntls\n" + _NOOP + "> STARTTLS\n< ^502\n"
             "> STARTTLS x\n< ^502\n" + _EHLO + _AUTH + _NOOP + _QUIT, _trusting()),
    Scenario("sub-starttls-no-ehlo", _GREET + _EHLO + "> STARTTLS\n< ^220\ntls\n" + _AUTH + _QUIT, _trusting()),
    Scenario("sub-starttls-injected", _GREET + ">> STARTTLS\\r\\nNOOP\\r\\n\n< ^220\neof", "eof"),
    Scenario("sub-submissions", "connect tls\n" + _LOGIN + _NOOP + _QUIT, _backend()),
    Scenario("sub-backend-starttls", _LOGIN + _NOOP + _QUIT, "> 220 be\n< ^EHLO\n>> 250-be\\r\\n250-AUTH PLAIN\\r\\n"
             "250 STARTTLS\\r\\n\n< ^STARTTLS\n> 220 go\ntls\n< ^EHLO\n>> " + _XCLIENT + "\n< ^EHLO\n>> 220 a\\r\\n"
             + _XCLIENT + "\n< ^AUTH\n> 235 2.7.0 in\nserve submission", extra="starttls=any-cert"),
    _says("sub-starttls-missing", f"> 220 be\n< ^EHLO\n>> {_CAPS}\neof", extra="starttls=any-cert"),
    _says("sub-starttls-refused", "> 220 be\n< ^EHLO\n>> 250-be\\r\\n250 STARTTLS\\r\\n\n< ^STARTTLS\n> 454 not now\n"
             "eof",
          extra="starttls=any-cert"),
    _says("sub-starttls-250", "> 220 be\n< ^EHLO\n>> 250-be\\r\\n250 STARTTLS\\r\\n\n< ^STARTTLS\n> 250 ok\neof",
          extra="starttls=any-cert"),
    _says("sub-backend-injects", "> 220 be\n< ^EHLO\n>> 250-be\\r\\n250 STARTTLS\\r\\n\n< ^STARTTLS\n"
          f">> 220 go\\r\\n{_CAPS}\neof", extra="starttls=any-cert", log=False,
          differs="clear text behind a backend's STARTTLS", substitute=(("P: a TLS handshake\n", ""),)),
    _says("sub-tls-drops-caps", "> 220 be\n< ^EHLO\n>> 250-be\\r\\n250-AUTH PLAIN\\r\\n250 STARTTLS\\r\\n\n< "
             "^STARTTLS\n"
          "> 220 go\ntls\n< ^EHLO\n> 250 be\neof", extra="starttls=any-cert"),
    Scenario("sub-implicit-tls", _LOGIN + _NOOP + _QUIT, "tls\n" + _backend(), extra="ssl=any-cert"),
)

_INTRODUCTIONS = tuple(
    Scenario(f"sub-helo-{number}", _GREET + f"> {hello}\n< ^[25]\\d\\d \n" + _AUTH + _QUIT, _trusting())
    for number, hello in enumerate((
        "EHLO a_b", "EHLO [x]", "EHLO <x>", "EHLO -a.b-", "EHLO a..b", "EHLO a.", "EHLO [1.2.3.4]", "EHLO [IPv6:::1]",
        "EHLO [1.2.3]", "EHLO a+b", "EHLO caf\\xc3\\xa9", "EHLO a b", "HELO a", "HELO a;b", "EHLO ${x*300}")))
_XCLIENTS = (
    Scenario("sub-no-helo", _GREET + _AUTH + _NOOP + _QUIT, _trusting()),
    Scenario("sub-helo-twice", _GREET + "> EHLO a\n< ^250 \n> HELO b\n< ^250\n> RSET\n< ^250\n" + _AUTH + _QUIT,
             _trusting()),
    Scenario("sub-xclient-some", _LOGIN + _QUIT, "> 220 be\n< ^EHLO\n>> 250-be\\r\\n250-XCLIENT ADDR\\r\\n250 AUTH "
             "PLAIN\\r\\n"
             f"\n< ^EHLO\n>> 220 a\\r\\n{_CAPS}\n< ^AUTH\n> 235 in\nserve submission"),
    Scenario("sub-xclient-lower-case", _LOGIN + _QUIT, "> 220 be\n< ^EHLO\n>> 250-be\\r\\n250-xclient addr helo\\r\\n"
             f"250 AUTH PLAIN\\r\\n\n< ^EHLO\n>> 220 a\\r\\n{_CAPS}\n< ^AUTH\n> 235 in\nserve submission"),
    Scenario("sub-xclient-none", _LOGIN + _QUIT, _backend("250-be\\r\\n250-XCLIENT\\r\\n250 AUTH PLAIN\\r\\n")),
    Scenario("sub-xclient-unknown", _LOGIN + _QUIT, _backend("250-be\\r\\n250-XCLIENT FOO\\r\\n250 AUTH PLAIN\\r\\n"),
             dovecot_breaks=True, log=False, differs="XCLIENT without a known parameter",
             expected_client=_expected("sub-xclient-unknown", "235 2.7.0 Logged in.", "QUIT", "221 2.0.0 bye"),
             expected_backend=r"""
        #1
        B: 220 be ESMTP
        P: EHLO proxy.test
        B: 250-be⏎250-XCLIENT FOO⏎250 AUTH PLAIN
        P: AUTH PLAIN c3ViLXhjbGllbnQtdW5rbm93bgBzdWIteGNsaWVudC11bmtub3duAHB3
        B: 235 2.7.0 Logged in.
        P: QUIT
        B: 221 2.0.0 bye
        -- close
    """),
    Scenario("sub-not-trusted", _LOGIN + _QUIT, _backend(_XCLIENT), extra="proxy_not_trusted=y"),
    Scenario("sub-forward", _LOGIN + _QUIT, _trusting(), extra="forward_foo=bar forward_z=b=c+d"),
    Scenario("sub-forward-long", _LOGIN + _QUIT, "> 220 be\n< ^EHLO\n>> " + _XCLIENT + "\n< ^EHLO\n>> 220 a\\r\\n220 "
             "b\\r\\n"
             + _XCLIENT + "\n< ^AUTH\n> 235 2.7.0 in\nserve submission", extra="forward_foo=${x*500}"),
    Scenario("sub-xclient-refused", _FAILED, f"> 220 be\n< ^EHLO\n>> {_XCLIENT}\n< ^EHLO\n> 550 no\neof"),
    Scenario("sub-xclient-garbage", _FAILED, f"> 220 be\n< ^EHLO\n>> {_XCLIENT}\n< ^EHLO\n> foo\neof"),
    Scenario("sub-xclient-multi-line", _LOGIN + _QUIT, f"> 220 be\n< ^EHLO\n>> {_XCLIENT}\n< ^EHLO\n"
             f">> 220-a\\r\\n220 b\\r\\n{_CAPS}\n< ^AUTH\n> 235 in\nserve submission"),
    Scenario("sub-noauth", _LOGIN + _NOOP + _QUIT, f"> 220 be\n< ^EHLO\n>> {_XCLIENT}\n< ^EHLO\n>> 220 a\\r\\n"
             f"{_XCLIENT}\n"
             "serve submission", extra="proxy_noauth=y"),
    Scenario("sub-noauth-destuser", _LOGIN + _NOOP + _QUIT, f"> 220 be\n< ^EHLO\n>> {_XCLIENT}\n< ^EHLO\n"
             f">> 220 a\\r\\n{_XCLIENT}\nserve submission", extra="proxy_noauth=y destuser=other",
             differs="proxy_noauth with destuser", substitute=(
                 ("LOGIN=sub-noauth-destuser", "LOGIN=other"), ("in=167", "in=153"))),
    Scenario("sub-noauth-without-xclient", _LOGIN + _NOOP + "close", f"> 220 be\n< ^EHLO\n>> {_CAPS}\nserve submission",
             extra="proxy_noauth=y", differs="proxy_noauth without XCLIENT", log=False,
             expected_client=_expected("sub-noauth-without-xclient", _UNAVAILABLE, "NOOP", "250 2.0.0 "
             "OK", end="-- close"), expected_backend=r"""
        #1
        B: 220 be
        P: EHLO proxy.test
        B: 250-be⏎250-AUTH PLAIN LOGIN⏎250 ENHANCEDSTATUSCODES
        <EOF>
    """),
)

_CREDENTIALS = (
    Scenario("sub-master", _LOGIN + _QUIT, _backend(), extra="master=mm pass=mpass destuser=dest"),
    Scenario("sub-destuser", _LOGIN + _QUIT, _backend(), extra="destuser=dest"),
    Scenario("sub-pass", _LOGIN + _QUIT, _backend(), extra="pass=other"),
    Scenario("sub-long-password", _LOGIN + _QUIT, _backend(then="> 334 \n< .\n> 235 2.7.0 in\nserve submission"),
             extra="pass=${p*500}"),
    Scenario("sub-mech-xoauth2", _LOGIN + _QUIT, _backend(), extra="proxy_mech=xoauth2 pass=token"),
    Scenario("sub-mech-oauthbearer", _LOGIN + _QUIT, _backend(), extra="proxy_mech=OAUTHBEARER pass=token"),
    Scenario("sub-mech-external", _LOGIN + _QUIT, _backend(), extra="proxy_mech=EXTERNAL"),
    Scenario("sub-mech-login", _LOGIN + _QUIT,
             _backend(then="> 334 VXNlcm5hbWU6\n< .\n> 334 UGFzc3dvcmQ6\n< .\n> 235 in\nserve submission"),
             extra="proxy_mech=LOGIN", differs="AUTH LOGIN to a backend",
             substitute=(("P: AUTH LOGIN =", "P: AUTH LOGIN"), ("in=65", "in=63"))),
    Scenario("sub-token-refused", _FAILED,
             _backend(then='> 334 $b64({"status":"401"})\n< .\n> 535 5.7.8 no\neof'), extra="proxy_mech=XOAUTH2"),
)

_RESULTS = (
    _answers("sub-535", "535 5.7.8 Nope bad creds\\r\\n"),
    _answers("sub-535-plain", "535 Nope\\r\\n"),
    _answers("sub-535-spaces", "535 5.7.8  two\\r\\n"),
    _answers("sub-535-only-enhanced", "535 5.7.8\\r\\n"),
    _answers("sub-500", "500 5.5.1 what\\r\\n"),
    _answers("sub-354", "354 go\\r\\n"),
    _answers("sub-454", "454 4.7.0 later\\r\\n"),
    _answers("sub-421", "421 4.3.2 bye\\r\\n", client=_LOGIN + "eof"),
    _answers("sub-421-plain", "421 bye\\r\\n", client=_LOGIN + "eof"),
    _answers("sub-235-no-enhanced", "235 hi\\r\\n250 more\\r\\n", client=_LOGIN + "< ^250 more\nclose"),
    _answers("sub-235-then-421", "235 2.7.0 in\\r\\n421 4.4.0 relay is down\\r\\n\nwait 0.3\nclose",
             client=_LOGIN + "eof"),
    _answers("sub-334-bad-base64", "334 x\\r\\n"),
    _answers("sub-334-unasked", "334 dGVzdA==\\r\\n"),
    Scenario("sub-no-enhanced-codes", _FAILED, _backend("250-be\\r\\n250 AUTH PLAIN\\r\\n", ">> 535 5.7.8 no\\r\\n\n")),
    Scenario("sub-454-once", _LOGIN + "took 0.8 4\n" + _NOOP + _QUIT,
             _backend(then="> 454 4.7.0 later\neof") + "\n---\n" + _backend()),
    Scenario("sub-refused-then-again", _LOGIN + _AUTH + _NOOP + _QUIT,
             _backend(then="> 535 5.7.8 no\neof") + "\n---\n" + _backend()),
    Scenario("sub-refused-pipelined", _GREET + ">> AUTH PLAIN $b64(\\0$u\\0pw)\\r\\nNOOP\\r\\nQUIT\\r\\n\neof",
             _backend(then="> 535 5.7.8 no\neof")),
)

_FAILURES = (
    *(_says(f"sub-banner-{number}", f">> {banner}\\r\\n\neof") for number, banner in enumerate((
        "554 go away", "421 busy", "250 hi", "hello", "* OK imap", "", "220-a\\r\\n250 b", "220-a\\r\\nb",
        "220 ${x*5000}"))),
    Scenario("sub-banner-lines", _LOGIN + _QUIT, f">> 220-a\\r\\n220-b\\r\\n220 c\\r\\n\n< ^EHLO\n>> {_CAPS}\n< ^AUTH\n"
             "> 235 in\nserve submission"),
    *(_says(f"sub-ehlo-{number}", f"> 220 be\n< ^EHLO\n>> {caps}\\r\\n\neof") for number, caps in enumerate((
        "502 no", "250 be", "250-be\\r\\n502 x", "250-be\\r\\nfoo", "250-be\\r\\n250 AUTH", "250-be\\r\\n250 "
        "AUTH=PLAIN",
        "421 x", "foo", "502-a\\r\\n502 b"))),
    Scenario("sub-ehlo-lower-case", _LOGIN + _QUIT, _backend("250-be\\r\\n250-auth foo\\r\\n250 size\\r\\n")),
    Scenario("sub-ehlo-220", _LOGIN + _QUIT, _backend("220-be\\r\\n220 AUTH foo\\r\\n")),
    _says("sub-dies-at-once", "close", log=False),
    _says("sub-dies-after-banner", "> 220 be\n< ^EHLO\nclose"),
    _says("sub-dies-after-auth", _backend(then="close")),
    _says("sub-silent", "eof", client=_LOGIN + "took 0.8 4\n" + _NOOP + "close", extra="proxy_timeout=1"),
    _says("sub-silent-after-auth", _backend(then="eof"), client=_LOGIN + "took 0.8 4\n" + _NOOP + "close",
          extra="proxy_timeout=1"),
    Scenario("sub-refused", _FAILED, "eof", fields="proxy=y host=127.0.0.1 port=$dead"),
    Scenario("sub-nologin", _FAILED, "eof", fields="nologin=y"),
    Scenario("sub-nologin-reason", _FAILED, "eof", fields="nologin=y reason=[ALERT]hey"),
    Scenario("sub-referral", _FAILED, "eof", fields="nologin=y host=10.0.0.1 port=99"),
    Scenario("sub-client-leaves", _GREET + _PLAIN + "wait 0.3\nclose", "> 220 be\n< ^EHLO\nquiet 1\neof", log=False,
             differs="client gone during the backend login", expected_backend=r"""
        #1
        B: 220 be
        P: EHLO proxy.test
        ! EOF while it should be quiet
        <EOF>
    """),
)

_RELAYED = (
    Scenario("sub-pipelined-login", _GREET + ">> AUTH PLAIN $b64(\\0$u\\0pw)\\r\\nMAIL FROM:<a@b>\\r\\nRCPT "
             "TO:<c@d>\\r\\n\n"
             "< ^235\n< MAIL\n< RCPT\n> QUIT\neof", _backend()),
    Scenario("sub-pipelined-bdat", _GREET + ">> AUTH PLAIN $b64(\\0$u\\0pw)\\r\\nBDAT 6 LAST\\r\\nQUIT\\r\\n\n"
             "< ^235\n< ^250 chunk\nclose", _backend(then=">> 235 2.7.0 in\\r\\n\n< ^BDAT\n< ^QUIT\n> 250 chunk\neof")),
    Scenario("sub-data-bytes", _LOGIN + "> DATA\n< ^354\n>> a\\r\\n\\n.\\n\\r.\\r\\x00\\xff\\r\\n.\\r\\n\n< ^250\n"
             "close",
             _backend(then=">> 235 2.7.0 in\\r\\n\n< ^DATA\n> 354 go\n< ^\\.$\n> 250 ok\neof")),
    Scenario("sub-server-closes", _LOGIN + "eof", _backend(then="> 235 2.7.0 in\nwait 0.2\nclose")),
    Scenario("sub-client-closes", _LOGIN + "close", _backend()),
)

_TRUSTED = "connect from 127.0.0.5\n" + _GREET


def _peer(name: str, *lines: str, then: str = _EHLO + _AUTH + _QUIT, extra: str = "", **more: object) -> Scenario:
    """A trusted proxy in front of us says these XCLIENT parameters."""
    steps = "".join(f"> XCLIENT {line}\n< ^[25]\\d\\d \n" for line in lines)
    return Scenario(name, _TRUSTED + steps + then, _trusting(), extra=extra, **more)        # type: ignore[arg-type]


def _variables(*pairs: str) -> str:
    return "FORWARD=" + b64encode("\t".join(pairs).encode()).decode().replace("+", "+2B").replace("=", "+3D")


_END = _NOOP + "close"
_FULL = "ADDR=10.11.12.13 PORT=4321 TTL=3 SESSION=SESS/abc+2B1 HELO=orig.example PROTO=ESMTP FORWARD=Zm9vPWJhcg+3D+3D"
_PEERS = (
    _peer("sub-peer-full", _FULL),
    _peer("sub-peer-nothing"),
    _peer("sub-peer-lower-case", _FULL.lower().replace("sess/abc+2b1", "SESS").replace("zm9vpwjhcg+3d+3d", "Zm9v")),
    _peer("sub-peer-twice", "ADDR=10.0.0.1 HELO=a", "PORT=7 HELO=b PROTO=SMTP"),
    _peer("sub-peer-ehlo-later", "HELO=xx PROTO=SMTP", then="> EHLO zz\n< ^250 \n" + _AUTH + _QUIT),
    _peer("sub-peer-ehlo-before", then="> EHLO zz\n< ^250 \n> XCLIENT ADDR=10.0.0.1\n< ^220\n" + _AUTH + _QUIT),
    _peer("sub-peer-ipv6", "ADDR=IPV6:2001:db8::1 PORT=7",
          differs="XCLIENT with an IPv6 address", substitute=(("ADDR=2001:db8::1", "ADDR=IPV6:2001:db8::1"),
                                                               ("in=202", "in=207"))),
    _peer("sub-peer-unavailable", "ADDR=[UNAVAILABLE] PORT=[UNAVAILABLE] LOGIN=[UNAVAILABLE] HELO=[unavailable]"),
    _peer("sub-peer-bad", "ADDR=foo", "ADDR", "ADDR=", "ADDR=[TEMPUNAVAIL]", "ADDR=IPV6:1.2.3.4", "PORT=0", "PORT=x",
          "PORT=70000", then=_END),
    _peer("sub-peer-bad-more", "TTL=x", "TTL=-1", "TTL=99999999999", "TIMEOUT=x", "PROTO=foo", "HELO=+", "=x", "A=b=c",
          then=_END),
    _peer("sub-peer-odd", "", "FOO=bar", "FOO", "ADDR=10.0.0.1 ADDR=10.0.0.2", "ADDR=10.0.0.1 ", "ADDR=1.2.3.4  PORT=1",
          " ADDR=1.2.3.4", "TIMEOUT=5", then=_END),
    _peer("sub-peer-half", "PORT=1234 TTL=z", then=_AUTH + _QUIT),
    _peer("sub-peer-ttl-1", "TTL=1", then=_AUTH + _END),
    _peer("sub-peer-ttl-0", "TTL=0", then=_AUTH + _END),
    _peer("sub-peer-session-64", "SESSION=${s*64}"),
    _peer("sub-peer-session-65", "SESSION=${s*65}", differs="XCLIENT with a long session id",
          substitute=((" SESSION=" + "s" * 65 + "\nP:", " SESSION=SESSION\nP:"),
                                                           ("<" + "s" * 65, "<SESSION"), ("in=253", "in=204"))),
    _peer("sub-peer-session-odd", "SESSION=a+20b+3C"),
    _peer("sub-peer-login", "LOGIN=bo+20ss", then=_AUTH + _QUIT),
    Scenario("sub-peer-login-noauth", _TRUSTED + "> XCLIENT LOGIN=boss+2Bx\n< ^220\n" + _AUTH + _QUIT,
             f"> 220 be\n< ^EHLO\n>> {_XCLIENT}\n< ^EHLO\n>> 220 a\\r\\n{_XCLIENT}\nserve submission",
             extra="proxy_noauth=y"),
    _peer("sub-peer-forward", _variables("a=1", "b=two words")),
    _peer("sub-peer-forward-replaced", _variables("a=1"), _variables("b=2")),
    _peer("sub-peer-forward-passdb", _variables("foo=client", "x=1"), extra="forward_foo=passdb"),
    _peer("sub-peer-forward-fields", _variables("nopassword=y", "proxy=y", "pass=x", "nologin=y")),
    _peer("sub-peer-forward-bad", "FORWARD=!!!", then=_AUTH + _QUIT, differs="XCLIENT with a bad FORWARD", substitute=(
        ("S: 220 proxy.test Proxy ready.\nC: AUTH", "S: 501 5.5.4 Invalid FORWARD parameter\nC: AUTH"),
        ("out=95", "out=103"))),
    _peer("sub-peer-caps", then=_EHLO + "close"),
    Scenario("sub-peer-insecure", _TRUSTED + _EHLO + _AUTH + _QUIT, _backend()),
    Scenario("sub-peer-starttls", _TRUSTED + "> STARTTLS\n< ^220\ntls\n> XCLIENT " + _FULL + "\n< "
             "^220\n" + _AUTH + _QUIT,
             _trusting()),
    Scenario("sub-peer-xclient-then-tls", _TRUSTED + "> XCLIENT " + _FULL + "\n< ^220\n> STARTTLS\n< ^220\n"
             "tls\n" + _AUTH
             + _QUIT, _trusting()),
    Scenario("sub-stranger", _GREET + _EHLO + "> XCLIENT " + _FULL + "\n< ^550\n> XCLIENT\n< ^550\n> XCLIENT ADDR=z\n"
             "< ^550\n" + _AUTH + _QUIT, _trusting()),
    _peer("sub-peer-allow-nets", "ADDR=10.11.12.13", then=_AUTH + _QUIT, extra="allow_nets=10.11.12.0/24"),
    _peer("sub-peer-passdb-variable", _variables("dest=somebody"), then=_AUTH + _QUIT,
          extra="destuser=%{passdb:forward_dest}"),
)

_EARLY = Scenario(
    "sub-235-before-auth", _LOGIN + "close", f"> 220 be\n< ^EHLO\n>> {_CAPS}235 2.7.0 in\\r\\n\neof", log=False,
    differs="a reply to AUTH before AUTH", substitute=(
        ("S: 235 2.7.0 in", f"S: {_UNAVAILABLE}"),
        ("P: AUTH PLAIN " + b64encode(b"\0".join((b"sub-235-before-auth",) * 2 + (b"pw",))).decode() + "\n", "")))

#: Dovecot's process dies of these.
_CRASHES = (
    Scenario("sub-auth-after-broken", _GREET + "> AUTH PLAIN\n< ^334\n> A\\0A\n< ^500\n> AUTH PLAIN\n< ^334\nclose",
             "eof", dovecot_breaks=True, log=False, differs="AUTH behind a broken response", expected_client="\n".join((
                 "-- connect", "S: 220 proxy.test Proxy ready.", "C: AUTH PLAIN", "S: 334 ", "C: A\\x00A",
                 "S: 500 5.5.2 Invalid AUTH response syntax", "C: AUTH PLAIN", "S: 334 ", "-- close"))),
    Scenario("sub-mech-unknown", _GREET + _PLAIN + "< ^454\n", "eof", extra="proxy_mech=FOO", dovecot_breaks=True,
             log=False, differs="failed start check", expected_client="-- connect\nS: 220 proxy.test "
             "Proxy ready.\n" + _said("sub-mech-unknown", _UNAVAILABLE)),
    Scenario("sub-535-multi-line", _GREET + _EHLO + _PLAIN + "< ^535 \n" + _NOOP + "close", _backend(then=">> "
             "535-5.7.8 a\\r\\n535 5.7.8 b\\r\\n\neof"),
             dovecot_breaks=True, log=False, differs="a backend's reply to AUTH",
             expected_client=_expected("sub-535-multi-line", "535-5.7.8 a\n535 5.7.8 b", "NOOP", "250 2.0.0 OK",
                                                                           end="-- close")),
    Scenario("sub-answer-unreadable", _FAILED, _backend(then="> hello\neof"),
             dovecot_breaks=True, log=False, differs="a backend's reply to AUTH",
             expected_client=_expected("sub-answer-unreadable", _UNAVAILABLE, "NOOP", "250 2.0.0 OK", end="-- close")),
)

_HOST = "hostname = proxy.test\n"


def _caps(name: str, conf: str) -> Group:
    source = "connect from 127.0.0.2\n" + _GREET
    return Group(f"submission-{name}", (
        Scenario(f"sub-caps-{name}", _GREET + _EHLO + "> HELO x\n< ^250\nclose", "eof"),
        Scenario(f"sub-caps-{name}-insecure", source + _EHLO + "> AUTH PLAIN\n< ^[35]\n> *\n< ^5\n> AUTH NONE\n< ^5\n"
                 "> AUTH\n< ^5\n> MAIL x\n< ^5\n> DATA\n< ^5\n> VRFY\n< ^5\n> RSET\n< ^[25]\n> NOOP\n< ^2\n"
                 "> XCLIENT ADDR=1.2.3.4\n< ^5\n> FOO\n< ^5\n> BDAT x\n< ^5\n> QUIT x\n< ^5\nclose", "eof"),
        Scenario(f"sub-caps-{name}-tls", "connect tls from 127.0.0.2\n" + _GREET + _EHLO + "close", "eof"),
        Scenario(f"sub-caps-{name}-trusted", "connect from 127.0.0.5\n" + _GREET + _EHLO + "close", "eof"),
    ), _HOST + "login_trusted_networks = 127.0.0.5\n" + conf, protocol="submission")


GROUPS = (
    Group("submission", (*_PRELOGIN, *_SASL, *_TLS, *_INTRODUCTIONS, *_XCLIENTS, *_CREDENTIALS, *_RELAYED),
          _HOST, "service_count = 1\nprocess_limit = 200", protocol="submission"),
    Group("submission-failure", (*_RESULTS, *_FAILURES), _HOST + "login_proxy_max_reconnects = 1",
          protocol="submission"),
    Group("submission-trusted", _PEERS, _HOST + "login_trusted_networks = 127.0.0.5\nlogin_log_format_elements = "
          "user=<%u> method=%m rip=%r lip=%l rport=%b lport=%a real_rip=%{real_rip} real_rport=%{real_rport} %c "
          "session=<%{session}> fwd=%{passdb:forward_foo}", protocol="submission"),
    Group("submission-crash", _CRASHES, _HOST + "login_proxy_max_reconnects = 0", "service_count = 1",
          protocol="submission"),
    Group("submission-early", (_EARLY,), _HOST + "login_proxy_max_reconnects = 0", protocol="submission"),
    _caps("required", "ssl = required"),
    _caps("open", "disable_plaintext_auth = no\nsubmission_max_mail_size = 10 M"),
    _caps("off", "ssl = no\nsubmission_backend_capabilities = BINARYMIME DSN VRFY"),
    _caps("few", "submission_backend_capabilities = DSN CHUNKING\nlogin_greeting ="),
    _caps("exotic", "submission_client_workarounds = exotic-backend"),
    _caps("exotic-listed", "submission_client_workarounds = whitespace-before-path exotic-backend\n"
          "submission_backend_capabilities = 8bitmime BINARYMIME BURL CHUNKING DSN ENHANCEDSTATUSCODES SIZE "
          "PIPELINING VRFY "
          "XCLIENT FOO"),
    _caps("default-name", "login_greeting = %s at %l"),
)
