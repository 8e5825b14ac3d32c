"""The edges: one byte less and one more than each limit, odd spellings, ends of TLS streams, names and texts that logs
cannot show as they are."""
from __future__ import annotations

from ..scenario import GREET, LOGIN, NOOP, Group, Scenario

_GREETED = "< ^\\* OK\n"
_ANSWERED = "< .\nquiet 0.1"


def _only(name: str, steps: str) -> Scenario:
    return Scenario(name, steps, "")


def _sends(name: str, *lines: str, last: str = _ANSWERED) -> Scenario:
    """Each line gets a reply; what comes behind the last one is seen by `last`."""
    *answered, final = lines
    return _only(name, _GREETED + "".join(f"> {line}\n< .\n" for line in answered) + f"> {final}\n{last}")


def _refused(name: str, reply: str) -> Scenario:
    """The backend refuses the login with this line."""
    return Scenario(name, LOGIN + "> n NOOP\n< ^n\nclose", GREET + f"< ^L\n>> I OK\\r\\n{reply}\\r\\n")


def _banner(name: str, banner: str) -> Scenario:
    return Scenario(name, LOGIN + "> n NOOP\n< ^n\nclose", f">> {banner}\\r\\n\neof")


_LIMITS = (
    *(_sends(f"edge-initial-{size}", f"a AUTHENTICATE PLAIN ${{A*{size}}}", last=last)
      for size, last in ((8188, _ANSWERED), (8191, _ANSWERED), (8192, "eof"), (8300, "eof"))),
    *(_sends(f"edge-response-{size}", "a AUTHENTICATE PLAIN", f"${{A*{size}}}", last=last)
      for size, last in ((8188, _ANSWERED), (8191, _ANSWERED), (8192, "eof"), (8193, "eof"))),
    *(_sends(f"edge-command-{size}", f"a ${{M*{size}}}", last=last)
      for size, last in ((1025, _ANSWERED), (1026, "eof"))),
    *(_sends(f"edge-mechanism-{size}", f"a AUTHENTICATE ${{M*{size}}}", last=last)
      for size, last in ((64, _ANSWERED), (65, _ANSWERED), (200, _ANSWERED), (1026, "eof"))),
    *(_sends(f"edge-quoted-{size}", f'a FOO "${{M*{size}}}"', last=last)
      for size, last in ((1024, _ANSWERED), (1025, "eof"))),
    _sends("edge-line", "a FOO ${x x x x x x x x x x x x x x x *300}", "b NOOP"),
)
_SPELLINGS = (
    _sends("edge-nested", "a FOO ((((x))))", "b LOGIN ((a)) b", "c ID ((((x"),
    _sends("edge-auth-blanks", "a AUTHENTICATE  PLAIN AAAA", "b AUTHENTICATE PLAIN  AAAA"),
    _sends("edge-auth-blank-behind", "a AUTHENTICATE PLAIN\\x20"),
    _sends("edge-auth-quoted", 'a AUTHENTICATE "PLAIN" AAAA', 'b AUTHENTICATE PLAIN "AAAA"'),
    _sends("edge-auth-literal", "a AUTHENTICATE {5}", "PLAIN AAAA"),
    _sends("edge-auth-odd", "a AUTHENTICATE PL\\xffAIN", "b AUTHENTICATE PL\\\\AIN", 'c AUTHENTICATE PL"AIN'),
    _only("edge-error-in-literal", _GREETED + ">> a FOO {10+}\\r\\nx NOOP\\r\\nzz ))\\r\\nb NOOP\\r\\n\n< ^b\nclose"),
    _only("edge-error-behind-literal",
          _GREETED + ">> a LOGIN x {6+}\\r\\n1\\r\\n2\\r\\n (((((\\r\\nb NOOP\\r\\n\n< ^b\nclose"),
    _only("edge-open-list", _GREETED + ">> a FOO (x\\r\\nb NOOP\\r\\n\n< ^b\nclose"),
    _sends("edge-abort-second", "a LOGIN $u x", "b AUTHENTICATE PLAIN", "*", last="< ^b\nclose"),
    _sends("edge-abort-twice", "a AUTHENTICATE PLAIN", "*", "b AUTHENTICATE PLAIN", "*", last="< ^b\nclose"),
)
_ENDS = (
    Scenario("edge-tls-notify", "connect tls" + LOGIN + NOOP + "notify"),
    Scenario("edge-tls-no-notify", "connect tls" + LOGIN + NOOP + "close"),
    Scenario("edge-tls-server-ends", "connect tls" + LOGIN + "> z LOGOUT\neof"),
    _only("edge-tls-notify-before-login", "connect tls\n" + _GREETED + "notify"),
    _only("edge-tls-bad-commands", "connect tls\n" + _GREETED + "> a FOO\n< ^a\n> b FOO\n< ^b\n> c FOO\neof"),
    _only("edge-tls-garbage", _GREETED + "> a STARTTLS\n< ^a\n> hello\neof"),
    _only("edge-tls-injected", _GREETED + ">> a STARTTLS\\r\\nb NOOP\\r\\n\n< ^a\neof"),
    _only("edge-reset", _GREETED + "rst"),
    _only("edge-gone-while-authenticating", _GREETED + "> a LOGIN $u y\nclose"),
    _only("edge-tls-gone-while-authenticating", "connect tls\n" + _GREETED + "> a LOGIN $u y\nclose"),
)
_TEXTS = (
    _refused("edge-refused-long", "L NO [ALERT] ${x*300}"),
    _refused("edge-refused-empty", "L NO\\x20"),
    _refused("edge-refused-lower-case", "L no plain"),
    _refused("edge-refused-like-unavailable", "L NO [UNAVAILABLEX] foo"),
    _banner("edge-banner-long", "* BYE ${x*300}"),
    _banner("edge-banner-8bit", "* BYE \\xc3\\xa4 x\\x01\\xffy"),
    Scenario("edge-ignored-long", LOGIN + NOOP, GREET + "< ^L\n>> Z ${y*300}\\r\\nI OK\\r\\nL OK in\\r\\n\nserve"),
    Scenario("edge-ignored-8bit", LOGIN + NOOP,
             GREET + "< ^L\n>> Z \\xc3\\xa4\\xff\\x01.\\r\\nI OK\\r\\nL OK in\\r\\n\nserve"),
    _only("edge-user-long", _GREETED + "> a LOGIN ${q*100}$u pw\n< ^a\nclose"),
    _only("edge-user-8bit", _GREETED + ">> a LOGIN {17+}\\r\\nedge-user-8bit\\xff\\xc3\\xa4 pw\\r\\n\n< ^a\nclose"),
    Scenario("edge-refresh-unit", LOGIN + NOOP, extra="proxy_refresh=5s"),
    Scenario("edge-refresh-empty", LOGIN + NOOP, extra="proxy_refresh="),
)
_QUIETLY = (
    _only("edge-quiet-refused", "connect from 127.0.0.5\n" + _GREETED
          + "> a LOGIN $u pw\n< ^a\n> b AUTHENTICATE PLAIN\n< ^b\n> c AUTHENTICATE FOO\n< ^c\nclose"),
    _only("edge-quiet-base64", _GREETED + "> a AUTHENTICATE PLAIN\n< ^.\n> !!!\n< ^a\nclose"),
    _refused("edge-quiet-backend", "L NO [ALERT] x"),
)
_CERTIFICATE = "ssl_ca = <$dir/tls/ca.pem\nssl_verify_client_cert = yes\nssl_require_crl = no\n"
GROUPS = (
    Group("edges", (*_LIMITS, *_SPELLINGS, *_ENDS, *_TEXTS), "login_proxy_max_reconnects = 0\nauth_username_chars =\n"),
    Group("quiet", _QUIETLY, "auth_verbose = no"),
    Group("certificate-asked", (
        Scenario("edge-cert-none", "connect tls" + LOGIN + NOOP),
        Scenario("edge-cert-valid", "connect imaps\ntls client" + LOGIN + NOOP),
    ), _CERTIFICATE + "login_log_format_elements = user=<%u> method=%m rip=%r %c k=%k session=<%{session}>\n"),
    Group("certificate-name", (
        Scenario("client certificate", "connect imaps\ntls client\n< ^\\* OK\n> a LOGIN foo pw\n< ^a\nclose"),
        Scenario("edge-cert-no-name", "connect tls" + LOGIN + "close"),
    ), _CERTIFICATE + "auth_ssl_username_from_cert = yes\nauth_username_chars =\n"),
)
