"""The message itself: dots, line ends, chunks; what a backend receives is what was accepted."""
# ruff: noqa: E501 - a line of a dialogue is not broken
from __future__ import annotations

from ..scenario import ACCEPT, GREET, QUIT, RCPT, START, TO, Group, Scenario

_PLAIN_BE = """
    > 220 be
    < ^LHLO
    >> 250-be\\r\\n250-ENHANCEDSTATUSCODES\\r\\n250 PIPELINING\\r\\n
    < ^RCPT
    >> 250 2.1.0 OK\\r\\n250 2.1.5 OK\\r\\n
    < ^DATA
    > 354 go
    < ^end
    < ^\\.$
    > 250 2.0.0 Saved
    < ^QUIT
    > 221 Bye
"""


def _data(name: str, text: str, backend: str = ACCEPT, **more: object) -> Scenario:
    return Scenario(name, START + TO + f"""
    > DATA
    < ^354
    >> {text}
    < ^[245]
""" + QUIT, backend, **more)  # type: ignore[arg-type]


def _both(name: str, text: str) -> tuple[Scenario, Scenario]:
    return _data(name, text), _data(name + "-data", text, _PLAIN_BE)


def _smuggled(name: str, end: str, *lines: str) -> Scenario:
    """What Dovecot takes for the end of the message: here it is part of it."""
    shown = "\n".join(f"        P: {line}" for line in lines)
    return _data(name, f"a: b\\r\\n\\r\\nx{end}y\\r\\nend\\r\\n.\\r\\n", _PLAIN_BE.replace("    < ^end\n", ""), log=False,
                 differs="LMTP end of DATA", expected_backend=f"""
        a1
        B: 220 be
        P: LHLO proxy.test
        B: 250-be⏎250-ENHANCEDSTATUSCODES⏎250 PIPELINING
        P: MAIL FROM:<s@test>
        P: RCPT TO:<{name}>
        B: 250 2.1.0 OK⏎250 2.1.5 OK
        P: DATA
        B: 354 go
        P: Received: from mx.test ([$address])
        P: \\x09by proxy.test with LMTP
        P: \\x09id ID
        P: \\x09(envelope-from <s@test>)
        P: \\x09for <{name}>; DATE
        P: a: b
        P:\x20
        P: x
{shown}
        P: y
        P: end
        P: .
        B: 250 2.0.0 Saved
        P: QUIT
        B: 221 Bye
        <EOF>
    """, expected_client=f"""
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
        C: RCPT TO:<{name}>
        S: 250 2.1.5 OK
        C: DATA
        S: 354 OK
        C: a: b⏎⏎x{end}y⏎end⏎.
        S: 250 2.0.0 <{name}> ID Saved
        C: QUIT
        S: 221 2.0.0 Bye
        <EOF>
    """.replace("\\r\\n", "⏎").replace("\\n", "\\x0a"))


def _chunks(name: str, *texts: str, a: str = ACCEPT, rest: str = "", **more: object) -> Scenario:
    return Scenario(name, START + TO + "".join(f"    >> {text}\n    < ^[245]\n" for text in texts) + rest + QUIT, a,
                    **more)  # type: ignore[arg-type]


MESSAGE = Group("message", (
    *_both("m-dots", "a: b\\r\\n\\r\\n..dot\\r\\n...two\\r\\n..\\r\\nx..y\\r\\nend\\r\\n.\\r\\n"),
    *_both("m-bare-lf", "a: b\\n\\nx\\ny\\r\\nend\\r\\n.\\r\\n"),
    *_both("m-bare-cr", "a: b\\r\\n\\r\\nx\\ry\\r\\r\\nend\\r\\n.\\r\\n"),
    _smuggled("m-lf-dot-lf", "\\n.\\n", ".."),
    _smuggled("m-lf-dot-crlf", "\\n.\\r\\n", ".."),
    _smuggled("m-crlf-dot-lf", "\\r\\n.\\n", ""),
    _data("m-crlf-dot-cr", "a: b\\r\\n\\r\\nx\\r\\n.\\ry\\r\\nend\\r\\n.\\r\\n", differs="LMTP dot before CR",
          substitute=(("BDAT 193", "BDAT 194"), ("BDAT 195", "BDAT 196"), ("P: \\x0d\n", "P: \\x0dy\n"))),
    *_both("m-cr-dot-cr", "a: b\\r\\n\\r\\nx\\r.\\ry\\r\\nend\\r\\n.\\r\\n"),
    *_both("m-cr-dot-crlf", "a: b\\r\\n\\r\\nx\\r.\\r\\ny\\r\\nend\\r\\n.\\r\\n"),
    *_both("m-nul", "a: b\\r\\n\\r\\nx\\0y\\r\\nend\\r\\n.\\r\\n"),
    *_both("m-8bit", "a: b\\r\\n\\r\\nx\\xe4\\xffy\\r\\nend\\r\\n.\\r\\n"),
    *_both("m-single-dot", "a: b\\r\\n\\r\\n.x\\r\\nend\\r\\n.\\r\\n"),
    *_both("m-long-line", "a: b\\r\\n\\r\\n${x*3000}\\r\\nend\\r\\n.\\r\\n"),
    _data("m-empty", ".\\r\\n", GREET + RCPT + "    < for\n    > 250 2.0.0 ok\n    eof\n"),
    _chunks("b-one", "BDAT 10 LAST\\r\\nhello\\r\\nend", a=ACCEPT.replace("< ^end", "< hello\n    wait 0.2")),
    _chunks("b-two", "BDAT 7\\r\\nhello\\r\\n", "BDAT 5 LAST\\r\\nend\\r\\n"),
    _chunks("b-zero-last", "BDAT 12\\r\\nhello\\r\\nend\\r\\n", "BDAT 0 LAST\\r\\n"),
    _chunks("b-dots", "BDAT 16 LAST\\r\\n.\\r\\n..\\r\\n.x\\r\\nend\\r\\n", a=_PLAIN_BE),
    _chunks("b-crlf-dot-crlf", "BDAT 17 LAST\\r\\na\\r\\n.\\r\\nMAIL\\r\\nend\\r\\n", a=_PLAIN_BE),
    _chunks("b-no-newline", "BDAT 8 LAST\\r\\nend\\r\\nend", a=_PLAIN_BE),
    _chunks("b-no-newline-chunk", "BDAT 8 LAST\\r\\nend\\r\\nend", a=GREET + RCPT + "    < ^end\n    wait 0.2\n    > 250 2.0.0 ok\n    eof\n"),
    _chunks("b-bare", "BDAT 13 LAST\\r\\na\\nb\\rc\\r\\r\\nend\\r\\n", a=_PLAIN_BE),
    _chunks("b-huge-size", "BDAT 99999999999999999999 LAST\\r\\n"),
    _chunks("b-negative", "BDAT -1 LAST\\r\\n"),
    _chunks("b-bad-last", "BDAT 3 FOO\\r\\nabc"),
    _chunks("b-then-data", "BDAT 3\\r\\nabc", "DATA\\r\\n"),
    _chunks("b-then-rset", "BDAT 3\\r\\nabc", "RSET\\r\\n", a=GREET + RCPT + "    eof"),
    _chunks("b-then-rcpt", "BDAT 3\\r\\nabc", "RCPT TO:<$u>\\r\\n", a=GREET + RCPT + "    < ^RCPT\n    > 250 2.1.5 OK\n    eof\n", log=False,
            differs="LMTP RCPT behind BDAT", substitute=(("Added 3 octets\nC: RCPT TO:<b-then-rcpt>\nS: 250 2.1.5 OK",
                                                          "Added 3 octets\nC: RCPT TO:<b-then-rcpt>\nS: 503 5.5.0 Bad sequence of commands"),
                                                         ("P: RCPT TO:<b-then-rcpt>\nB: 250 2.1.5 OK\nP: QUIT\n<EOF>",
                                                          "P: QUIT\n<EOF> while waiting for '^RCPT'"))),
    _chunks("b-then-noop", "BDAT 3\\r\\nabc", "NOOP\\r\\n", "BDAT 7 LAST\\r\\n\\r\\nend\\r\\n"),
    _chunks("b-after-last", "BDAT 5 LAST\\r\\nend\\r\\n", "BDAT 3 LAST\\r\\nabc"),
    Scenario("b-no-mail", "    < ^220\n    >> BDAT 3 LAST\\r\\nabc\n    < ^[245]\n    >> BDAT 3\\r\\nabc\n    < ^[245]\n" + QUIT),
    Scenario("b-no-rcpt", START + "    >> BDAT 3\\r\\nabc\n    < ^[245]\n    >> BDAT 3 LAST\\r\\nabc\n    < ^[245]\n" + QUIT),
    Scenario("b-eof", START + TO + "    >> BDAT 30 LAST\\r\\nabc\n    close\n", GREET + RCPT + "    eof"),
    Scenario("d-no-rcpt", START + "    > DATA\n    < ^[2345]\n" + QUIT),
    Scenario("d-refused-rcpt", START + "    > RCPT TO:<nobody>\n    < ^5\n    > DATA\n    < ^[2345]\n" + QUIT),
    Scenario("big", START + TO + """
    > DATA
    < ^354
    >> a: b\\r\\n\\r\\n${0123456789012345678901234567890123456789012345678901234567890123456789\\r\\n*5000}end\\r\\n.\\r\\n
    < ^[245]
""" + QUIT, _PLAIN_BE),
))

GROUPS: tuple[Group, ...] = (MESSAGE,)
