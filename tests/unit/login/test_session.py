"""A session from the banner to the relay, and out of every state, without sockets or a clock."""
from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path

import pytest

from mailproxy.login import client as clients
from mailproxy.login import session as states
from mailproxy.login.session import AUTH, BACKEND, CLOSED, COMMAND, GREET, HANDSHAKE, RELAY, RETRY, SASL
from mailproxy.login.setup import Setup
from tests.unit.login.world import BACKEND as BACKEND_IP
from tests.unit.login.world import BANNER, MECHANISMS, World, at, make_setup

LOGIN = b"a LOGIN alice sesame\r\n"
Make = Callable[..., World]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """make(settings) -> a new world; worlds of one text share their setup, as sessions of one worker do."""
    setups: dict[str, Setup] = {}

    def made(text: str = "", **ends: tuple[str, int]) -> World:
        if text not in setups:
            setups[text] = make_setup(tmp_path, text)
        return World(setups[text], **ends)
    return made


def refused(reply: bytes) -> str:
    """The response code of a tagged NO."""
    assert reply.startswith(b"a NO ["), reply
    assert reply.endswith(b"\r\n")
    assert reply.count(b"\n") == 1
    return reply[6:reply.index(b"]")].split()[0].decode()


# --- the ordinary way ---

def test_from_the_greeting_to_the_relay(make: Make) -> None:
    world = make()
    session = world.session
    session.begin()
    greeting = world.take()
    assert greeting.startswith(b"* OK [CAPABILITY IMAP4rev1 ")
    assert greeting.endswith(b"] hello\r\n")
    assert b"AUTH=PLAIN AUTH=LOGIN" in greeting
    assert b"EXTERNAL" not in greeting                      # private mechanisms are not offered
    assert session.state == COMMAND
    assert world.client(LOGIN + b"b SELECT INBOX\r\n") == b""
    assert session.state == AUTH
    number, mechanism, parameters, initial = world.request()
    assert (number, mechanism, initial) == (1, "PLAIN", base64.b64encode(b"\0alice\0sesame"))
    assert parameters.split("\t")[0] == "service=imap"
    assert {"lip=192.0.2.1", "rip=192.0.2.7", "lport=143", "rport=40000"} < set(parameters.split("\t"))
    assert "secured" not in parameters
    assert world.ok() == b""
    assert session.state == BACKEND
    assert world.connected == [(BACKEND_IP, 143, None)]
    assert world.to_backend == b""
    world.backend(BANNER)
    assert world.to_backend.endswith(b'L LOGIN "alice" "sesame"\r\n')
    assert world.to_backend.startswith(b"I ID (")
    assert world.backend(b"I OK\r\n") == b""
    world.backend(b"L OK [CAPABILITY IMAP4rev1 IDLE] Logged in\r\n* 1 EXISTS\r\n")
    assert session.state == RELAY
    assert world.handed is not None
    label, elements, to_backend, to_client = world.handed
    assert label == f"proxy(alice,{BACKEND_IP}:143): "
    assert "user=<alice>" in elements
    assert to_backend == b"b SELECT INBOX\r\n"
    assert to_client == b"a OK [CAPABILITY IMAP4rev1 IDLE] Logged in\r\n* 1 EXISTS\r\n"
    assert world.pending() == 0
    assert world.backend_open
    assert "Started proxying to" in world.log.text()
    known = world.setup.backends.get(BACKEND_IP, 143, world.time)
    assert known.connecting == 0


def test_secrets_stay_out_of_the_log(make: Make) -> None:
    world = at(make("auth_verbose = yes\n"), BACKEND)
    world.backend(BANNER)
    world.backend(b"L NO [AUTHENTICATIONFAILED] wrong\r\n")
    world.client(b"b LOGOUT\r\n")
    assert "sesame" not in world.log.text()
    assert base64.b64encode(b"\0alice\0sesame").decode() not in world.log.text()


def test_sasl_exchange(make: Make) -> None:
    world = make()
    world.session.begin()
    world.take()
    world.client(b"a AUTHENTICATE LOGIN\r\n")
    number, mechanism, _, initial = world.request()
    assert (mechanism, initial) == ("LOGIN", None)
    assert world.challenge(b"Username:") == b"+ " + base64.b64encode(b"Username:") + b"\r\n"
    assert world.session.state == SASL
    assert world.client(b"YWxpY2U=\r\n") == b""
    assert world.auth.answers == [(number, b"YWxpY2U=")]
    assert world.session.state == AUTH
    world.challenge(b"Password:")
    world.client(b"c2VzYW1l\r\n")
    world.ok()
    assert world.session.state == BACKEND


def test_sasl_pipelined_answers_wait_their_turn(make: Make) -> None:
    world = make()
    world.session.begin()
    world.client(b"a AUTHENTICATE LOGIN\r\nYWxpY2U=\r\nc2VzYW1l\r\nb NOOP\r\n")
    assert world.auth.answers == []
    world.challenge(b"Username:")
    assert len(world.auth.answers) == 1
    world.challenge(b"Password:")
    assert len(world.auth.answers) == 2
    world.ok()
    world.backend(BANNER)
    world.backend(b"L OK Logged in\r\n")
    assert world.handed is not None
    assert world.handed[2] == b"b NOOP\r\n"


def test_sasl_abort(make: Make) -> None:
    world = at(make(), SASL)
    world.take()
    reply = world.client(b"*\r\n")
    assert reply.startswith(b"a BAD ")
    assert world.auth.cancelled == [1]
    assert world.session.state == COMMAND
    assert world.client(b"b NOOP\r\n").startswith(b"b OK ")


@pytest.mark.parametrize("data", [b"!!!\r\n", b"=a=\r\n", b"a b\r\n", b"\x80\r\n", b"a\tb\r\n"])
def test_sasl_answer_that_is_no_base64_never_reaches_auth(make: Make, data: bytes) -> None:
    world = at(make(), SASL)
    world.take()
    reply = world.client(data)
    assert reply.startswith((b"a NO ", b"a BAD "))
    assert world.auth.answers == []
    assert world.auth.cancelled == [1]
    assert world.session.state == COMMAND


@pytest.mark.parametrize("initial", [b"!!!", b"a\tb", b"=x"])
def test_initial_response_that_is_no_base64_never_reaches_auth(make: Make, initial: bytes) -> None:
    world = at(make(), COMMAND)
    world.take()
    assert world.client(b"a AUTHENTICATE PLAIN " + initial + b"\r\n").startswith(b"a BAD ")
    assert world.auth.asked == {}


@pytest.mark.parametrize("mechanism", [b"NONSENSE", b"EXTERNAL", b"X\tresp=x", b"\x80"])
def test_unknown_mechanisms_never_reach_auth(make: Make, mechanism: bytes) -> None:
    world = at(make(), COMMAND)
    world.take()
    assert world.client(b"a AUTHENTICATE " + mechanism + b"\r\n").startswith((b"a NO ", b"a BAD "))
    assert world.auth.asked == {}
    assert world.session.state == COMMAND


# --- what auth may say ---

@pytest.mark.parametrize(("code", "expected"), [
    ("", "AUTHENTICATIONFAILED"), ("temp_fail", "UNAVAILABLE"), ("authz_fail", "AUTHORIZATIONFAILED"),
    ("pass_expired", "EXPIRED"), ("user_disabled", "AUTHENTICATIONFAILED"), ("something_new", "AUTHENTICATIONFAILED"),
])
def test_every_code_of_a_refusal(make: Make, code: str, expected: str) -> None:
    world = at(make(), AUTH)
    assert refused(world.fail(**({"code": code} if code else {}))) == expected
    assert world.session.state == COMMAND
    assert world.reading
    world.client(b"a LOGIN alice again\r\n")                # and once more
    assert refused(world.fail()) == "AUTHENTICATIONFAILED"


@pytest.mark.parametrize(("word", "expected"), [("temp", "UNAVAILABLE"), ("authz", "AUTHORIZATIONFAILED"),
                                                ("pass_expired", "EXPIRED")])
def test_codes_of_old_servers_are_bare_words(make: Make, word: str, expected: str) -> None:
    assert refused(at(make(), AUTH).fail(**{word: ""})) == expected


def test_reason_of_a_refusal_is_shown(make: Make) -> None:
    assert b"Come back tomorrow" in at(make(), AUTH).fail(reason="Come back tomorrow")


def test_invalid_base64_is_bad(make: Make) -> None:
    assert at(make(), AUTH).fail(code="invalid_base64").startswith(b"a BAD ")


def test_lost_auth_server_is_temporary(make: Make) -> None:
    world = at(make(), AUTH)
    world.auth.asked.clear()
    world.session.auth_lost()
    assert refused(world.take()) == "UNAVAILABLE"
    assert world.session.state == COMMAND


def test_no_login_with_referral(make: Make) -> None:
    world = at(make(), AUTH)
    world.auth.asked.clear()
    world.session.auth_ok({"user": "alice", "nologin": "", "host": "other.test", "reason": "Moved"})
    reply = world.take()
    assert refused(reply) == "REFERRAL"
    assert b"other.test" in reply
    assert b"Moved" in reply
    assert world.session.state == COMMAND


def test_no_login_without_host(make: Make) -> None:
    world = at(make(), AUTH)
    world.session.auth_ok({"user": "alice", "nologin": ""})
    assert world.take().startswith(b"a NO ")
    assert world.session.state == COMMAND


def test_user_who_is_not_proxied(make: Make) -> None:
    world = at(make("service imap {\n  executable = nosuch\n}\n"), AUTH)
    world.session.auth_ok({"user": "alice"})
    assert refused(world.take()) == "UNAVAILABLE"
    assert "not proxied" in world.log.text()


@pytest.mark.parametrize("fields", [
    {"host": ""}, {"host": "backend.test"}, {"port": "x"}, {"port": "0"}, {"port": "9" * 5000},
    {"proxy_mech": "NONSENSE"},
    {"proxy_timeout": "x"}, {"hostip": "x"}, {"proxy_timeout": "9" * 5000},
])
def test_fields_that_cannot_be_used(make: Make, fields: dict[str, str]) -> None:
    world = at(make(), AUTH)
    assert refused(world.ok(**fields)) == "UNAVAILABLE"
    assert world.connected == []
    assert world.session.state == COMMAND
    assert "error: " in world.log.text()
    assert "sesame" not in world.log.text()


def test_loop_to_itself_is_refused(make: Make) -> None:
    world = at(make(), AUTH)
    assert refused(world.ok(host="192.0.2.1")) == "UNAVAILABLE"
    assert "loops to itself" in world.log.text()


# --- security of the connection ---

def test_cleartext_login_is_refused_without_asking(make: Make) -> None:
    world = make("disable_plaintext_auth = yes\n")
    world.session.begin()
    assert b"LOGINDISABLED" in world.take()
    reply = world.client(LOGIN)
    assert b"a NO [PRIVACYREQUIRED]" in reply
    assert world.client(b"a AUTHENTICATE PLAIN AGEAYg==\r\n").startswith(b"a NO [PRIVACYREQUIRED]")
    assert world.auth.asked == {}


@pytest.mark.parametrize("text", ["", "login_trusted_networks = 192.0.2.0/24\n"])
def test_trusted_and_local_peers_are_secured(make: Make, text: str) -> None:
    world = make("disable_plaintext_auth = yes\n" + text, remote=("192.0.2.7" if text else "192.0.2.1", 9))
    world.session.begin()
    assert b"LOGINDISABLED" not in world.take()
    world.client(LOGIN)
    assert "\tsecured" in world.request()[2]
    assert ("no-penalty" in world.request()[2]) is bool(text)


# --- a proxy before us ---

TRUSTED = "login_trusted_networks = 192.0.2.7\n"


def test_identity_of_a_trusted_proxy_is_adopted_and_passed_on(make: Make) -> None:
    world = make(TRUSTED)
    world.session.begin()
    world.client(b'i ID ("x-session-id" "abc" "x-originating-ip" "203.0.113.5" "x-originating-port" "77" '
                 b'"x-connected-ip" "203.0.113.6" "x-connected-port" "993" "x-proxy-ttl" "3" '
                 b'"x-forward-color" "blue")\r\n')
    world.client(LOGIN)
    parameters = world.request()[2].split("\t")
    assert {"session=abc", "rip=203.0.113.5", "rport=77", "lip=203.0.113.6", "lport=993", "real_rip=192.0.2.7",
            "real_lip=192.0.2.1", "real_rport=40000", "real_lport=143"} < set(parameters)
    assert any(word.startswith("forward_fields=color") for word in parameters)
    world.ok()
    world.backend(BANNER)
    for part in (b'"x-session-id" "abc"', b'"x-originating-ip" "203.0.113.5"', b'"x-proxy-ttl" "2"'):
        assert part in world.to_backend


def test_identity_of_a_stranger_is_not_adopted(make: Make) -> None:
    world = make()
    world.session.begin()
    world.client(b'i ID ("x-originating-ip" "203.0.113.5" "x-proxy-ttl" "1" "x-forward-admin" "yes")\r\n')
    world.client(LOGIN)
    assert "rip=192.0.2.7" in world.request()[2].split("\t")
    assert "forward_fields" not in world.request()[2]
    world.ok()
    assert world.session.state == BACKEND


def test_only_the_first_identity_counts(make: Make) -> None:
    world = make(TRUSTED)
    world.session.begin()
    for ip in (b"203.0.113.5", b"203.0.113.6"):
        world.client(b'i ID ("x-originating-ip" "%b")\r\n' % ip)
    assert world.session.rip == "203.0.113.5"


@pytest.mark.parametrize("value", [b"x", b"-1", b"65536", b"9" * 900, b"1 ", b"", b"\xd9\xa1"])
def test_broken_numbers_of_a_trusted_proxy(make: Make, value: bytes) -> None:
    world = make(TRUSTED)
    world.session.begin()
    world.client(b'i ID ("x-originating-port" "%b" "x-connected-port" "%b")\r\n' % (value, value))
    world.client(b'i ID ("x-originating-port" {%d}\r\n' % len(value))
    assert world.session.state in (COMMAND, CLOSED)
    assert (world.session.rport, world.session.lport) == (40000, 143)


def test_number_longer_than_python_likes(make: Make) -> None:
    """int() refuses more than 4300 digits with an exception."""
    world = make(TRUSTED)
    world.session.begin()
    world.session.adopt({"ttl": "9" * 5000, "rport": "8" * 5000, "lport": "1" * 5000})
    assert (world.session.rport, world.session.lport) == (40000, 143)


@pytest.mark.parametrize(("ttl", "goes"), [(b"2", True), (b"1", False), (b"0", False)])
def test_ttl(make: Make, ttl: bytes, goes: bool) -> None:
    world = make(TRUSTED)
    world.session.begin()
    world.client(b'i ID ("x-proxy-ttl" "%b")\r\n' % ttl)
    world.client(LOGIN)
    reply = world.ok()
    if goes:
        assert world.session.state == BACKEND
    else:
        assert reply.startswith(b"a NO [")
        assert "TTL reached zero" in world.log.text()
        assert world.connected == []
        assert world.session.state == COMMAND


def test_forwarded_variables_are_bounded(make: Make) -> None:
    world = make(TRUSTED)
    world.session.begin()
    world.session.adopt({f"forward_{number}": "x" * 300 for number in range(100)})
    assert len(world.session.forward) <= clients.FORWARD_MAX
    assert sum(map(len, world.session.forward.values())) <= clients.FORWARD_SIZE


# --- the backend ---

def test_wrong_password_at_the_backend(make: Make) -> None:
    world = at(make(), BACKEND)
    world.backend(BANNER)
    assert refused(world.backend(b"L NO [AUTHENTICATIONFAILED] never shown\r\n")) == "AUTHENTICATIONFAILED"
    assert not world.backend_open
    assert world.session.state == COMMAND
    assert world.setup.backends.get(BACKEND_IP, 143, world.time).connecting == 0
    world.client(LOGIN)
    assert world.session.state == AUTH


def test_other_refusal_of_the_backend_is_passed_on(make: Make) -> None:
    world = at(make(), BACKEND)
    world.backend(BANNER)
    assert world.backend(b"L NO [LIMIT] Too many connections\r\n") == b"a NO [LIMIT] Too many connections\r\n"


def test_connection_refused_is_tried_again_once_a_second(make: Make) -> None:
    world = at(make("login_proxy_max_reconnects = 2\n"), BACKEND)
    for attempt in (2, 3):
        world.session.proxying.unreachable("Connection refused")
        assert world.session.state == RETRY
        assert not world.backend_open
        assert world.take() == b""
        world.wait(0.9)
        assert world.session.state == RETRY
        world.wait(0.2)
        assert world.session.state == BACKEND
        assert len(world.connected) == attempt
    world.session.proxying.unreachable("Connection refused")
    assert refused(world.take()) == "UNAVAILABLE"
    assert world.session.state == COMMAND
    assert "2 reconnects" in world.log.text()
    assert world.setup.backends.get(BACKEND_IP, 143, world.time).connecting == 0


def test_second_attempt_may_succeed(make: Make) -> None:
    world = at(make(), RETRY)
    world.wait(1)
    world.backend(BANNER)
    world.backend(b"L OK Logged in\r\n")
    assert world.session.state == RELAY
    assert "1 reconnects" in world.log.text()


def test_refusal_at_once(make: Make) -> None:
    world = make("login_proxy_max_reconnects = 0\n")
    world.refuse_connect = "Network is unreachable"
    at(world, AUTH)
    assert refused(world.ok()) == "UNAVAILABLE"
    assert f"connect({BACKEND_IP}, 143) failed: Network is unreachable" in world.log.text()
    assert world.session.state == COMMAND
    assert world.setup.backends.get(BACKEND_IP, 143, world.time).connecting == 0


def test_silent_backend_times_out(make: Make) -> None:
    world = at(make("login_proxy_timeout = 5s\n"), BACKEND)
    assert refused(world.wait(5.5)) == "UNAVAILABLE"
    assert "Connection timed out" in world.log.text()
    assert len(world.connected) == 1                        # its budget is spent
    assert world.session.state == COMMAND


def test_backend_that_hangs_in_the_dialogue_times_out(make: Make) -> None:
    world = at(make("login_proxy_timeout = 5s\n"), BACKEND)
    world.backend(BANNER)
    world.established = True
    assert refused(world.wait(5.5)) == "UNAVAILABLE"
    assert "Login timed out in state=" in world.log.text()


def test_own_timeout_of_a_user(make: Make) -> None:
    world = at(make(), AUTH)
    world.ok(proxy_timeout="3")
    world.wait(2.9)
    assert world.session.state == BACKEND
    world.wait(0.2)
    assert world.session.state == COMMAND


@pytest.mark.parametrize("data", [b"HTTP/1.1 400 Bad\r\n", b"* BYE go away\r\n", b"x" * 5000])
def test_backend_that_speaks_something_else(make: Make, data: bytes) -> None:
    world = at(make("login_proxy_max_reconnects = 0\n"), BACKEND)
    assert refused(world.backend(data)) == "UNAVAILABLE"
    assert "invalid input" in world.log.text()
    assert not world.backend_open
    assert world.session.state == COMMAND


def test_backend_that_goes_away(make: Make) -> None:
    world = at(make("login_proxy_max_reconnects = 0\n"), BACKEND)
    world.backend(BANNER)
    world.session.proxying.gone("")
    assert refused(world.take()) == "UNAVAILABLE"
    assert "Disconnected by server" in world.log.text()


def test_bad_certificate_is_not_tried_again(make: Make) -> None:
    world = at(make(), BACKEND)
    world.session.proxying.gone("Received invalid SSL certificate", final=True)
    assert refused(world.take()) == "UNAVAILABLE"
    assert world.session.state == COMMAND


def test_backend_that_is_down_fails_others_at_once(make: Make) -> None:
    first = at(make(), BACKEND)                             # it waits while the host does not answer
    known = first.setup.backends.get(BACKEND_IP, 143, first.time)
    known.failed, known.succeeded = first.time, first.time - 31
    second = at(make(), AUTH)
    assert refused(second.ok()) == "UNAVAILABLE"
    assert "Host is down" in second.log.text()
    assert second.connected == []
    third = at(make(), AUTH)
    third.ok(proxy_host_immediate_failure_after="1m")
    assert third.session.state == BACKEND                   # its own patience is longer
    third.session.close("over")
    first.session.close("over")
    fourth = at(make(), AUTH)
    fourth.ok()
    assert fourth.session.state == BACKEND                  # nobody waits: someone has to try


def test_starttls_with_the_backend(make: Make) -> None:
    world = at(make(), AUTH)
    world.ok(starttls="any-cert")
    world.backend(b"* OK [CAPABILITY IMAP4rev1 STARTTLS ID] ready\r\n")
    assert world.to_backend == b"S STARTTLS\r\n"            # nothing is said in clear
    assert world.backend_is_tls == 0
    world.backend(b"S OK go on\r\n")
    assert world.backend_is_tls == 1
    world.session.proxying.tls_ready()
    assert b'L LOGIN "alice" "sesame"\r\n' in world.to_backend


def test_plaintext_behind_the_backends_starttls_is_not_trusted(make: Make) -> None:
    world = at(make("login_proxy_max_reconnects = 0\n"), AUTH)
    world.ok(starttls="any-cert")
    world.backend(b"* OK [CAPABILITY IMAP4rev1 STARTTLS ID] ready\r\n")
    world.backend(b"S OK go on\r\nL OK you are in\r\n")
    if world.session.state == BACKEND:
        world.session.proxying.tls_ready()
    assert world.session.state == COMMAND
    assert b"sesame" not in world.to_backend


def test_chatter_before_the_answer_reaches_the_client(make: Make) -> None:
    world = at(make(), BACKEND)
    world.backend(BANNER)
    assert world.backend(b"* OK [ALERT] Maintenance at noon\r\n") == b"* OK [ALERT] Maintenance at noon\r\n"


def test_client_that_is_closed_by_the_chatter(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sending may end the session (a client that does not read): what follows in the same read must not revive it."""
    world = at(make(), BACKEND)
    world.backend(BANNER)
    monkeypatch.setattr(world, "send", lambda data: world.session.close("Client output buffer full"))
    for data in (b"* OK chatter\r\nL NO [LIMIT] x\r\n",):
        world.session.proxying.data(data)
    assert world.session.state == CLOSED
    assert world.closed
    assert world.handed is None
    assert world.pending() == 0


@pytest.mark.parametrize("rest", [b"L OK in\r\n", b"L NO out\r\n", b"x" * 9000, b"+ go\r\n", b""])
def test_client_that_is_closed_by_the_chatter_whatever_follows(make: Make, monkeypatch: pytest.MonkeyPatch,
                                                               rest: bytes) -> None:
    world = at(make(), BACKEND)
    world.backend(BANNER)
    monkeypatch.setattr(world, "send", lambda data: world.session.close("Client output buffer full"))
    world.session.proxying.data(b"* OK chatter\r\n" + rest)
    world.session.proxying.data(rest)
    assert world.session.state == CLOSED
    assert world.handed is None


# --- the client vanishes, time runs out ---

@pytest.mark.parametrize("state", [GREET, COMMAND, AUTH, SASL, BACKEND, RETRY])
def test_client_vanishes(make: Make, state: int) -> None:
    world = at(make(), state)
    world.session.client_gone()
    assert world.session.state == CLOSED
    assert world.closed
    assert world.pending() == 0
    assert not world.backend_open
    assert world.auth.asked == {}
    assert world.log.text().count("Disconnected") == 1
    assert world.setup.backends.get(BACKEND_IP, 143, world.time).connecting == 0
    world.session.client_gone()                             # saying it twice changes nothing
    assert world.log.text().count("Disconnected") == 1


@pytest.mark.parametrize("state", [GREET, COMMAND, AUTH, SASL, BACKEND])
def test_login_takes_too_long(make: Make, state: int) -> None:
    world = at(make("login_proxy_timeout = 10 min\n"), state)
    world.take()
    world.wait(states.LOGIN_TIMEOUT - 1)
    assert not world.closed
    assert b"* BYE " in world.wait(2)
    assert world.closed
    assert world.pending() == 0
    assert "Inactivity" in world.log.text()
    assert not world.backend_open


def test_silent_client_in_a_handshake_gets_no_farewell(make: Make) -> None:
    world = make()
    world.session.handshaking()
    assert world.session.state == HANDSHAKE
    assert world.wait(states.LOGIN_TIMEOUT + 1) == b""
    assert world.closed


def test_relay_is_none_of_the_sessions_business(make: Make) -> None:
    world = at(make(), RELAY)
    world.session.client_gone()
    world.session.close("x", "y")
    world.session.proxying.gone("z")
    world.wait(1000)
    assert not world.closed
    assert "Disconnected" not in world.log.text()


# --- before auth is known ---

def test_greeting_waits_for_auth(make: Make) -> None:
    world = at(make(), GREET)
    assert world.take() == b""
    assert world.wait(9) == b""
    assert world.wait(2).startswith(b"* OK Waiting")
    world.auth.mechanisms = MECHANISMS
    world.session.auth_ready()
    assert b"AUTH=PLAIN" in world.take()
    assert world.session.state == COMMAND
    world.session.auth_ready()                              # again, after auth was restarted
    assert world.take() == b""


def test_early_commands_are_kept_and_bounded(make: Make) -> None:
    world = at(make(), GREET)
    world.client(b"a CAPABILITY\r\n")
    world.auth.mechanisms = MECHANISMS
    world.session.auth_ready()
    assert b"a OK" in world.take()
    world = at(make(), GREET)
    world.client(b"x" * (states.EARLY_MAX - 1))
    assert world.reading
    world.client(b"x")
    assert not world.reading


# --- commands ---

def test_logout(make: Make) -> None:
    world = at(make(), COMMAND)
    world.take()
    assert world.client(b"a LOGOUT\r\nb NOOP\r\n") == b"* BYE Logging out\r\na OK Logout completed.\r\n"
    assert world.closed
    assert world.pending() == 0


def test_too_many_bad_commands_end_it(make: Make) -> None:
    world = at(make(), COMMAND)
    world.take()
    reply = world.client(b"a FOO\r\n" * 50)
    assert b"* BYE " in reply
    assert world.closed
    assert reply.count(b" BAD ") < 10


def test_farewell(make: Make) -> None:
    world = at(make(), COMMAND)
    world.take()
    world.session.close("Shutting down", "Shutting down")
    assert world.take().startswith(b"* BYE ")
    assert world.closed
