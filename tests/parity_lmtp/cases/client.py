"""The client's side: commands, their order, their arguments."""
# ruff: noqa: E501 - a line of a dialogue is not broken
from __future__ import annotations

from ..scenario import ACCEPT, DATA, GREET, QUIT, RCPT, START, TO, Group, Scenario


def _one(name: str, *lines: str) -> Scenario:
    """Lines of a client, one reply each."""
    steps = "".join(f"\n    > {line}\n    < ^[2345]\\d\\d " for line in lines)
    return Scenario(name, f"    < ^220{steps}\n    > QUIT\n    eof\n")


PLAIN = Group("client", (
    Scenario("simple"),
    _one("lhlo", "LHLO mx.test"),
    _one("lhlo-none", "LHLO"),
    _one("lhlo-bad", "LHLO foo bar", "LHLO a_b", "LHLO [127.0.0.1]", "LHLO [IPv6:::1]", "LHLO [x", "LHLO -", "lhlo x.y"),
    _one("ehlo", "EHLO mx.test", "HELO mx.test"),
    _one("noop", "NOOP", "NOOP arg", "NOOP a b", "RSET", "RSET x", "VRFY", "VRFY x", "HELP", "EXPN x", "AUTH PLAIN", "BURL x"),
    _one("noargs", "MAIL", "RCPT", "DATA", "BDAT", "XCLIENT", "STARTTLS x", "QUIT x"),
    _one("syntax", "", " NOOP", "NOOP ", "1234", "A-B", "MAIL  FROM:<a@b>", "MAIL FROM: <a@b>", "MAIL FROM:a@b",
         "MAIL FROM:<a@b", "MAIL FROM:<a@b> X"),
    _one("mail-paths", "MAIL FROM:<>", "RSET", "MAIL FROM:<@x,@y:a@b>", "RSET", "MAIL FROM:<\"a b\"@c>", "RSET",
         "MAIL FROM:<a>", "RSET", "MAIL FROM:<a@[127.0.0.1]>", "RSET", "MAIL FROM:<a@b.>", "RSET", "MAIL FROM:<a..b@c>",
         "RSET"),
    _one("mail-params", "MAIL FROM:<a@b> BODY=7BIT", "RSET", "MAIL FROM:<a@b> BODY=8bitmime", "RSET"),
    _one("mail-params-2", "MAIL FROM:<a@b> BODY=BINARYMIME", "MAIL FROM:<a@b> BODY=x", "MAIL FROM:<a@b> SIZE=10",
         "MAIL FROM:<a@b> SIZE=x", "MAIL FROM:<a@b> RET=FULL", "MAIL FROM:<a@b> FOO=bar", "MAIL FROM:<a@b> AUTH=<>"),
    _one("mail-params-3", "MAIL FROM:<a@b> ENVID=x", "MAIL FROM:<a@b> SMTPUTF8", "MAIL FROM:<a@b> =x"),
    _one("order", "RCPT TO:<x>", "DATA", "MAIL FROM:<a@b>", "MAIL FROM:<c@d>", "DATA"),
    _one("order-2", "MAIL FROM:<a@b>", "BDAT 0 LAST"),
    _one("rcpt-bad", "MAIL FROM:<a@b>", "RCPT TO:<>", "RCPT TO:", "RCPT <a>", "RCPT TO:a", "RCPT TO:<a> FOO=bar",
         "RCPT TO:<a> ORCPT=x", "RCPT TO:<a> NOTIFY=x", "RCPT TO:<a@b@c>", "RCPT TO:<@a>", "RCPT TO:<a b>"),
    _one("rcpt-none", "MAIL FROM:<a@b>", "RCPT TO:<nobody>", "RCPT TO:<nobody@dom>", "RCPT TO:<Nobody+det@dom>"),
    _one("bad-many", *["FOO"] * 12),
    _one("xclient-untrusted", "LHLO a", "XCLIENT ADDR=1.2.3.4"),
    Scenario("pipelined", """
        < ^220
        >> LHLO mx.test\\r\\nMAIL FROM:<s@test>\\r\\nRCPT TO:<$u>\\r\\nDATA\\r\\n
        < ^354
        >> Subject: hi\\r\\n\\r\\nend\\r\\n.\\r\\nQUIT\\r\\n
        eof
    """),
    Scenario("no-lhlo", """
        < ^220
        > MAIL FROM:<s@test>
        < ^250
    """ + TO + DATA + QUIT),
    Scenario("eof-first", "    < ^220\n    close\n"),
    Scenario("eof-mail", START + "    close\n"),
    Scenario("eof-data", START + TO + """
        > DATA
        < ^354
        >> Subject: hi\\r\\n\\r\\nen
        close
    """, a=GREET + RCPT + "    eof"),
    Scenario("rset-after-rcpt", START + TO + "    > RSET\n    < ^250\n    > MAIL FROM:<t@test>\n    < ^250\n" + TO + DATA + QUIT,
             a=GREET + RCPT + "    eof\n    ---\n" + ACCEPT),
    Scenario("quit-after-rcpt", START + TO + QUIT, a=GREET + RCPT + "    eof"),
    Scenario("two-messages", START + TO + DATA + "    > MAIL FROM:<t@test>\n    < ^250\n" + TO + DATA + QUIT,
             a=ACCEPT + "    eof\n    ---\n" + ACCEPT),
    Scenario("starttls", """
        < ^220
        > LHLO a
        < ^250\\x20
        > STARTTLS
        < ^220
        tls
        > LHLO mx.test
        < ^250\\x20
        > STARTTLS
        < ^5
        > MAIL FROM:<s@test>
        < ^250
    """ + TO + DATA + QUIT),
    Scenario("starttls-injection", """
        < ^220
        >> STARTTLS\\r\\nNOOP\\r\\n
        < ^220
        tls
        > LHLO mx.test
        < ^250\\x20
        > QUIT
        eof
    """, differs="LMTP clear text behind STARTTLS", expected_log="""
        Info: Connect from $address
        Info: Disconnect from $address: Connection closed: Plain text behind STARTTLS (state=READY)
    """),
    Scenario("bare-lf-commands", """
        < ^220
        >> LHLO mx.test\\nMAIL FROM:<s@test>\\nRCPT TO:<$u>\\nDATA\\n
        < ^354
        >> Subject: hi\\r\\n\\r\\nend\\r\\n.\\r\\n
        < ^2
    """ + QUIT),
    Scenario("nul-command", "    < ^220\n    >> NO\\0OP\\r\\n\n    < ^[245]\n" + QUIT),
    Scenario("eightbit-command", "    < ^220\n    >> MAIL FROM:<\\xc3\\xa4@b>\\r\\n\n    < ^[245]\n    >> NOOP \\xc3\\xa4\\r\\n\n    < ^[245]\n" + QUIT),
    Scenario("long-command", "    < ^220\n    >> NOOP ${x*9000}\\r\\n\n    < ^[245]\n" + QUIT),
    Scenario("long-command-2", "    < ^220\n    >> NOOP ${x*600}\\r\\n\n    < ^[245]\n" + QUIT),
    Scenario("long-command-3", "    < ^220\n    >> NOOP ${x*4000}\\r\\n\n    < ^[245]\n" + QUIT),
))

GROUPS = (PLAIN,)
