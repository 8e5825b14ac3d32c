"""Passdb fields by protocols: each field that is not particular to one protocol, on all of them.

What the modules of the protocols show in detail is not repeated here.
"""
from __future__ import annotations

from dataclasses import dataclass

from ..scenario import ACCEPT, LOGIN, NOOP, Group, Scenario
from . import pop3, sieve, submission


@dataclass(frozen=True, slots=True)
class Protocol:
    """`enter` logs in; `inside` shows that it is relayed; `outside` that the client may go on; `accept` takes it."""

    name: str
    enter: str
    inside: str
    outside: str
    accept: str
    conf: str = ""
    with_sasl: str = ""     # as accept, when the user logs in with a SASL mechanism


PROTOCOLS = (
    Protocol("imap", LOGIN, NOOP, "> n NOOP\n< ^n\nclose", ACCEPT),
    Protocol("pop3", pop3._GREETED + pop3._LOGIN, pop3._IN, pop3._OUT, pop3._ACCEPT,
             with_sasl=pop3._AUTH_BACKEND),
    Protocol("sieve", sieve._GREETED + sieve._LOGIN, sieve._IN, sieve._OUT, sieve._ACCEPT,
             sieve._IMPLEMENTATION),
    Protocol("submission", submission._LOGIN, submission._NOOP, submission._NOOP + "close", submission._trusting(),
             submission._HOST),
)
_ON = "proxy=y host=127.0.0.1 port=$port"
#: name -> all fields of the user, who gets in
WORKS = {
    "user": f"{_ON} user=Renamed@example.com",
    "destuser-domain": f"{_ON} destuser=%n@example.org",
    "login-user": f"{_ON} login_user=other",
    "pass-empty": f"{_ON} pass=",
    "master-empty": f"{_ON} master=",
    "mech-plain": f"{_ON} proxy_mech=PLAIN",
    "hostip": "proxy=y host=backend.invalid hostip=127.0.0.1 port=$port",
    "host-name": "proxy=y host=localhost hostip=127.0.0.1 port=$port",
    "host-resolved": "proxy=y host=localhost port=$port",
    "source": f"{_ON} source_ip=127.0.0.9",
    "timeout-ms": f"{_ON} proxy_timeout=2500ms",
    "timeout-unit": f"{_ON} proxy_timeout=1m",
    "timeout-zero": f"{_ON} proxy_timeout=0",
    "proxy-no": "proxy=no host=127.0.0.1 port=$port",
    "maybe": "proxy_maybe=y host=127.0.0.1 port=$port",
    "maybe-always": "proxy_maybe=y proxy_always=y host=127.0.0.1 port=$port",
    "nologin-ignored": f"{_ON} nologin=y reason=Never",
    "reason-ignored": f"{_ON} reason=Never",
    "nodelay": f"{_ON} nodelay=y",
    "delay-past": f"{_ON} delay_until=1000000000",
    "delay-past-spread": f"{_ON} delay_until=1000000000+5",
    "allow-nets": f"{_ON} allow_nets=127.0.0.0/8",
    "allow-real-nets": f"{_ON} allow_real_nets=10.0.0.0/8,127.0.0.1",
    "refresh-bad": f"{_ON} proxy_refresh=zz",
    "down-after-bad": f"{_ON} proxy_host_immediate_failure_after=2",
    "down-after": f"{_ON} proxy_host_immediate_failure_after=2s",
    "user-alternative": f"{_ON} user_mail=somebody",
    "protocol": f"{_ON} protocol=smtp",
    "forward-case": f"{_ON} FORWARD_Foo=Bar",
    "forward-several": f"{_ON} forward_a=1 forward_b=two",
    "unknown": f"{_ON} foo=bar",
    "userdb": f"{_ON} userdb_home=/nowhere userdb_quota=1",
}
#: Those for whom the backend hears of a mechanism.
SASL = ("mech-plain", "login-user")
#: name -> all fields of the user, who does not
FAILS = {
    "allow-nets": f"{_ON} allow_nets=10.0.0.0/8",
    "allow-nets-bad": f"{_ON} allow_nets=foo",
    "allow-real-nets": f"{_ON} allow_real_nets=10.0.0.0/8",
    "fail": f"{_ON} fail=y",
    "user-empty": f"{_ON} user=",
    "delay-bad": f"{_ON} delay_until=abc",
    "delay-bad-spread": f"{_ON} delay_until=1000000000+x",
    "delay-far": f"{_ON} delay_until=9000000000",
    "maybe-elsewhere": "proxy_maybe=y host=127.0.0.2 port=$port",
    "nopassword": "nopassword=y nologin=y",
    "timeout": "proxy=y host=127.0.0.1 port=$dead proxy_timeout=1",
    "ssl-to-plain-port": "proxy=y host=127.0.0.1 port=$dead ssl=yes",
    "noauthenticate": f"{_ON} noauthenticate=y",
    "nologin": "nologin=y",
    "nologin-reason": "nologin=y reason=Closed",
    "nologin-alert": "nologin=y reason=[ALERT]hey",
    "referral": "nologin=y host=192.0.2.9",
    "referral-all": "nologin=y host=192.0.2.9 port=1234 destuser=foo@bar reason=Moved",
    "referral-name": "nologin=y host=other.test port=143",
}


def _group(protocol: Protocol) -> Group:
    name = protocol.name
    works = [Scenario(f"{name}-in-{case}", protocol.enter + protocol.inside,
                      protocol.with_sasl or protocol.accept if case in SASL else protocol.accept, fields)
             for case, fields in WORKS.items()]
    fails = [Scenario(f"{name}-out-{case}", protocol.enter + protocol.outside, "", fields)
             for case, fields in FAILS.items()]
    return Group(f"{name}-table", (*works, *fails), "login_proxy_max_reconnects = 0\n" + protocol.conf,
                 "service_count = 1\nprocess_limit = 200", protocol=name)


GROUPS = tuple(map(_group, PROTOCOLS))
