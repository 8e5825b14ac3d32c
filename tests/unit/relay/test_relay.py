"""The relay over real connections in one process: bytes, back-pressure, ends, counts, descriptors."""
from __future__ import annotations

import os
import socket

import pytest

from mailproxy.net import pipes
from mailproxy.relay import relay as relays
from tests.unit.net.drive import Driver, reset
from tests.unit.relay.ends import BACKEND, CLIENT, Bench, Contexts, Listen, Talk, bulk, open_descriptors

KINDS = pytest.mark.parametrize(("client_tls", "backend_tls"), [(False, False), (True, False), (False, True),
                                                                (True, True)],
                                ids=["plain-plain", "tls-plain", "plain-tls", "tls-tls"])
SIZE = 1_500_000


def both_ways(bench: Bench, up: bytes, down: bytes) -> tuple[Listen, Listen]:
    """Send `up` from the client and `down` from the backend at the same time."""
    at_backend, at_client = Listen(bench.backend, len(up)), Listen(bench.client, len(down))
    for talk in (Talk(bench.client, up, seed=1), Talk(bench.backend, down, seed=2)):
        assert talk.error is None
    bench.driver.until(lambda: at_backend.count >= len(up) and at_client.count >= len(down))
    return at_backend, at_client


def one_way(bench: Bench, sender: socket.socket, receiver: socket.socket, data: bytes) -> bytes:
    listen = Listen(receiver, len(data))
    Talk(sender, data)
    bench.driver.until(lambda: listen.count >= len(data))
    return listen.data()


@KINDS
def test_every_byte_in_order_in_each_direction(driver: Driver, contexts: Contexts, client_tls: bool,
                                               backend_tls: bool) -> None:
    bench = Bench(driver, contexts, client_tls=client_tls, backend_tls=backend_tls).start()
    up, down = bulk(SIZE, 1), bulk(SIZE, 2)
    assert one_way(bench, bench.client, bench.backend, up) == up
    assert one_way(bench, bench.backend, bench.client, down) == down
    assert bench.relay.counts() == (str(SIZE), str(SIZE))
    assert bench.over == []
    bench.finish()


def test_both_directions_at_once(driver: Driver, contexts: Contexts) -> None:
    bench = Bench(driver, contexts, buffer=8192).start()
    up, down = bulk(SIZE, 3), bulk(SIZE, 4)
    at_backend, at_client = both_ways(bench, up, down)
    assert at_backend.data() == up
    assert at_client.data() == down
    bench.finish()


def test_bulk_is_spliced_and_small_talk_is_not(driver: Driver, contexts: Contexts,
                                               monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    splice = os.splice

    def counted(*args: int, **more: int) -> int:
        calls.append(1)
        return splice(*args, **more)
    monkeypatch.setattr(os, "splice", counted)
    bench = Bench(driver, contexts).start()
    small = bulk(3000)
    assert one_way(bench, bench.client, bench.backend, small) == small
    assert not calls
    large = bulk(SIZE)
    assert one_way(bench, bench.backend, bench.client, large) == large
    assert calls
    bench.finish()


def test_copies_where_the_kernel_cannot_splice(driver: Driver, contexts: Contexts,
                                               monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*args: int, **more: int) -> int:
        raise OSError(22, "Invalid argument")
    monkeypatch.setattr(os, "splice", refused)
    bench = Bench(driver, contexts).start()
    data = bulk(SIZE)
    assert one_way(bench, bench.backend, bench.client, data) == data
    assert bench.over == []
    bench.finish()


@KINDS
def test_leftovers_come_first(driver: Driver, contexts: Contexts, client_tls: bool, backend_tls: bool) -> None:
    bench = Bench(driver, contexts, client_tls=client_tls, backend_tls=backend_tls)
    bench.client.sendall(b"b list\r\n")
    bench.backend.sendall(b"* 1 EXISTS\r\n")
    bench.start(to_client=b"a OK\r\n", to_backend=b"a select\r\n")
    at_client, at_backend = Listen(bench.client, 18), Listen(bench.backend, 18)
    driver.until(lambda: at_client.count >= 18 and at_backend.count >= 18)
    assert at_client.data() == b"a OK\r\n* 1 EXISTS\r\n"
    assert at_backend.data() == b"a select\r\nb list\r\n"
    assert bench.relay.counts() == ("18", "18")
    bench.finish()


@KINDS
@pytest.mark.parametrize("who", [CLIENT, BACKEND])
def test_a_reader_that_stops_stops_the_writer(driver: Driver, contexts: Contexts, client_tls: bool, backend_tls: bool,
                                              who: int) -> None:
    """Memory stays bounded: what the relay holds is one buffer or one pipe; nothing is lost when it goes on."""
    bench = Bench(driver, contexts, client_tls=client_tls, backend_tls=backend_tls, buffer=16384).start()
    sender, receiver = (bench.client, bench.backend) if who == BACKEND else (bench.backend, bench.client)
    data = bulk(SIZE)
    talk = Talk(sender, data)
    driver.rest(0.15)
    assert talk.is_alive()
    side = bench.relay._backend if who == BACKEND else bench.relay._client
    assert 0 < len(side.pending) + side.piped <= max(relays._SIZE, pipes.CHUNK)
    spun: list[int] = []
    driver.loop.at_batch_end(lambda: spun.append(1))
    driver.rest(0.1)
    assert len(spun) < 60                       # it sleeps, but for the test's own timer
    assert "+" in bench.relay.counts()[0 if who == BACKEND else 1]
    listen = Listen(receiver, len(data))
    driver.until(lambda: listen.count >= len(data))
    assert listen.data() == data
    assert bench.relay.counts()[0 if who == BACKEND else 1] == str(SIZE)
    bench.finish()


def test_one_blocked_direction_does_not_block_the_other(driver: Driver, contexts: Contexts) -> None:
    bench = Bench(driver, contexts, buffer=16384).start()
    Talk(bench.backend, bulk(SIZE))             # the client does not read it
    driver.rest(0.05)
    bench.client.sendall(b"a NOOP\r\n")
    listen = Listen(bench.backend, 8)
    driver.until(lambda: listen.count == 8)
    bench.finish()


@KINDS
def test_end_of_the_backend_ends_the_session_after_its_last_bytes(driver: Driver, contexts: Contexts, client_tls: bool,
                                                                  backend_tls: bool) -> None:
    bench = Bench(driver, contexts, client_tls=client_tls, backend_tls=backend_tls, buffer=16384).start()
    data = bulk(400_000)
    sock = bench.backend
    Talk(sock, data, sock.close)
    driver.rest(0.1)                            # the end waits behind the bytes that the client does not read
    assert bench.over == []
    listen = Listen(bench.client, len(data))
    driver.until(lambda: bool(bench.over) and listen.count >= len(data))
    assert listen.data() == data
    assert bench.over == [(BACKEND, "")]
    assert bench.relay.counts()[1] == str(len(data))
    bench.finish()


def test_half_closed_client_gets_its_answer(driver: Driver, contexts: Contexts) -> None:
    bench = Bench(driver, contexts).start()
    bench.client.sendall(b"a LOGOUT\r\n")
    bench.client.shutdown(socket.SHUT_WR)
    request = Listen(bench.backend, 1000)
    driver.until(lambda: request.ended)         # the half-close is passed on
    assert request.data() == b"a LOGOUT\r\n"
    assert bench.over == []
    bench.backend.sendall(b"* BYE\r\na OK\r\n")
    bench.backend.close()
    answer = Listen(bench.client, 13)
    driver.until(lambda: bool(bench.over) and answer.count == 13)
    assert answer.data() == b"* BYE\r\na OK\r\n"
    assert bench.over == [(CLIENT, "")]         # who ended first has disconnected
    bench.finish()


def test_half_closed_client_that_reads_slowly_loses_nothing(driver: Driver, contexts: Contexts) -> None:
    """Both directions of the backend's connection are shut while bytes of it still wait in the kernel."""
    bench = Bench(driver, contexts, buffer=16384).start()
    bench.client.shutdown(socket.SHUT_WR)
    ended = Listen(bench.backend, 1)
    driver.until(lambda: ended.ended)
    data = bulk(400_000)
    sent = Talk(bench.backend, data, bench.backend.close)
    slow = bytearray()
    for _ in range(5):
        driver.rest(0.03)
        slow += bench.client.recv(20_000)
    spun: list[int] = []
    driver.loop.at_batch_end(lambda: spun.append(1))
    driver.rest(0.1)
    assert len(spun) < 60                       # a hang-up that cannot be acted on yet is not announced for ever
    rest = Listen(bench.client, len(data) - len(slow))
    driver.until(lambda: bool(bench.over) and rest.count >= len(data) - len(slow))
    assert sent.error is None
    assert bytes(slow) + rest.data() == data
    assert bench.over == [(CLIENT, "")]
    bench.finish()


def test_hang_up_of_the_backend_waits_for_a_blocked_client(driver: Driver, contexts: Contexts) -> None:
    """As above, with the hang-up seen while the client is blocked and the backend's last bytes are unread."""
    bench = Bench(driver, contexts, buffer=65536).start()
    bench.client.shutdown(socket.SHUT_WR)
    ended = Listen(bench.backend, 1)
    driver.until(lambda: ended.ended)
    data = bulk(500_000)
    sent = Talk(bench.backend, data, bench.backend.close)
    read = bytearray()
    while sent.is_alive():
        driver.rest(0.01)
        read += bench.client.recv(8192)
    driver.rest(0.1)
    rest = Listen(bench.client, len(data) - len(read))
    driver.until(lambda: bool(bench.over) and rest.count >= len(data) - len(read))
    assert bytes(read) + rest.data() == data
    bench.finish()


@pytest.mark.parametrize("client_tls", [False, True])
@pytest.mark.parametrize("who", [CLIENT, BACKEND])
def test_reset_is_the_end_and_names_the_side(driver: Driver, contexts: Contexts, client_tls: bool, who: int) -> None:
    bench = Bench(driver, contexts, client_tls=client_tls).start()
    sock = bench.client if who == CLIENT else bench.backend
    if client_tls and who == CLIENT:
        sock = socket.socket(fileno=sock.detach())
    reset(sock)
    bench.relay._timer = None
    if client_tls and who == CLIENT:
        driver.rest(0.02)
        bench.backend.close()                   # it looks like a half-close: the backend has the last word
    driver.until(lambda: bool(bench.over))
    assert [side for side, _ in bench.over] == [who]
    if not client_tls or who == BACKEND:
        assert "Connection reset by peer" in bench.over[0][1]
    bench.finish()


@pytest.mark.parametrize("who", [CLIENT, BACKEND])
def test_reset_while_bytes_wait_for_that_side(driver: Driver, contexts: Contexts, who: int) -> None:
    bench = Bench(driver, contexts, buffer=16384).start()
    sender, victim = (bench.backend, bench.client) if who == CLIENT else (bench.client, bench.backend)
    Talk(sender, bulk(SIZE))
    driver.rest(0.1)
    reset(victim)
    driver.until(lambda: bool(bench.over))
    assert len(bench.over) == 1
    assert bench.over[0][0] == who
    assert "write() failed" in bench.over[0][1] or "reset" in bench.over[0][1]
    bench.finish()


def test_client_closes_while_the_backend_talks(driver: Driver, contexts: Contexts) -> None:
    bench = Bench(driver, contexts, buffer=16384).start()
    Talk(bench.backend, bulk(SIZE))
    driver.rest(0.05)
    bench.client.close()                        # unread data: the kernel answers with a reset
    driver.until(lambda: bool(bench.over))
    assert [side for side, _ in bench.over] == [CLIENT]
    bench.finish()


def test_leftovers_that_cannot_be_written_end_it_once(driver: Driver, contexts: Contexts) -> None:
    bench = Bench(driver, contexts)
    reset(bench.client)
    driver.rest(0.02)
    bench.start(to_client=b"a OK\r\n")
    driver.until(lambda: bool(bench.over))
    assert len(bench.over) == 1
    assert bench.over[0][0] == CLIENT
    bench.finish()


def test_drain_is_bounded(driver: Driver, contexts: Contexts, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that never reads cannot keep the session of a backend that is gone."""
    monkeypatch.setattr(relays, "DRAIN", 0.1)
    bench = Bench(driver, contexts, buffer=16384).start()
    while "+" not in bench.relay.counts()[1]:
        bench.backend.sendall(bytes(4000))
        driver.rest(0.01)
    reset(bench.backend)
    driver.rest(0.05)
    assert bench.over == []
    bench.client.sendall(b"a NOOP\r\n")         # cannot be delivered: now the end is known
    driver.until(lambda: bool(bench.over), 5)
    assert bench.over[0][0] == BACKEND
    assert "write() failed" in bench.over[0][1]
    assert "+" in bench.relay.counts()[1]
    bench.finish()


def test_half_close_is_bounded(driver: Driver, contexts: Contexts, monkeypatch: pytest.MonkeyPatch) -> None:
    """A backend that does not care for the client's end cannot keep the session."""
    monkeypatch.setattr(relays, "DRAIN", 0.1)
    bench = Bench(driver, contexts).start()
    bench.client.shutdown(socket.SHUT_WR)
    driver.until(lambda: bool(bench.over), 5)
    assert bench.over == [(CLIENT, "")]
    bench.finish()


def test_hidden_tls_bytes_behind_blocked_leftovers(driver: Driver, contexts: Contexts) -> None:
    """The client's TLS layer holds decrypted bytes while its leftovers wait for the backend: no event tells of them."""
    bench = Bench(driver, contexts, client_tls=True, buffer=16384)
    first = bulk(300_000)
    bench.client.sendall(b"#" + b"end of the message")
    driver.rest(0.02)
    hidden = bench.links[0].recv(1)             # the rest of the record stays behind
    assert hidden == b"#"
    bench.start(to_backend=first)
    driver.rest(0.05)
    wanted = len(first) + len(b"end of the message")
    listen = Listen(bench.backend, wanted)
    driver.until(lambda: listen.count >= wanted, 3)
    assert listen.data() == first + b"end of the message"
    bench.finish()


def test_last_is_the_time_of_the_last_byte(driver: Driver, contexts: Contexts) -> None:
    bench = Bench(driver, contexts).start()
    driver.rest(0.05)
    bench.client.sendall(b"x")
    listen = Listen(bench.backend, 1)
    driver.until(lambda: listen.count == 1)
    at = bench.relay.last
    driver.rest(0.05)
    assert bench.relay.last == at
    assert driver.loop.now - at >= 0.04
    bench.finish()


@KINDS
def test_no_descriptor_stays_open(driver: Driver, contexts: Contexts, client_tls: bool, backend_tls: bool) -> None:
    while pipes._free:
        pipes.discard(pipes._free.pop())
    before = open_descriptors()
    for number in range(6):
        bench = Bench(driver, contexts, client_tls=client_tls, backend_tls=backend_tls, buffer=16384).start()
        Talk(bench.backend, bulk(SIZE), largest=200_000)
        driver.rest(0.03)
        if number % 2:
            bench.client.close()
            driver.rest(0.03)
        bench.finish()
    while pipes._free:
        pipes.discard(pipes._free.pop())
    driver.until(lambda: open_descriptors() <= before, 5)


def test_stop_is_silent(driver: Driver, contexts: Contexts) -> None:
    bench = Bench(driver, contexts).start()
    bench.relay.stop()
    assert bench.client.recv(1) == b""
    assert bench.backend.recv(1) == b""
    driver.rest(0.02)
    assert bench.over == []


def test_given_back_pipes_are_empty_and_few(driver: Driver, contexts: Contexts) -> None:
    benches = [Bench(driver, contexts, buffer=16384).start() for _ in range(pipes._KEEP + 4)]
    for bench in benches:
        Talk(bench.backend, bulk(SIZE // 2), largest=200_000)
    driver.rest(0.2)
    listens = [Listen(bench.client, SIZE // 2) for bench in benches]
    driver.until(lambda: all(listen.count >= SIZE // 2 for listen in listens))
    assert all(listen.data() == bulk(SIZE // 2) for listen in listens)
    assert 0 < len(pipes._free) <= pipes._KEEP
    for reading, _ in pipes._free:
        with pytest.raises(BlockingIOError):
            os.read(reading, 1)
    for bench in benches:
        bench.finish()
