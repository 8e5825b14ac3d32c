"""The backend's side: capabilities, refusals, failures, several backends in one transaction."""
# ruff: noqa: E501 - a line of a dialogue is not broken
from __future__ import annotations

from ..scenario import ACCEPT, ALL, DATA, GREET, ON_A, ON_B, ON_C, QUIT, RCPT, START, TO, Group, Scenario

_ENHANCED = "LMTP enhanced codes"
#: What client and backend have seen up to the recipient.
_START_SEEN = """
        S: 220 proxy.test Proxy ready.
        C: LHLO mx.test
        S: 250-proxy.test
        S: 250-8BITMIME
        S: 250-CHUNKING
        S: 250-ENHANCEDSTATUSCODES
        S: 250-PIPELINING
        S: 250 STARTTLS
        C: MAIL FROM:<s@test>
        S: 250 2.1.0 OK"""
_GREET_SEEN = """
        a1
        B: 220 be LMTP
        P: LHLO proxy.test
        B: 250-be⏎250-8BITMIME⏎250-ENHANCEDSTATUSCODES⏎250-PIPELINING⏎250 CHUNKING"""
_BARE = """
    > 220 be
    < ^LHLO
    > 250 be
"""
_SECOND = "    > RCPT TO:<$ub>\n    < ^[245]\n"
_THIRD = "    > RCPT TO:<$uc>\n    < ^[245]\n"
_DATA2 = """
    > DATA
    < ^354
    >> Subject: hi\\r\\n\\r\\nend\\r\\n.\\r\\n
    < ^[245]
    < ^[245]
"""
_DATA3 = _DATA2 + "    < ^[245]\n"
_TWO = START + TO + _SECOND + _DATA2 + QUIT


def _caps(name: str, *caps: str, client: str = ALL, differs: str = "") -> Scenario:
    """A backend that offers these capabilities and knows both ways to send a message."""
    lines = "".join(f"250-{cap}\\r\\n" for cap in caps[:-1])
    pipelined = "PIPELINING" in caps
    rcpt = RCPT if pipelined else "    < ^MAIL\n    > 250 2.1.0 OK\n    < ^RCPT\n    > 250 2.1.5 OK\n"
    data = "" if "CHUNKING" in caps else "    < ^DATA\n    > 354 go\n"
    end = "" if "CHUNKING" in caps else "    < ^\\.$\n"
    last = f"250 {caps[-1]}" if caps else "250 be"
    return Scenario(name, client, f"""
    > 220 be
    < ^LHLO
    >> 250-be\\r\\n{lines}{last}\\r\\n
{rcpt}{data}
    < ^end
{end}    > 250 2.0.0 Saved
    < ^QUIT
    > 221 Bye
""", differs=differs or ("" if "ENHANCEDSTATUSCODES" in caps else _ENHANCED),
                    substitute=(("S: 250 2.1.0 2.1.5 OK", "S: 250 2.1.5 OK"),))


def _rcpt(name: str, reply: str, **more: object) -> Scenario:
    return Scenario(name, START + TO + QUIT, GREET + f"""
    < ^RCPT
    >> 250 2.1.0 OK\\r\\n{reply}\\r\\n
    eof
""", **more)  # type: ignore[arg-type]


def _mail(name: str, reply: str) -> Scenario:
    return Scenario(name, START + TO + QUIT, GREET + f"""
    < ^RCPT
    >> {reply}\\r\\n250 2.1.5 OK\\r\\n
    eof
""")


def _final(name: str, reply: str, client: str = ALL, **more: object) -> Scenario:
    return Scenario(name, client, GREET + RCPT + f"""
    < ^end
    >> {reply}
    eof
""", **more)  # type: ignore[arg-type]


ONE = Group("backend", (
    _caps("cap-none"),
    _caps("cap-enh", "ENHANCEDSTATUSCODES"),
    _caps("cap-pipe", "PIPELINING"),
    _caps("cap-chunk", "CHUNKING"),
    _caps("cap-8bit", "8BITMIME", "PIPELINING", client=ALL.replace("<s@test>", "<s@test> BODY=8BITMIME")),
    _caps("cap-size", "SIZE 100000", "DSN", "PIPELINING", "CHUNKING"),
    _caps("cap-orcpt", "DSN", "PIPELINING", "ENHANCEDSTATUSCODES",
          client=ALL.replace("TO:<$u>", "TO:<$u> ORCPT=rfc822;foo+2Bbar@x")),
    _caps("cap-orcpt-none", "PIPELINING", "ENHANCEDSTATUSCODES",
          client=ALL.replace("TO:<$u>", "TO:<$u> ORCPT=rfc822;foo+2Bbar@x")),
    _rcpt("rcpt-550", "550 5.1.1 No such user"),
    _rcpt("rcpt-450", "450 try later"),
    _rcpt("rcpt-noenh", "250 fine"),
    _rcpt("rcpt-251", "251 2.1.5 will forward"),
    _rcpt("rcpt-552", "552 5.2.2 <other> Quota exceeded"),
    _rcpt("rcpt-421", "421 4.3.2 busy"),
    _rcpt("rcpt-354", "354 what", dovecot_breaks=True, differs="LMTP replies that cannot be", expected_client=_START_SEEN + """
        C: RCPT TO:<rcpt-354>
        S: 451 4.4.0 Proxy failed (bad reply, session=ID)
        C: QUIT
        S: 221 2.0.0 Bye
        <EOF>
    """, expected_backend=_GREET_SEEN + """
        P: MAIL FROM:<s@test>
        P: RCPT TO:<rcpt-354>
        B: 250 2.1.0 OK⏎354 what
        P: QUIT
        <EOF>
    """, expected_log="""
        Info: Connect from $address
        Error: lmtp-client: conn 127.0.0.1:$porta [N]: Unexpected reply: 354 what
        Info: Disconnect from $address: Logged out (state=RCPT TO)
    """),
    _rcpt("rcpt-empty", "250"),
    _rcpt("rcpt-badenh", "550 4.1.1 class differs"),
    _rcpt("rcpt-junk", "hello"),
    _mail("mail-451", "451 4.3.0 no mail"),
    _mail("mail-550", "550 bad sender"),
    _mail("mail-421", "421 4.3.2 busy"),
    _final("final-552", "552 5.2.2 quota\\r\\n"),
    _final("final-451", "451 later\\r\\n"),
    _final("final-noenh", "250 ok saved\\r\\n"),
    _final("final-421", "421 4.3.2 busy\\r\\n"),
    _final("final-multi", "250-2.0.0 one\\r\\n250 2.0.0 two\\r\\n"),
    _final("final-multi-550", "550-5.7.1 one\\r\\n550 5.7.1 two\\r\\n",
           client=ALL.replace("< ^[245]\n\n    > QUIT", "< ^550 \n\n    > QUIT"), dovecot_breaks=True, log=False,
           differs="LMTP multi-line refusals", expected_client=_START_SEEN + """
        C: RCPT TO:<final-multi-550>
        S: 250 2.1.5 OK
        C: DATA
        S: 354 OK
        C: Subject: hi⏎⏎end⏎.
        S: 550-5.7.1 <final-multi-550> one
        S: 550 5.7.1 two
        C: QUIT
        S: 221 2.0.0 Bye
        <EOF>
    """),
    _final("final-extra", "250 2.0.0 Saved\\r\\n250 2.0.0 more\\r\\n", differs="LMTP replies never asked for", substitute=(
        ("Error: lmtp-client: conn 127.0.0.1:$porta [N]: Unexpected reply: 250 2.0.0 more\n", ""),)),
    Scenario("final-eof", ALL, GREET + RCPT + "    < ^end\n    close\n"),
    Scenario("final-half-line", ALL, GREET + RCPT + "    < ^end\n    >> 250 2.0\n    close\n"),
    Scenario("rcpt-eof", START + TO + QUIT, GREET + "    < ^RCPT\n    close\n"),
    Scenario("refused", START + TO + QUIT, fields="proxy=y host=127.0.0.1 port=$dead"),
    Scenario("greet-554", START + TO + QUIT, "    > 554 5.3.2 go away\n    eof\n", differs=_ENHANCED,
             substitute=(("554 5.0.0 <greet-554> 5.3.2", "554 5.3.2 <greet-554>"),)),
    Scenario("greet-421", START + TO + QUIT, "    > 421 4.3.2 busy\n    eof\n"),
    Scenario("greet-junk", START + TO + QUIT, "    > hello\n    eof\n"),
    Scenario("greet-multi", ALL, ACCEPT.replace("> 220 be LMTP", ">> 220-be\\r\\n220 LMTP\\r\\n")),
    Scenario("greet-eof", START + TO + QUIT, "    close\n"),
    Scenario("lhlo-500", START + TO + QUIT, "    > 220 be\n    < ^LHLO\n    > 500 5.5.1 no\n    eof\n", differs=_ENHANCED,
             substitute=(("500 5.0.0 <lhlo-500> 5.5.1", "500 5.5.1 <lhlo-500>"),)),
    Scenario("lhlo-421", START + TO + QUIT, "    > 220 be\n    < ^LHLO\n    > 421 4.5.1 no\n    eof\n"),
    Scenario("lhlo-junk", START + TO + QUIT, "    > 220 be\n    < ^LHLO\n    > hello\n    eof\n"),
    Scenario("early-reply", START + TO + QUIT, GREET.replace("< ^LHLO", ">> 250 2.0.0 early\\r\\n\n    < ^LHLO") + "    eof\n",
             differs="LMTP replies never asked for", dovecot_breaks=True, log=False, expected_client=_START_SEEN + """
        C: RCPT TO:<early-reply>
        S: 451 4.4.0 Proxy failed (bad reply, session=ID)
        C: QUIT
        S: 221 2.0.0 Bye
        <EOF>
    """, expected_backend="""
        a1
        B: 220 be LMTP
        B: 250 2.0.0 early
        P: QUIT
        <EOF> while waiting for '^LHLO'
    """),
    Scenario("early-final", ALL, GREET + """
    < ^RCPT
    >> 250 2.1.0 OK\\r\\n250 2.1.5 OK\\r\\n250 2.0.0 early\\r\\n
    eof
"""),
    Scenario("long-reply", START + TO + QUIT, GREET + """
    < ^RCPT
    >> 250 2.1.0 OK\\r\\n550 5.1.1 ${x*5000}\\r\\n
    eof
"""),
    Scenario("reply-control", START + TO + QUIT, GREET + """
    < ^RCPT
    >> 250 2.1.0 OK\\r\\n550 5.1.1 a\\0b\\tc\\xe4\\r\\n
    eof
"""),
    Scenario("reply-lf", ALL, GREET + """
    < ^RCPT
    >> 250 2.1.0 OK\\n250 2.1.5 OK\\n
    < ^end
    >> 250 2.0.0 Saved\\n
    eof
"""),
    Scenario("data-refused", ALL, _BARE + """
    < ^MAIL
    > 250 2.1.0 OK
    < ^RCPT
    > 250 2.1.5 OK
    < ^DATA
    > 554 5.3.0 no data
    eof
""", differs=_ENHANCED, substitute=(
        ("S: 250 2.1.0 2.1.5 OK", "S: 250 2.1.5 OK"), ("554 5.0.0 <data-refused> 5.3.0", "554 5.3.0 <data-refused>"))),
    Scenario("data-421", ALL, _BARE + """
    < ^MAIL
    > 250 2.1.0 OK
    < ^RCPT
    > 250 2.1.5 OK
    < ^DATA
    > 421 4.3.0 no data
    eof
""", differs=_ENHANCED, substitute=(("S: 250 2.1.0 2.1.5 OK", "S: 250 2.1.5 OK"),)),
    Scenario("data-250", ALL, _BARE + """
    < ^MAIL
    > 250 2.1.0 OK
    < ^RCPT
    > 250 2.1.5 OK
    < ^DATA
    > 250 2.0.0 what
    eof
""", differs="LMTP replies that cannot be", log=False, substitute=(("S: 250 2.1.0 2.1.5 OK", "S: 250 2.1.5 OK"),
        ("S: 250 2.0.0 <data-250> ID Saved", "S: 451 4.4.0 Proxy failed (bad reply, session=ID)"))),
    Scenario("rcpt-multi", START + TO.replace("< ^[245]", "< ^550 ") + QUIT, GREET + """
    < ^RCPT
    >> 250 2.1.0 OK\\r\\n550-5.1.1 one\\r\\n550 5.1.1 two\\r\\n
    eof
""", dovecot_breaks=True, log=False, differs="LMTP multi-line refusals", expected_client=_START_SEEN + """
        C: RCPT TO:<rcpt-multi>
        S: 550-5.1.1 <rcpt-multi> one
        S: 550 5.1.1 two
        C: QUIT
        S: 221 2.0.0 Bye
        <EOF>
    """, expected_backend=_GREET_SEEN + """
        P: MAIL FROM:<s@test>
        P: RCPT TO:<rcpt-multi>
        B: 250 2.1.0 OK⏎550-5.1.1 one⏎550 5.1.1 two
        P: QUIT
        <EOF>
    """),
))

MANY = Group("several", (
    Scenario("two-shared", _TWO, GREET + """
    < ^RCPT
    >> 250 2.1.0 OK\\r\\n250 2.1.5 OK\\r\\n
    < ^RCPT
    >> 250 2.1.5 OK2\\r\\n
    < ^end
    >> 250 2.0.0 Saved 1\\r\\n250 2.0.0 Saved 2\\r\\n
    < ^QUIT
    > 221 Bye
""", users={"$ub": ON_A}),
    Scenario("two-backends", _TWO, users={"$ub": ON_B}),
    Scenario("three-mixed", START + TO + _SECOND + _THIRD + _DATA3 + QUIT, GREET + """
    < ^RCPT
    >> 250 2.1.0 OK\\r\\n250 2.1.5 OK\\r\\n
    < ^RCPT
    >> 250 2.1.5 OK2\\r\\n
    < ^end
    >> 250 2.0.0 Saved 1\\r\\n452 4.2.2 full 2\\r\\n
    < ^QUIT
    > 221 Bye
""", users={"$ub": ON_B, "$uc": ON_A}),
    Scenario("two-one-refused", START + TO + _SECOND + DATA + QUIT, GREET + """
    < ^RCPT
    >> 250 2.1.0 OK\\r\\n550 5.1.1 no\\r\\n
    < ^RCPT
    >> 250 2.1.5 OK2\\r\\n
    < ^end
    >> 250 2.0.0 Saved 2\\r\\n
    < ^QUIT
    > 221 Bye
""", users={"$ub": ON_A}),
    Scenario("two-same-user", START + TO + TO + _DATA2 + QUIT, GREET + """
    < ^RCPT
    >> 250 2.1.0 OK\\r\\n250 2.1.5 OK\\r\\n
    < ^RCPT
    >> 250 2.1.5 OK2\\r\\n
    < ^end
    >> 250 2.0.0 Saved 1\\r\\n250 2.0.0 Saved 2\\r\\n
    < ^QUIT
    > 221 Bye
"""),
    Scenario("second-unknown", START + TO + _SECOND + DATA + QUIT),
    Scenario("two-one-down", START + TO + _SECOND + DATA + QUIT, users={"$ub": "proxy=y host=127.0.0.1 port=$dead"}),
    Scenario("two-one-dies", _TWO, b=GREET + RCPT + "    < ^end\n    wait 0.3\n    close\n", users={"$ub": ON_B}),
    Scenario("three-one-dies", START + TO + _SECOND + _THIRD + _DATA3 + QUIT,
             b=GREET + RCPT + "    < ^end\n    wait 0.3\n    close\n", users={"$ub": ON_B, "$uc": ON_C},
             differs="LMTP results of several backends", substitute=(
        ("session=ID:R2)\nS: 451 4.4.0 Proxy failed (connection lost, session=ID:R2)",
         "session=ID:R2)\nS: 250 2.0.0 <three-one-diesc> ID:R3 Saved"),)),
    Scenario("two-one-552", _TWO, b=GREET + RCPT + "    < ^end\n    > 552 5.2.2 full\n    eof\n", users={"$ub": ON_B}),
    Scenario("shared-dies-between", _TWO, GREET + """
    < ^RCPT
    >> 250 2.1.0 OK\\r\\n250 2.1.5 OK\\r\\n
    < ^RCPT
    >> 250 2.1.5 OK2\\r\\n
    < ^end
    >> 250 2.0.0 Saved 1\\r\\n
    wait 0.3
    close
""", users={"$ub": ON_A}),
    Scenario("two-slow", _TWO, b=GREET + RCPT + "    < ^end\n    wait 1\n    > 250 2.0.0 slow\n    < ^QUIT\n    > 221 Bye",
             users={"$ub": ON_B}),
    Scenario("second-pipelined", START + """
        >> RCPT TO:<$u>\\r\\nRCPT TO:<$ub>\\r\\nRCPT TO:<$uc>\\r\\nDATA\\r\\n
        < ^354
        >> Subject: hi\\r\\n\\r\\nend\\r\\n.\\r\\n
        < ^2
        < ^2
    """ + QUIT, users={"$ub": ON_B}),
))

GROUPS: tuple[Group, ...] = (ONE, MANY)
