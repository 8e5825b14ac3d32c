"""Client and server halves against each other, and malformed input."""
from __future__ import annotations

import pytest

from mailproxy import sasl
from mailproxy.errors import ProtocolError
from mailproxy.sasl import anonymous, external, login, plain
from mailproxy.sasl.mechanism import Answer, Challenge, ClientMechanism, Credentials, Refusal, ServerMechanism
from mailproxy.secret import Secret


def _talk(server: ServerMechanism, client: ClientMechanism) -> Answer:
    answer = server.respond(client.initial())
    for _ in range(5):
        if not isinstance(answer, Challenge):
            break
        answer = server.respond(client.respond(answer.data))
    return answer


@pytest.mark.parametrize("name", ["PLAIN", "plain", "LOGIN"])
def test_halves_understand_each_other(name: str) -> None:
    server = plain.Server() if name.upper() == "PLAIN" else login.Server()
    client = sasl.client(name, "jö", Secret("p\udcffw"), "")
    assert client is not None
    answer = _talk(server, client)
    assert isinstance(answer, Credentials)
    assert (answer.authcid, answer.password.reveal(), answer.authzid) == ("jö", "p\udcffw", "")


def test_plain_carries_an_authzid() -> None:
    answer = _talk(plain.Server(), plain.Client("admin", Secret("x"), "joe"))
    assert isinstance(answer, Credentials)
    assert (answer.authzid, answer.authcid) == ("joe", "admin")


@pytest.mark.parametrize("data", [b"", b"a\0b", b"a\0b\0c\0d"])
def test_plain_refuses_other_shapes(data: bytes) -> None:
    assert isinstance(plain.Server().respond(data), Refusal)


def test_login_refuses_nul() -> None:
    assert isinstance(login.Server().respond(b"a\0b"), Refusal)


def test_external_needs_a_name() -> None:
    assert isinstance(external.Server("").respond(b""), Refusal)
    answer = external.Server("joe").respond(b"ann")
    assert isinstance(answer, Credentials)
    assert (answer.authcid, answer.authzid) == ("joe", "ann")


def test_anonymous_takes_a_trace() -> None:
    answer = anonymous.Server().respond(b"me@x")
    assert isinstance(answer, Credentials)
    assert answer.authcid == "me@x"


def test_bearer_messages() -> None:
    token = Secret("tok")
    client = sasl.client("XOAUTH2", "joe", token)
    assert client is not None
    assert client.initial() == b"user=joe\x01auth=Bearer tok\x01\x01"
    assert client.respond(b'{"status":"401"}') == b""
    client = sasl.client("oauthbearer", "j,o=e", token, host="mx", port=143)
    assert client is not None
    assert client.initial() == b"n,a=j=2Co=3De,\x01host=mx\x01port=143\x01auth=Bearer tok\x01\x01"
    assert client.respond(b"{}") == b"\x01"


def test_clients_do_not_answer_for_ever() -> None:
    client = login.Client("u", Secret("p"))
    assert [client.respond(b"?"), client.respond(b"?")] == [b"u", b"p"]
    with pytest.raises(ProtocolError):
        client.respond(b"?")
    with pytest.raises(ProtocolError):
        plain.Client("u", Secret("p")).respond(b"what")
    assert sasl.client("NTLM", "u", Secret("p")) is None


def test_secrets_do_not_show() -> None:
    for thing in (plain.Client("u", Secret("geheim")), Credentials("u", "geheim").password):
        assert "geheim" not in repr(thing)
