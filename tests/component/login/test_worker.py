"""A whole login worker: its clients, its auth server, its reports to the master, its end."""
from __future__ import annotations

import os
import signal
import socket
import time

import psutil
import pytest

from mailproxy.login.setup import Setup
from mailproxy.proto.imap.backend import ImapBackend
from mailproxy.proto.imap.dialect import Imap
from mailproxy.proto.imap.frontend import ImapFrontend, ImapSettings
from mailproxy.proto.spec import Order
from tests.component.auth.processes import dovecot
from tests.component.auth.scenario import Passdb, Scenario
from tests.component.login.conftest import Scene
from tests.component.login.place import HELLO, Auth, Client, soon

TEMPORARY = b"a NO [UNAVAILABLE] "


def silent(auth: Auth, connection: socket.socket, fields: list[str]) -> None:
    """An auth server that never answers."""


def login_in_the_end(client: Client) -> bytes:
    """The worker may still be connected to the server that was closed a moment ago: one failure is in order."""
    reply = client.login()
    return client.login() if reply.startswith(TEMPORARY) else reply


def test_login_relay_and_log(scene: Scene) -> None:
    place = scene.worker(client_limit=10)
    scene.auth()
    client = scene.greeted()
    assert client.login() == b"a OK [CAPABILITY IMAP4rev1 IDLE] in\r\n"
    client.send(b"echo\r\n")
    assert client.line() == b"echo\r\n"
    client.close()
    soon(lambda: "Disconnected by client" in place.log())
    assert "Started proxying to" in place.log()
    sent = len(scene.backend.logins[0]) + len(b"echo\r\n")
    assert f"in={sent}, " in place.log()
    assert "sesame" not in place.log()


def test_pipelined_commands_reach_the_backend(scene: Scene) -> None:
    scene.worker()
    scene.auth()
    client = scene.greeted()
    client.send(b"a LOGIN alice sesame\r\nb NOOP\r\n")
    assert client.line().startswith(b"a OK")
    assert client.line() == b"b NOOP\r\n"


def test_greeting_waits_for_the_auth_server(scene: Scene) -> None:
    scene.worker()
    client = scene.client()
    assert client.quiet(0.3)
    scene.auth()
    assert client.line().startswith(b"* OK [CAPABILITY")


# --- the auth server misbehaves ---

def test_auth_server_dies_with_requests_pending(scene: Scene) -> None:
    place = scene.worker()
    auth = scene.auth(silent)
    clients = [scene.greeted() for _ in range(3)]
    for client in clients:
        client.send(b"a LOGIN alice sesame\r\n")
    soon(lambda: len([line for line in auth.lines if line.startswith("AUTH")]) == 3)
    auth.close()
    for client in clients:
        assert client.line().startswith(TEMPORARY)          # never "wrong password"
    soon(lambda: "3 pending requests" in place.log())
    scene.auth()
    assert login_in_the_end(clients[0]).startswith(b"a OK")


def test_request_waits_while_the_auth_server_restarts(scene: Scene) -> None:
    scene.worker()
    auth = scene.auth()
    client = scene.greeted()
    auth.close()
    time.sleep(0.1)
    client.send(b"a LOGIN alice sesame\r\n")
    assert client.quiet(0.2)
    scene.auth()
    assert client.line().startswith(b"a OK")


@pytest.mark.parametrize("garbage", [
    "nonsense\n", "OK\n", "OK\tx\tuser=a\n", "FAIL\t-1\n", "WHAT\t{id}\n", "OK\t" + "9" * 5000 + "\n", "x" * 20000,
    "\0\n", "\n",
    "OK\t{id}x\tproxy\n",
])
def test_garbage_costs_the_connection_and_no_more(scene: Scene, garbage: str) -> None:
    place = scene.worker()

    def answer(auth: Auth, connection: socket.socket, fields: list[str]) -> None:
        connection.sendall(garbage.replace("{id}", fields[1]).encode())
    bad = scene.auth(answer)
    client = scene.greeted()
    assert client.login().startswith(TEMPORARY)
    soon(lambda: "Auth server" in place.log())
    bad.close()
    scene.auth()
    assert login_in_the_end(client).startswith(b"a OK")


def test_unknown_ids_and_repeated_answers_are_ignored(scene: Scene) -> None:
    scene.worker()

    def answer(auth: Auth, connection: socket.socket, fields: list[str]) -> None:
        number = int(fields[1])
        connection.sendall(f"OK\t{number + 1}\tuser=eve\tproxy\nFAIL\t999\tcode=temp_fail\nCONT\t77\tYQ==\n"
                           f"FAIL\t{number}\tuser=alice\nOK\t{number}\tuser=eve\tproxy\thost=127.0.0.1\tpass=x\n".encode())
    scene.auth(answer)
    client = scene.greeted()
    for _ in range(2):
        assert client.login().startswith(b"a NO [AUTHENTICATIONFAILED]")


@pytest.mark.parametrize("hello", ["VERSION\t2\t0\n", "garbage\n", "VERSION\t1\t2\nMECH\n", "x" * 20000, ""])
def test_wrong_handshake_greets_nobody(scene: Scene, hello: str) -> None:
    place = scene.worker()
    bad = scene.auth(hello=hello)
    client = scene.client()
    assert client.quiet(0.3)
    bad.close()
    scene.auth()
    assert client.line().startswith(b"* OK [CAPABILITY")
    assert "TRACEBACK" not in place.log()


def test_silent_auth_server_keeps_only_those_who_ask(scene: Scene) -> None:
    scene.worker()
    auth = scene.auth(silent)
    waiting, other = scene.greeted(), scene.greeted()
    waiting.send(b"a LOGIN alice sesame\r\nb NOOP\r\n")
    assert other.ask(b"a NOOP\r\n").startswith(b"a OK")
    assert waiting.quiet(0.1)
    number = next(line.split("\t")[1] for line in auth.lines if line.startswith("AUTH"))
    waiting.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    waiting.close()                                         # gone for good: nobody needs the answer
    soon(lambda: f"CANCEL\t{number}" in auth.lines)


def test_auth_server_in_pieces(scene: Scene) -> None:
    scene.worker()

    def answer(auth: Auth, connection: socket.socket, fields: list[str]) -> None:
        for char in f"OK\t{fields[1]}\tuser=alice\tproxy\thost=127.0.0.1\tport={scene.backend.port}\tpass=x\n":
            connection.sendall(char.encode())
            time.sleep(0.0005)
    scene.auth(answer, hello=HELLO)
    assert scene.greeted().login().startswith(b"a OK")


def test_flood_of_requests(scene: Scene) -> None:
    """Answers of many sessions come in one read, in another order."""
    scene.worker(client_limit=100)
    held: list[str] = []

    def answer(auth: Auth, connection: socket.socket, fields: list[str]) -> None:
        held.append(fields[1])
        if len(held) == 40:
            connection.sendall("".join(f"FAIL\t{number}\tuser=alice\n" for number in reversed(held)).encode())
    scene.auth(answer)
    clients = [scene.greeted() for _ in range(40)]
    for client in clients:
        client.send(b"a LOGIN alice sesame\r\n")
    for client in clients:
        assert client.line().startswith(b"a NO [AUTHENTICATIONFAILED]")


# --- a real Dovecot's auth process ---

def test_dovecots_auth_server(scene: Scene) -> None:
    scenario = Scenario([Passdb("passwd-file", args="@DIR@/users")],
                        files={"users": "alice:{PLAIN}sesame::::::proxy host=127.0.0.1 "
                                        f"port={scene.backend.port} pass=other\n"})
    scene.directory.joinpath("dovecot").mkdir(mode=0o755)
    with dovecot(scenario, scene.directory / "dovecot") as base:
        scene.directory = base
        place = scene.worker()
        client = scene.greeted()
        assert client.ask(b"a LOGIN alice wrong\r\n").startswith(b"a NO [AUTHENTICATIONFAILED]")
        client.send(b"a AUTHENTICATE LOGIN\r\n")
        assert client.line() == b"+ VXNlcm5hbWU6\r\n"
        client.send(b"YWxpY2U=\r\n")
        assert client.line() == b"+ UGFzc3dvcmQ6\r\n"
        client.send(b"c2VzYW1l\r\n")
        assert client.line().startswith(b"a OK")
        client.send(b"echo\r\n")
        assert client.line() == b"echo\r\n"
        assert scene.backend.logins == ['L LOGIN "alice" "other"\r\n']
        place.stop()
        del scene.place


# --- reports and limits ---

def test_reports_follow_the_clients(scene: Scene) -> None:
    place = scene.worker(client_limit=2)
    scene.auth()
    soon(lambda: place.free() == 2)
    one, two = scene.greeted(), scene.greeted()
    soon(lambda: place.free() == 0)
    one.close()
    soon(lambda: place.free() == 1)
    two.login()
    assert place.free() == 1                                # a proxied client still counts
    two.close()
    soon(lambda: place.free() == 2)


def test_client_beyond_the_limit_waits(scene: Scene) -> None:
    scene.worker(client_limit=1)
    scene.auth()
    one = scene.greeted()
    two = scene.client()
    assert two.quiet(0.2)
    one.close()
    assert two.line().startswith(b"* OK")


def test_service_count_ends_the_process(scene: Scene) -> None:
    place = scene.worker(client_limit=2, service_count=2)
    scene.auth()
    one = scene.greeted()
    two = scene.greeted()
    soon(lambda: place.free() == 0)
    assert one.login().startswith(b"a OK")
    three = scene.client()                                  # for another process
    two.close()
    time.sleep(0.1)
    assert not place.ended()
    one.send(b"still here\r\n")
    assert one.line() == b"still here\r\n"
    one.close()
    assert place.wait() == 0
    assert max(place.reports) == 2
    assert place.free() == 0
    three.close()


def test_one_client_one_process(scene: Scene) -> None:
    place = scene.worker(client_limit=1, service_count=1)
    scene.auth()
    client = scene.greeted()
    client.send(b"a LOGOUT\r\n")
    assert client.line().startswith(b"* BYE")
    assert place.wait() == 0
    assert place.free() == 0


# --- signals ---

def test_term_ends_everything_with_words(scene: Scene) -> None:
    place = scene.worker()
    scene.auth()
    waiting, proxied = scene.greeted(), scene.greeted()
    assert proxied.login().startswith(b"a OK")
    place.signal(signal.SIGTERM)
    assert waiting.line().startswith(b"* BYE")
    assert waiting.line() == b""
    assert proxied.line() == b""
    assert place.wait() == 0
    assert "Shutting down" in place.log()
    assert "Process shutting down" in place.log()


def test_term_in_the_middle_of_everything(scene: Scene) -> None:
    place = scene.worker()
    scene.auth(silent)
    for data in (b"", b"a LOG", b"a LOGIN alice sesame\r\n", b"a AUTHENTICATE LOGIN\r\n", b"a LOGIN {5}\r\n"):
        scene.greeted().send(data)
    time.sleep(0.1)
    place.signal(signal.SIGTERM)
    assert place.wait() == 0


def test_int_ends_only_an_idle_process(scene: Scene) -> None:
    place = scene.worker()
    scene.auth()
    client = scene.greeted()
    place.signal(signal.SIGINT)
    time.sleep(0.1)
    assert client.ask(b"a NOOP\r\n").startswith(b"a OK")
    client.close()
    soon(lambda: "Disconnected" in place.log())
    place.signal(signal.SIGINT)
    assert place.wait() == 0


@pytest.mark.parametrize("how", ["QUIT", "retire"])
def test_retired_process_finishes_what_it_has(scene: Scene, how: str) -> None:
    place = scene.worker(client_limit=10)
    scene.auth()
    waiting, proxied = scene.greeted(), scene.greeted()
    assert proxied.login().startswith(b"a OK")
    if how == "QUIT":
        place.signal(signal.SIGQUIT)
    else:
        place.retire()
    soon(lambda: place.free() == 0)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", place.port), 1)
    assert waiting.login().startswith(b"a OK")              # it may still log in
    for client in (waiting, proxied):
        client.send(b"echo\r\n")
        assert client.line() == b"echo\r\n"
    assert not place.ended()
    waiting.close()
    proxied.close()
    assert place.wait() == 0


def test_retired_process_that_is_told_to_cut(scene: Scene) -> None:
    place = scene.worker(cut_on_retire=True)
    scene.auth()
    proxied = scene.greeted()
    assert proxied.login().startswith(b"a OK")
    place.retire()
    assert proxied.line() == b""                            # at the latest after IDLE_CUT
    assert place.wait() == 0


def test_idle_process_retires_at_once(scene: Scene) -> None:
    place = scene.worker()
    soon(lambda: place.free() > 0)
    place.retire()
    assert place.wait() == 0


def test_signals_in_any_order_twice(scene: Scene) -> None:
    place = scene.worker()
    scene.auth()
    client = scene.greeted()
    for number in (signal.SIGUSR1, signal.SIGQUIT, signal.SIGQUIT, signal.SIGUSR1, signal.SIGINT):
        place.signal(number)
    place.retire()
    time.sleep(0.1)
    place.signal(signal.SIGTERM)
    place.signal(signal.SIGTERM)
    assert client.line().startswith(b"* BYE")
    assert place.wait() == 0


# --- full ---

def test_oldest_makes_room_when_the_service_is_full(scene: Scene) -> None:
    place = scene.worker(client_limit=2)
    scene.auth()
    old, young = scene.greeted(), scene.greeted()
    soon(lambda: place.free() == 0)
    late = scene.client()
    assert late.quiet(0.1)                                  # full, but the service is not: another process may come
    place.full()
    assert b"BYE" in old.line()
    assert late.line().startswith(b"* OK")
    assert young.ask(b"a NOOP\r\n").startswith(b"a OK")
    assert "Connection queue full" in place.log()


def test_proxied_clients_never_make_room(scene: Scene) -> None:
    place = scene.worker(client_limit=1)
    scene.auth()
    client = scene.greeted()
    client.login()
    soon(lambda: place.free() == 0)
    place.full()
    late = scene.client()
    assert late.quiet(0.3)
    client.send(b"echo\r\n")
    assert client.line() == b"echo\r\n"
    used = psutil.Process(place.pid).cpu_times().user
    time.sleep(0.3)
    assert psutil.Process(place.pid).cpu_times().user - used < 0.1      # and it does not spin over the one who waits
    client.close()
    assert late.line().startswith(b"* OK")


def test_single_client_process_makes_room_after_a_moment(scene: Scene) -> None:
    place = scene.worker(client_limit=1, service_count=1)
    scene.auth()
    client = scene.greeted()
    soon(lambda: place.free() == 0)
    place.full()
    assert b"BYE" in client.line()
    assert place.wait() == 0


# --- clients that do not behave ---

def test_client_that_never_reads_stops_the_backend(scene: Scene) -> None:
    place = scene.worker()
    scene.auth()
    sent = [0]

    def pour(connection: socket.socket) -> None:
        block = os.urandom(65536)
        while True:
            connection.sendall(block)
            sent[0] += len(block)
    scene.backend.talk = pour
    client = scene.greeted()
    before = psutil.Process(place.pid).memory_info().rss
    client.send(b"a LOGIN alice sesame\r\n")
    soon(lambda: sent[0] > 0)
    last = -1
    while sent[0] != last:
        last = sent[0]
        time.sleep(0.1)
    assert last < 32 << 20                                  # what the kernel holds on both connections
    assert psutil.Process(place.pid).memory_info().rss - before < 4 << 20
    other = scene.greeted()
    assert other.ask(b"a NOOP\r\n").startswith(b"a OK")


def test_client_that_asks_and_never_reads_is_sent_away(scene: Scene) -> None:
    place = scene.worker()
    scene.auth()
    client = scene.client()
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.socket.settimeout(5)

    def ask_on() -> None:
        while True:
            client.send(b"a CAPABILITY\r\n" * 1000)
    with pytest.raises(OSError, match=r"(?i)reset|pipe"):
        ask_on()
    soon(lambda: "output buffer full" in place.log())


def test_clients_vanish_in_every_phase(scene: Scene) -> None:
    place = scene.worker(client_limit=100)
    scene.auth(silent)
    soon(lambda: place.free() == 100)
    for abort in (False, True):
        for data in (b"", b"x", b"a LOGIN alice sesame\r\n", b"a AUTHENTICATE LOGIN\r\n", b"a LOGIN {5}\r\n"):
            client = scene.greeted()
            client.send(data)
            time.sleep(0.01)
            if abort:
                client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
                client.close()
            else:
                client.socket.shutdown(socket.SHUT_WR)
    soon(lambda: place.free() >= 99)                        # a half-closed client in AUTH may wait for its answer


def test_no_descriptor_is_lost(scene: Scene) -> None:
    place = scene.worker(client_limit=100)
    scene.auth()
    process = psutil.Process(place.pid)
    first = scene.greeted()
    first.login()
    first.close()
    soon(lambda: place.log().count("Disconnected by") == 1)
    before = process.num_fds()
    for number in range(15):
        client = scene.greeted()
        if number % 3:
            assert client.login().startswith(b"a OK")
        client.close()
    soon(lambda: place.free() == 100)
    soon(lambda: process.num_fds() <= before)


class Buggy(Imap):
    """IMAP with two bugs: a command that the frontend cannot bear, and a banner that the backend cannot."""

    def frontend(self, shared: ImapSettings) -> ImapFrontend:
        class Frontend(ImapFrontend):
            def feed(self, data: bytes) -> None:
                if b"BUG" in data:
                    raise LookupError("sesame")
                super().feed(data)
        return Frontend(shared)

    def backend(self, order: Order) -> ImapBackend:
        class Backend(ImapBackend):
            def feed(self, data: bytes) -> int:
                raise LookupError("sesame")
        return Backend(order)


def test_a_bug_costs_the_session_in_which_it_shows(scene: Scene) -> None:
    def spoil(setup: Setup) -> None:
        setup.dialect = Buggy()
    place = scene.worker(client_limit=10, prepared=spoil)
    scene.auth()
    bystander, first, second = scene.greeted(), scene.greeted(), scene.greeted()
    first.send(b"a BUG\r\n")
    assert first.line() == b""
    second.send(b"a LOGIN alice sesame\r\n")
    assert second.line() == b""
    assert bystander.ask(b"a NOOP\r\n") == b"a OK NOOP completed.\r\n"
    soon(lambda: place.log().count("unhandled LookupError") == 2)
    assert "sesame" not in place.log()
    soon(lambda: place.free() == 9)
