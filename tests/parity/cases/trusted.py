"""A peer inside login_trusted_networks may tell with ID whom it speaks for; nobody else may."""
from __future__ import annotations

from ..scenario import LOGIN, NOOP, Group, Scenario

_TRUSTED = "connect from 127.0.0.5\n< ^\\* OK\n"
_LOGIN = "> a LOGIN $u pw\n< ^a\n"
_FULL = ('"x-session-id" "SESS/abc+1" "x-originating-ip" "10.11.12.13" "x-originating-port" "4321" '
         '"x-connected-ip" "10.0.0.1" "x-connected-port" "999" "x-proxy-ttl" "%s" "x-forward-foo" "bar"')


def _id(name: str, *ids: str, extra: str = "", then: str = _LOGIN + NOOP, differs: str = "",
        substitute: tuple[tuple[str, str], ...] = ()) -> Scenario:
    """The trusted peer sends these ID commands, then logs in."""
    steps = "".join(f"> i ID {parameters}\n< ^i\n" for parameters in ids)
    return Scenario(name, _TRUSTED + steps + then, extra=extra, differs=differs, substitute=substitute)


_REFUSED = _LOGIN + "> n NOOP\n< ^n\nclose"

GROUP = Group("trusted", (
    _id("trusted-full", f"({_FULL % 3} \"name\" \"Thunder\")"),
    _id("trusted-no-id"),
    _id("trusted-upper-case", "(" + (_FULL % 3).upper() + ")"),
    _id("trusted-ttl-2", f"({_FULL % 2})"),
    _id("trusted-ttl-1", f"({_FULL % 1})", then=_REFUSED),
    _id("trusted-ttl-0", f"({_FULL % 0})", then=_REFUSED),
    _id("trusted-ttl-garbage", f"({_FULL % 'x'})"),
    _id("trusted-ttl-large", f"({_FULL % 1000})"),
    _id("trusted-ipv6", '("x-originating-ip" "2001:db8::1" "x-originating-port" "4321")'),
    _id("trusted-ip-garbage", '("x-originating-ip" "10.11.12.999" "x-originating-port" "4321")',
        differs="invalid forwarded address", substitute=(("10.11.12.5", "127.0.0.5"), ("in=219", "in=218"))),
    _id("trusted-port-garbage", '("x-originating-ip" "10.11.12.13" "x-originating-port" "99999")'),
    _id("trusted-port-zero", '("x-originating-ip" "10.11.12.13" "x-originating-port" "0")'),
    _id("trusted-ip-only", '("x-originating-ip" "10.11.12.13")'),
    _id("trusted-nil-values", '("x-originating-ip" NIL "x-session-id" NIL "x-forward-a" NIL)'),
    _id("trusted-session-64", '("x-session-id" "${s*64}")'),
    _id("trusted-session-65", '("x-session-id" "${s*65}")'),
    _id("trusted-session-ext", '("x-session-ext-id" "EXT/1")'),
    _id("trusted-session-bad", '("x-session-id" "a b<c>")'),
    _id("trusted-forward-several", '("x-forward-a" "1" "x-forward-b" "two words" "x-forward-c" "q\\\\"\\\\\\\\")'),
    _id("trusted-broken-id", '("x-forward-a" "1" "x-forward-b" "two words" "x-forward-c" "q)',
        differs="broken ID of a trusted peer",
        substitute=((' "x-forward-a" "1" "x-forward-b" "two words"', ""), ("in=262", "in=218"))),
    _id("trusted-forward-equals", '("x-forward-a" "x=y")'),
    _id("trusted-forward-empty", '("x-forward-a" "" "x-forward-" "x")'),
    _id("trusted-forward-overridden", '("x-forward-foo" "client" "x-forward-other" "1")', extra="forward_foo=passdb"),
    _id("trusted-second-id", f"({_FULL % 3})", '("x-originating-ip" "10.9.9.9")'),
    _id("trusted-nil-disables", "NIL", f"({_FULL % 3})"),
    _id("trusted-bad-id-then-good", "foo", f"({_FULL % 3})"),
    _id("trusted-passdb-variable", '("x-forward-dest" "somebody")', extra="destuser=%{passdb:forward_dest}"),
    _id("trusted-allow-nets", f"({_FULL % 3})", extra="allow_nets=10.11.12.0/24"),
    _id("trusted-allow-nets-refused", f"({_FULL % 3})", extra="allow_nets=127.0.0.0/8", then=_REFUSED),
    _id("trusted-real-nets", f"({_FULL % 3})", extra="allow_real_nets=127.0.0.5"),
    _id("trusted-not-trusted", f"({_FULL % 3})", extra="forward_x=y"),
    _id("trusted-wrong-password", f"({_FULL % 3})", then="> a LOGIN $u wrong\n< ^a\nclose"),
    _id("trusted-network", f"({_FULL % 3})", then=_LOGIN),
    Scenario("trusted-slash", "connect from 127.0.7.7\n< ^\\* OK\n> i ID (" + _FULL % 3 + ")\n< ^i\n" + _LOGIN),
    Scenario("untrusted-id", f"< ^\\* OK\n> i ID ({_FULL % 3})\n< ^i\n" + _LOGIN + NOOP),
    Scenario("untrusted-insecure", "connect from 127.0.0.6\n< ^\\* OK\n> i ID (" + _FULL % 3 + ")\n< ^i\n" + _LOGIN,
             backend=""),
    Scenario("trusted-starttls", _TRUSTED + "> s STARTTLS\n< ^s\ntls\n> i ID (" + _FULL % 3 + ")\n< ^i\n" + _LOGIN),
    Scenario("trusted-imaps", "connect tls from 127.0.0.5\n< ^\\* OK\n> i ID (" + _FULL % 3 + ")\n< ^i\n" + _LOGIN),
    Scenario("trusted-log-elements", LOGIN + NOOP),
), """
login_trusted_networks = 127.0.0.5, 127.0.7.0/24
login_log_format_elements = user=<%u> method=%m rip=%r lip=%l rport=%b lport=%a real_rip=%{real_rip} """
    """real_lip=%{real_lip} real_rport=%{real_rport} real_lport=%{real_lport} mpid=%e %c session=<%{session}> """
    """fwd=%{passdb:forward_foo} x=%{passdb:foo:none}
""")

GROUPS = (
    GROUP,
    Group("trusted-required", (
        Scenario("trusted-ssl-required", _TRUSTED + "> c CAPABILITY\n< ^c\n" + _LOGIN),
        Scenario("untrusted-ssl-required", "connect from 127.0.0.6\n< ^\\* OK\n> c CAPABILITY\n< ^c\n" + _LOGIN,
                 backend=""),
    ), "ssl = required\nlogin_trusted_networks = 127.0.0.5"),
)
