"""Backends that say no, say nonsense, say nothing or go away; what the client is told, and how often it is tried."""
from __future__ import annotations

from ..scenario import ACCEPT, CAPABILITIES, GREET, ID_PARAMETERS, LOGGED_IN, LOGIN, NOOP, PROXIED, Group, Scenario

#: The client survives a failed login: it tries again, as somebody else or not.
_STAYS = LOGIN + r"""
    > n NOOP
    < ^n
    close
"""
_LOGOUT = r"""
    < ^\* OK
    >> a LOGIN $u pw\r\nb LOGOUT\r\n
    eof
"""


def _refuses(name: str, *lines: str) -> Scenario:
    answer = "".join(f"{line}\\r\\n" for line in lines)
    return Scenario(name, _STAYS, GREET + "< ^L\n>> I OK done\\r\\n" + answer)


def _banner(name: str, banner: str, then: str = "eof") -> Scenario:
    return Scenario(name, _STAYS, f">> {banner}\\r\\n\n{then}")


_REFUSALS = (
    _refuses("no-authfailed", "L NO [AUTHENTICATIONFAILED] no such user bob"),
    _refuses("no-plain", "L NO sorry"),
    _refuses("no-empty", "L NO "),
    _refuses("no-bare", "L NO"),
    _refuses("no-inuse", "L NO [INUSE] come back"),
    _refuses("no-alert", "L NO [ALERT] account locked"),
    _refuses("no-authorization", "L NO [AUTHORIZATIONFAILED] not you"),
    _refuses("no-serverbug", "L NO [SERVERBUG] oops"),
    _refuses("no-privacy", "L NO [PRIVACYREQUIRED] TLS first"),
    _refuses("no-expired", "L NO [EXPIRED] too old"),
    _refuses("no-limit", "L NO [LIMIT] too many"),
    _refuses("no-contactadmin", "L NO [CONTACTADMIN] call us"),
    _refuses("no-unknown-code", "L NO [X-FOO bar baz] text"),
    _refuses("no-open-code", "L NO [BROKEN text"),
    _refuses("no-lower-case-code", "L NO [authenticationfailed] x"),
    _refuses("no-lower-case", "L no [ALERT] x"),
    _refuses("bad-plain", "L BAD what"),
    _refuses("bad-code", "L BAD [ALERT] what"),
    _refuses("reply-unknown", "L xyz"),
    _refuses("reply-preauth", "L PREAUTH hi"),
    _refuses("no-after-untagged", "* NO [ALERT] watch out", "L NO [INUSE] come back"),
    Scenario("no-unavailable-once", LOGIN + "took 0.8 4" + NOOP, GREET + r"""
        < ^L
        >> I OK x\r\nL NO [UNAVAILABLE] try again\r\n
    ---
    """ + ACCEPT),
    Scenario("no-unavailable-always", LOGIN + "took 0.8 4" + NOOP, GREET + r"""
        < ^L
        >> I OK x\r\n* NO [ALERT] seen twice\r\nL NO [UNAVAILABLE] try later\r\n
    """),
    Scenario("no-then-other-user", LOGIN + r"""
        > b LOGIN no-then-other-user2 pw
        < ^b
    """ + NOOP, GREET + "< ^L\n>> I OK\\r\\nL NO [INUSE] one\\r\\n\n---\n" + ACCEPT,
             users={"no-then-other-user2": PROXIED}),
    Scenario("no-then-authenticate", LOGIN + r"""
        > b AUTHENTICATE PLAIN $b64(\0$u\0pw)
        < ^b
    """ + NOOP, GREET + "< ^L\n>> I OK\\r\\nL NO [INUSE] one\\r\\n\n---\n" + ACCEPT),
    Scenario("no-five-times", r"""
        < ^\* OK
        > a LOGIN $u pw
        < ^a
        > b LOGIN $u pw
        < ^b
        > c LOGIN $u pw
        < ^c
        > d LOGIN $u pw
        < ^d
        > e LOGIN $u pw
        < ^e
        close
    """, GREET + "< ^L\n>> I OK\\r\\nL NO [INUSE] one\\r\\n"),
    Scenario("no-pipelined-logout", _LOGOUT, GREET + "< ^L\n>> I OK\\r\\nL NO [INUSE] one\\r\\n"),
    Scenario("no-in-pieces", _STAYS, GREET + r"""
        < ^L
        >> I OK x\r\nL N
        wait 0.1
        >> O [INUSE] one\r
        wait 0.1
        >> \n
    """),
    Scenario("no-then-close", _STAYS, GREET + "< ^L\n>> I OK\\r\\nL NO [INUSE] one\\r\\n\nclose"),
)

_BANNERS = (
    _banner("banner-bye", "* BYE too many connections"),
    _banner("banner-bye-close", "* BYE too many connections", "close"),
    _banner("banner-preauth", "* PREAUTH [CAPABILITY IMAP4rev1] hi"),
    _banner("banner-no", "* NO go away"),
    _banner("banner-garbage", "220 smtp.example.com ESMTP"),
    _banner("banner-lower-case", "* ok hi"),
    _banner("banner-no-text", "* OK"),
    _banner("banner-empty", ""),
    _banner("banner-8bit", r"\xff\xfe\x01"),
    _banner("banner-too-long", "* OK ${x*5000}"),
    Scenario("banner-long", LOGIN + NOOP, "> * OK ${x*3900}\n< ^L\n>> L OK [CAPABILITY X] in\\r\\n\nserve"),
    Scenario("banner-without-newline", _STAYS, ">> * OK hel\nclose"),
    _banner("banner-logindisabled", "* OK [CAPABILITY IMAP4rev1 LOGINDISABLED] hi"),
    Scenario("banner-retry-works", LOGIN + "took 0.8 4" + NOOP, "> * BYE busy\neof\n---\n" + ACCEPT),
    Scenario("banner-logindisabled-master", LOGIN + NOOP, r"""
        > * OK [CAPABILITY IMAP4rev1 SASL-IR LOGINDISABLED] hi
        < ^L
        >> L OK [CAPABILITY IMAP4rev1] in\r\n
        serve
    """, extra="master=mm pass=mpass"),
)

_DEATHS = (
    Scenario("dies-at-once", _STAYS, "close"),
    Scenario("dies-resetting", _STAYS, "wait 0.1\nrst"),
    Scenario("dies-after-banner", _STAYS, f"> * OK [CAPABILITY {CAPABILITIES}] hi\nclose", log=False),
    Scenario("dies-after-login", _STAYS, GREET + "< ^L\nclose"),
    Scenario("dies-after-id-reply", _STAYS, GREET + "< ^L\n> I OK x\nclose"),
    Scenario("dies-in-reply", _STAYS, GREET + "< ^L\n>> I OK x\\r\\nL OK half\nclose"),
    Scenario("dies-with-bye", _STAYS, GREET + "< ^L\n>> I OK x\\r\\n* BYE dying\\r\\n\nclose"),
    Scenario("dies-once", LOGIN + "took 0.8 4" + NOOP, GREET + "< ^L\nclose\n---\n" + ACCEPT),
    Scenario("refused", _STAYS + "", fields="proxy=y host=127.0.0.1 port=$dead"),
    Scenario("refused-logout", _LOGOUT, fields="proxy=y host=127.0.0.1 port=$dead"),
    Scenario("refused-timeout-1", LOGIN + "took 0 0.95", fields="proxy=y host=127.0.0.1 port=$dead proxy_timeout=1"),
    Scenario("silent-timeout", LOGIN + "took 0.8 3", "eof", extra="proxy_timeout=1"),
    Scenario("silent-timeout-ms", LOGIN + "took 1.1 3", "eof", extra="proxy_timeout=1300ms"),
    Scenario("silent-after-banner", LOGIN + "took 0.8 3", GREET + "eof", extra="proxy_timeout=1"),
    Scenario("silent-after-id", LOGIN + "took 0.8 3", GREET + "> I OK\neof", extra="proxy_timeout=1"),
    Scenario("silent-then-logout", _LOGOUT, "eof", extra="proxy_timeout=1"),
    Scenario("slow-reconnect-budget", LOGIN + "took 2.0 6", "eof", extra="proxy_timeout=2500ms"),
    Scenario("long-line-in-dialogue", _STAYS, GREET + "< ^L\n>> I OK\\r\\n* ${y*5000}\\r\\n\neof"),
    Scenario("long-ok-line", LOGIN + NOOP, GREET + "< ^L\n>> I OK\\r\\nL OK ${y*3900}\\r\\n\nserve"),
    Scenario("garbage-in-dialogue", LOGIN, GREET + r"""
        < ^L
        >> foo\r\n\r\n?\r\nI OK\r\nL OK in\r\n
        serve
    """),
    Scenario("client-leaves-while-waiting", r"""
        < ^\* OK
        > a LOGIN $u pw
        wait 0.3
        close
    """, GREET + "< ^L\nquiet 1\n" + LOGGED_IN, log=False, differs="client gone during the backend login",
             expected_backend=f"""
        #1
        B: * OK [CAPABILITY IMAP4rev1 SASL-IR LOGIN-REFERRALS ID ENABLE IDLE LITERAL+ AUTH=PLAIN] Backend ready.
        P: I ID ({ID_PARAMETERS})
        P: L LOGIN "client-leaves-while-waiting" "pw"
        ! EOF while it should be quiet
        B: * ID ("name" "Backend")⏎I OK ID completed.⏎L OK [CAPABILITY IMAP4rev1 IDLE XTRA] Logged in
        <EOF>
    """),
)

GROUPS = (
    Group("failure", (*_REFUSALS, *_BANNERS, *_DEATHS), "login_proxy_max_reconnects = 1"),
    Group("retries", (
        Scenario("retries-refused", LOGIN + "took 2.5 8", fields="proxy=y host=127.0.0.1 port=$dead"),
        Scenario("retries-unavailable", LOGIN + "took 2.5 8",
                 GREET + "< ^L\n>> I OK\\r\\nL NO [UNAVAILABLE] later\\r\\n"),
        Scenario("retries-fourth-works", LOGIN + "took 2.5 8" + NOOP,
                 "> * BYE busy\nclose\n---\n> * BYE busy\nclose\n---\n> * BYE busy\nclose\n---\n" + ACCEPT),
        Scenario("retries-timeout-2", LOGIN + "took 0.8 2",
                 fields="proxy=y host=127.0.0.1 port=$dead proxy_timeout=2"),
    )),
    Group("noretry", (
        Scenario("noretry-refused", LOGIN + "took 0 0.95", fields="proxy=y host=127.0.0.1 port=$dead"),
        Scenario("noretry-unavailable", LOGIN + "took 0 0.95",
                 GREET + "< ^L\n>> I OK\\r\\nL NO [UNAVAILABLE] later\\r\\n"),
        Scenario("noretry-timeout", LOGIN + "took 1.2 4", "eof"),
    ), "login_proxy_max_reconnects = 0\nlogin_proxy_timeout = 1500ms"),
)
