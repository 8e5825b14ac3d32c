"""Clear text passwords without TLS: clients from another address, so that the connection is not "secured"."""
from __future__ import annotations

from ..scenario import LOGIN, NOOP, Group, Scenario

_FAR = "connect from 127.0.0.5"
_STARTTLS = _FAR + r"""
    < ^\* OK
    > s STARTTLS
    < ^s
    tls
"""
_AUTH = r"""
    > c CAPABILITY
    < ^c
    > a LOGIN $u pw
    < ^a
    > b AUTHENTICATE PLAIN $b64(\0$u\0pw)
    < ^b
    > d AUTHENTICATE PLAIN
    < ^d
    > e AUTHENTICATE FOO
    < ^e
    quiet 0.1
"""


def _refused(prefix: str) -> tuple[Scenario, ...]:
    return (
        Scenario(f"{prefix}-refused", _FAR + "\n< ^\\* OK\n" + _AUTH, backend=""),
        Scenario(f"{prefix}-login-often", _FAR + r"""
            < ^\* OK
            > a LOGIN $u pw
            < ^a
            > b LOGIN $u pw
            < ^b
            > c LOGIN $u pw
            < ^c
            > d LOGIN $u pw
            < ^d
            close
        """, backend=""),
        Scenario(f"{prefix}-login-literal", _FAR + r"""
            < ^\* OK
            > a LOGIN $u {2}
            < .
            > pw
            < ^a
        """, backend=""),
        Scenario(f"{prefix}-starttls", _STARTTLS + "> c CAPABILITY\n< ^c\n> a LOGIN $u pw\n< ^a" + NOOP),
        Scenario(f"{prefix}-starttls-noauth", _STARTTLS + "> c LOGOUT\neof", backend=""),
        Scenario(f"{prefix}-imaps", f"{_FAR} tls" + LOGIN + NOOP),
        Scenario(f"{prefix}-same-address", LOGIN + NOOP),
        Scenario(f"{prefix}-noauth", _FAR + "\n< ^\\* OK\nclose", backend=""),
    )


GROUPS = (
    Group("insecure", _refused("insecure")),
    Group("required", _refused("required"), "ssl = required"),
    Group("allowed", (
        Scenario("allowed-login", _FAR + LOGIN + NOOP),
        Scenario("allowed-capability", _FAR + "\n< ^\\* OK\n> c CAPABILITY\n< ^c", backend=""),
        Scenario("allowed-auth", _FAR + "\n< ^\\* OK\n> a AUTHENTICATE PLAIN $b64(\\0$u\\0pw)\n< ^a" + NOOP),
        Scenario("allowed-starttls", _STARTTLS + "> c CAPABILITY\n< ^c\n> a LOGIN $u pw\n< ^a" + NOOP),
    ), "disable_plaintext_auth = no"),
    Group("nossl", (
        Scenario("nossl-starttls", "< ^\\* OK\n> c CAPABILITY\n< ^c\n> a STARTTLS\n< ^a\n> n NOOP\n< ^n", backend=""),
        Scenario("nossl-refused", _FAR + "\n< ^\\* OK\n" + _AUTH, backend=""),
        Scenario("nossl-same-address", LOGIN + NOOP),
        Scenario("nossl-imaps", "connect imaps\nquiet 0.1", backend="", log=False),
    ), "ssl = no"),
)
