"""Anything may come from a client or a backend: the machines answer an event, ask for more, or end; never an exception,
never more memory than their limits, and nothing of the input where it could be taken for ours."""
from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from mailproxy.proto import spec
from mailproxy.proto.commands import CLOSED, SASL_MAX
from mailproxy.proto.imap.backend import FORWARD_MAX, ImapBackend
from mailproxy.proto.imap.wire import LINE_MAX as COMMAND_MAX
from mailproxy.proto.lines import LINE_MAX
from mailproxy.proto.spec import FAILED, MORE, READY, REFUSED, START_TLS
from tests.fuzz import examples
from tests.unit.proto.drive import BACKEND_INPUT, CLIENT_INPUT, converse, frontend, order

CHUNKS = st.lists(CLIENT_INPUT | st.binary(max_size=50), max_size=8)

IDENTITY = (("session", "S\"\\"), ("rip", "10.1.1.1"), ("rport", "1"), ("lip", "::1"), ("lport", "143"), ("ttl", "4"),
            ("forward_a", "x\"y"))


@given(CHUNKS, st.booleans(), st.booleans(), st.booleans(), st.sampled_from([spec.AUTH_FAILED, spec.TEMP_FAIL,
                                                                           spec.PLAINTEXT_DISABLED, spec.TLS_REQUIRED]))
@examples(300)
def test_frontend(chunks: list[bytes], tls: bool, needs_tls: bool, minus: bool, answer: int) -> None:
    machine = frontend(tls=tls, needs_tls=needs_tls, imap_literal_minus=minus, imap_id_retain=True)
    for chunk in chunks:
        _, out = converse(machine, [chunk], answer=answer)
        assert out == b"" or out.endswith(b"\r\n")
        assert b"\0" not in out
        assert all(byte >= 32 or byte in b"\r\n" for byte in out)
        for line in out.split(b"\r\n"):
            assert b"\n" not in line
        if machine.state == CLOSED:
            break
        assert len(machine.leftover()) <= max(COMMAND_MAX, SASL_MAX) + len(chunk) + 2048
        assert not set(machine.client_id) & set(b"\r\n\0")


@given(st.lists(BACKEND_INPUT | st.binary(max_size=50), max_size=8), st.sampled_from(["", "PLAIN", "LOGIN", "XOAUTH2",
                                                                                      "OAUTHBEARER"]),
       st.booleans(), st.booleans(), st.booleans())
@examples(300)
def test_backend(chunks: list[bytes], mechanism: str, starttls: bool, pipelining: bool, listed: bool) -> None:
    options: dict[str, Any] = {"starttls": starttls, "pipelining": pipelining, "client_listed": listed,
                               "identity": IDENTITY}
    machine = ImapBackend(order(mechanism, **options))
    secure = not starttls
    for chunk in chunks:
        result = machine.feed(chunk)
        out = machine.take_output()
        assert secure or b"sesame" not in out
        assert machine.describe().count("/") == 1
        assert len(machine.forward) <= FORWARD_MAX + LINE_MAX
        machine.forward = b""
        if result == START_TLS:
            secure = True
            if machine.tls_started() != MORE:
                return
        elif result == READY:
            assert secure, "let in before TLS"
            said = machine.success(b"a", listed)
            assert said.endswith(b"\r\n")
            machine.leftover()
            return
        elif result in (REFUSED, FAILED):
            assert b"\n" not in machine.reply
            assert "\n" not in machine.reason
            return
        else:
            assert result == MORE
            assert len(machine.leftover()) <= LINE_MAX + 1
