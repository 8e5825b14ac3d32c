"""The dialogue with an IMAP backend until it says yes or no."""
from __future__ import annotations

import base64
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mailproxy.proto import spec
from mailproxy.proto.imap.backend import FORWARD_MAX, ImapBackend
from mailproxy.proto.lines import LINE_MAX
from mailproxy.proto.spec import FAILED, MORE, READY, REFUSED, START_TLS
from mailproxy.secret import Secret
from tests.fuzz import examples
from tests.unit.proto.drive import BACKEND_INPUT, cut, dialogue, order, singly

BANNER = b"* OK [CAPABILITY IMAP4rev1 ID SASL-IR LITERAL+] ready\r\n"
LOGIN = b'L LOGIN "alice" "sesame"\r\n'

IDENTITY = (("session", "S"), ("rip", "10.1.1.1"), ("rport", "4321"), ("lip", "10.0.0.1"), ("lport", "143"),
            ("ttl", "4"))
ID = (b'I ID ("x-session-id" "S" "x-originating-ip" "10.1.1.1" "x-originating-port" "4321" "x-connected-ip" "10.0.0.1" '
      b'"x-connected-port" "143" "x-proxy-ttl" "4")\r\n')



def run(data: bytes, **options: Any) -> tuple[int, bytes, bytes, str, bytes, bytes]:
    """The same for whole input and single bytes."""
    whole = dialogue(ImapBackend(order(**options)), [data])
    assert dialogue(ImapBackend(order(**options)), singly(data)) == whole
    return whole


def test_login() -> None:
    result, out, forward, _, _, rest = run(BANNER + b"* OK [ALERT] noon\r\n"
                                           b"L OK [CAPABILITY X] in\r\n* 1 EXISTS\r\nmore")
    assert (result, out, forward, rest) == (READY, LOGIN, b"* OK [ALERT] noon\r\n", b"* 1 EXISTS\r\nmore")


def test_nothing_is_said_before_the_banner() -> None:
    machine = ImapBackend(order())
    assert machine.feed(b"") == MORE
    assert machine.take_output() == b""


def test_capability_is_asked_for_when_unknown() -> None:
    assert run(b"* OK ready\r\nC OK\r\nL OK in\r\n")[:2] == (READY, b"C CAPABILITY\r\n" + LOGIN)


def test_one_command_at_a_time() -> None:
    machine = ImapBackend(order(pipelining=False, identity=IDENTITY))
    machine.feed(b"* OK [CAPABILITY IMAP4rev1 ID] ready\r\n")
    assert machine.take_output() == ID
    machine.feed(b"* ID NIL\r\nI OK\r\n")
    assert machine.take_output() == LOGIN
    assert machine.feed(b"L OK in\r\n") == READY


@pytest.mark.parametrize(("capability", "expected"), [
    (b"IMAP4rev1 LITERAL+", b"L LOGIN {2+}\r\n\xc3\xa4 {4+}\r\na\r\nb\r\n"), (b"IMAP4rev1", b"L LOGIN {2}\r\n")])
def test_strings_that_cannot_be_quoted(capability: bytes, expected: bytes) -> None:
    machine = ImapBackend(order(user="ä", password=Secret("a\r\nb")))
    machine.feed(b"* OK [CAPABILITY " + capability + b"] ready\r\n")
    assert machine.take_output() == expected
    if not expected.endswith(b"b\r\n"):
        machine.feed(b"+ go\r\n")
        assert machine.take_output() == b"\xc3\xa4 {4}\r\n"
        machine.feed(b"+ go\r\n")
        assert machine.take_output() == b"a\r\nb\r\n"
        machine.feed(b"+ go\r\n")
        assert machine.take_output() == b""


def test_literals_wait_for_their_command() -> None:
    machine = ImapBackend(order(user="ä", pipelining=False, identity=IDENTITY))
    machine.feed(b"* OK [CAPABILITY IMAP4rev1 ID] ready\r\n")
    machine.take_output()
    machine.feed(b"+ go\r\n")
    assert machine.take_output() == b""
    machine.feed(b"I OK\r\n")
    assert machine.take_output() == b"L LOGIN {2}\r\n"


@given(st.text(max_size=12), st.text(max_size=12))
@examples(150)
def test_no_name_or_password_breaks_out_of_its_command(user: str, password: str) -> None:
    user, password = (text.encode("utf-8", "replace").decode() for text in (user, password))
    machine = ImapBackend(order(user=user, password=Secret(password)))
    machine.feed(BANNER)
    out = machine.take_output()
    from mailproxy.proto.imap.wire import Arguments
    args = Arguments()
    assert args.read(out, len(b"L LOGIN")) == (True, len(out))
    assert [value for _, value in args.items] == [user.encode(), password.encode()]


@given(st.dictionaries(st.text(max_size=5), st.text(max_size=8), max_size=4))
@examples(100)
def test_no_forwarded_variable_breaks_out_of_the_id(values: dict[str, str]) -> None:
    identity = tuple((f"forward_{key}", value) for key, value in values.items()
                     if key.isascii() and key.isprintable())
    machine = ImapBackend(order(identity=(("session", "s\"x\\"), *IDENTITY[1:], *identity)))
    machine.feed(BANNER)
    out = machine.take_output()
    from mailproxy.proto.imap.wire import Arguments
    args = Arguments()
    done, end = args.read(out, len(b"I ID"))
    assert done
    assert out[end:].startswith(b"L LOGIN")
    assert len(args.items[0][1]) == 2 * (len(IDENTITY) + len(identity))


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
def test_sasl(mechanism: str) -> None:
    machine = ImapBackend(order(mechanism))
    machine.feed(b"* OK [CAPABILITY IMAP4rev1] ready\r\n")
    assert machine.take_output() == b"L AUTHENTICATE " + mechanism.encode() + b"\r\n"
    said = []
    for challenge in (b"", b"") if mechanism == "LOGIN" else (b"",):
        machine.feed(b"+ " + base64.b64encode(challenge) + b"\r\n")
        said.append(base64.b64decode(machine.take_output()))
    assert said == ([b"alice", b"sesame"] if mechanism == "LOGIN" else [b"\0alice\0sesame"])
    assert machine.feed(b"L OK in\r\n") == READY


def test_sasl_with_initial_response() -> None:
    machine = ImapBackend(order("PLAIN"))
    machine.feed(BANNER)
    assert machine.take_output() == b"L AUTHENTICATE PLAIN " + base64.b64encode(b"\0alice\0sesame") + b"\r\n"


@pytest.mark.parametrize("challenge", [b"+ !!!!\r\n", b"+ YQ\r\n"])
def test_sasl_challenge_that_is_no_base64(challenge: bytes) -> None:
    machine = ImapBackend(order("LOGIN"))
    machine.feed(b"* OK [CAPABILITY IMAP4rev1] ready\r\n")
    assert machine.feed(challenge) == FAILED
    assert machine.failure == spec.PROTOCOL


def test_starttls_first_and_capabilities_before_it_count() -> None:
    machine = ImapBackend(order(starttls=True, identity=IDENTITY))
    machine.feed(b"* OK [CAPABILITY IMAP4rev1 STARTTLS ID] ready\r\n")
    assert machine.take_output() == b"S STARTTLS\r\n"
    assert machine.feed(b"S OK go\r\n") == START_TLS
    assert machine.take_output() == b""
    assert machine.tls_started() == MORE
    assert machine.take_output().endswith(LOGIN)


def test_plaintext_behind_starttls() -> None:
    machine = ImapBackend(order(starttls=True))
    machine.feed(b"* OK [CAPABILITY IMAP4rev1 STARTTLS] ready\r\n")
    machine.take_output()
    assert machine.feed(b"S OK go\r\nL OK injected\r\n") == START_TLS
    assert machine.tls_started() == FAILED
    assert machine.take_output() == b""


def test_nobody_is_let_in_before_tls() -> None:
    """A backend (or whoever stands in between) that answers a login which was never sent."""
    for answer in (b"L OK in\r\n", b"L NO [LIMIT] x\r\n"):
        machine = ImapBackend(order(starttls=True))
        assert machine.feed(b"* OK [CAPABILITY IMAP4rev1 STARTTLS] ready\r\n" + answer) == MORE
        assert machine.feed(b"S OK go\r\n") == START_TLS
        assert machine.tls_started() == MORE


@pytest.mark.parametrize("options", [{}, {"implicit_tls": True}, {"starttls": True}])
def test_tls_begins_once_and_only_if_it_was_asked_for(options: dict[str, Any]) -> None:
    machine = ImapBackend(order(**options))
    machine.feed(b"* OK [CAPABILITY IMAP4rev1 STARTTLS] ready\r\n")
    if options.get("starttls"):
        assert machine.feed(b"S OK go\r\n") == START_TLS
        machine.tls_started()
    assert machine.feed(b"S OK go\r\nS OK again\r\n") == MORE
    assert machine.feed(b"S NO\r\n") == MORE
    assert machine.feed(b"L OK in\r\n") == READY


@pytest.mark.parametrize("data", [b"* OK [CAPABILITY IMAP4rev1] no TLS here\r\n",
                                  b"* OK [CAPABILITY IMAP4rev1 STARTTLS] ready\r\nS NO not today\r\n"])
def test_no_tls_no_password(data: bytes) -> None:
    result, out, *_ = run(data, starttls=True)
    assert result == FAILED
    assert b"sesame" not in out


def test_login_disabled() -> None:
    result, out, *_ = run(b"* OK [CAPABILITY IMAP4rev1 LOGINDISABLED] ready\r\n")
    assert result == FAILED
    assert b"sesame" not in out


@pytest.mark.parametrize(("answer", "reply", "temporary"), [
    (b"L NO [AUTHENTICATIONFAILED] x\r\n", b"", False), (b"L NO x\r\n", b"", False), (b"L BAD x\r\n", b"", False),
    (b"L NO [LIMIT] x\r\n", b"NO [LIMIT] x", False), (b"L NO [UNAVAILABLE] x\r\n", b"NO [UNAVAILABLE] x", True),
])
def test_refusals(answer: bytes, reply: bytes, temporary: bool) -> None:
    machine = ImapBackend(order())
    machine.feed(BANNER)
    assert machine.feed(answer) == REFUSED
    assert (machine.reply, machine.temporary) == (reply, temporary)


@pytest.mark.parametrize("banner", [b"HTTP/1.0 400\r\n", b"* BYE\r\n", b"* PREAUTH hi\r\n", b"\r\n", b"+OK pop\r\n",
                                    b"* OKAY\r\n"])
def test_wrong_banners(banner: bytes) -> None:
    machine = ImapBackend(order())
    assert machine.feed(banner) == FAILED
    assert machine.failure == spec.PROTOCOL


def test_lines_and_chatter_are_bounded() -> None:
    for size in (1, 4096, 1 << 16):
        machine = ImapBackend(order())
        fed = 0
        while machine.feed(b"x" * size) == MORE:
            fed += size
            assert fed < 10_000
    machine = ImapBackend(order())
    machine.feed(BANNER)
    assert machine.feed(b"* OK chatter\r\n" * (FORWARD_MAX // 10)) == FAILED
    assert len(machine.forward) <= FORWARD_MAX


@pytest.mark.parametrize("listed", [True, False])
@pytest.mark.parametrize("ok", [b"L OK in\r\n", b"L OK [CAPABILITY IMAP4rev1 IDLE] in\r\n", b"L OK [ALERT] in\r\n"])
def test_welcome_is_whole_lines(listed: bool, ok: bytes) -> None:
    machine = ImapBackend(order(client_listed=listed))
    machine.feed(BANNER)
    assert machine.feed(ok) == READY
    said = machine.success(b"a", listed)
    lines = said.split(b"\r\n")
    assert lines[-1] == b""
    assert lines[-2].startswith(b"a OK ")
    assert b"CAPABILITY" in said
    assert lines[-2].endswith(b"in")


@given(BACKEND_INPUT, st.lists(st.integers(0, 1 << 20), max_size=8), st.sampled_from(["", "PLAIN", "LOGIN"]),
       st.booleans(), st.booleans())
@example(b"* OK ready\r\n* " + b"x" * (LINE_MAX - 2) + b"\r\nL OK in\r\n", [12 + LINE_MAX + 1], "", False, True)
@examples(300)
def test_cuts_make_no_difference(data: bytes, places: list[int], mechanism: str, starttls: bool,
                                 pipelining: bool) -> None:
    options: dict[str, Any] = {"mechanism": mechanism, "starttls": starttls, "pipelining": pipelining,
                               "identity": IDENTITY}
    whole = dialogue(ImapBackend(order(**options)), [data])
    assert dialogue(ImapBackend(order(**options)), cut(data, places)) == whole
