"""The event loop: order, timers, and what may happen to descriptors within one batch."""
from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from mailproxy.net import loop as loops
from mailproxy.net.loop import ERR, HUP, IN, OUT, Loop


@pytest.fixture
def loop() -> Iterator[Loop]:
    made = Loop()
    yield made
    made.close()


def run(loop: Loop, seconds: float = 0.02) -> None:
    """Serve for at least this long."""
    loop.call_later(seconds, loop.stop)
    loop.run()


def test_timers_of_one_duration_fire_in_the_order_they_were_made(loop: Loop) -> None:
    fired: list[int] = []
    for number in range(6):
        loop.call_later(0.005, lambda number=number: fired.append(number))
    loop.call_later(0, lambda: fired.append(-1))
    loop.call_later(-1, lambda: fired.append(-2))
    run(loop)
    assert [number for number in fired if number >= 0] == list(range(6))
    assert {-1, -2} < set(fired)


def test_timers_are_never_early(loop: Loop) -> None:
    start = loop.now
    at: list[float] = []
    for delay in (0.001, 0.0015, 0.01):
        loop.call_later(delay, lambda delay=delay: at.append(loop.now - start - delay))
    run(loop)
    assert len(at) == 3
    assert min(at) >= 0


def test_cancelled_timer_does_not_fire_and_cancelling_twice_is_harmless(loop: Loop) -> None:
    fired: list[str] = []
    one = loop.call_later(0.005, lambda: fired.append("one"))
    two = loop.call_later(0.005, lambda: fired.append("two"))
    one.cancel()
    one.cancel()
    run(loop)
    two.cancel()
    assert fired == ["two"]


def test_timer_cancelled_by_another_of_the_same_moment(loop: Loop) -> None:
    fired: list[str] = []
    second = loop.call_later(0.005, lambda: fired.append("second"))
    second.cancel()
    first = loop.call_later(0.005, lambda: (fired.append("first"), third.cancel()))  # type: ignore[func-returns-value]
    third = loop.call_later(0.005, lambda: fired.append("third"))
    run(loop)
    assert fired == ["first"]
    assert first.when <= third.when


def test_timer_made_by_a_timer_waits_for_the_next_batch(loop: Loop) -> None:
    seen: list[float] = []

    def again() -> None:
        seen.append(loop.now)
        if len(seen) < 3:
            loop.call_later(0, again)
    loop.call_later(0, again)
    run(loop)
    assert len(seen) == 3
    assert seen[0] < seen[1] < seen[2]


def test_cancelled_timer_lets_go_of_its_callback(loop: Loop) -> None:
    import weakref

    class Owner:
        def call(self) -> None:
            raise AssertionError
    owner = Owner()
    timer = loop.call_later(100, owner.call)
    seen = weakref.ref(owner)
    timer.cancel()
    del owner
    assert seen() is None
    assert not any(loop._timers.values())


def test_handler_gets_the_mask_and_level_triggering(loop: Loop) -> None:
    near, far = socket.socketpair()
    masks: list[int] = []

    def handler(mask: int) -> None:
        masks.append(mask)
        if len(masks) == 3:
            loop.unregister(near.fileno())
    loop.register(near.fileno(), IN, handler)
    far.send(b"x")
    run(loop)
    assert masks == [IN, IN, IN]            # nobody read
    near.close()
    far.close()


def test_modify_and_swap(loop: Loop) -> None:
    near, far = socket.socketpair()
    seen: list[str] = []

    def first(mask: int) -> None:
        assert mask == OUT
        seen.append("first")
        loop.modify(near.fileno(), IN)
        loop.swap(near.fileno(), second)
        far.send(b"x")

    def second(mask: int) -> None:
        assert mask == IN
        seen.append("second")
        near.recv(1)
    loop.register(near.fileno(), OUT, first)
    run(loop)
    assert seen == ["first", "second"]
    loop.unregister(near.fileno())
    near.close()
    far.close()


def test_descriptor_closed_by_an_earlier_handler_of_the_batch(loop: Loop) -> None:
    """Both are ready; whoever comes first closes the other, who must not be called."""
    pairs = [socket.socketpair() for _ in range(2)]
    called: list[int] = []

    def handler_of(number: int) -> object:
        def handler(mask: int) -> None:
            called.append(number)
            for near, _ in pairs:
                loop.forget(near.fileno())
                near.close()
        return handler
    for number, (near, far) in enumerate(pairs):
        loop.register(near.fileno(), IN, handler_of(number))  # type: ignore[arg-type]
        far.send(b"x")
    run(loop)
    assert len(called) == 1
    for _, far in pairs:
        far.close()


def test_forgotten_descriptor_number_can_be_registered_again(loop: Loop) -> None:
    near, far = socket.socketpair()
    number = near.fileno()
    loop.register(number, IN, lambda mask: None)
    loop.forget(number)
    again, peer = socket.socketpair()
    near.close()
    os.dup2(again.fileno(), number)
    again.close()
    seen: list[int] = []

    def handler(mask: int) -> None:
        seen.append(mask)
        loop.forget(number)
        os.close(number)
    loop.register(number, IN, handler)
    peer.send(b"x")
    run(loop)
    assert seen == [IN]
    far.close()
    peer.close()


def test_unknown_descriptors_are_ignored(loop: Loop) -> None:
    loop.unregister(9999)
    loop.forget(9999)
    with pytest.raises(OSError, match="Bad file descriptor"):
        loop.register(9999, IN, lambda mask: None)


def test_hooks_run_after_events_and_timers_of_every_batch(loop: Loop) -> None:
    order: list[str] = []
    loop.at_batch_end(lambda: order.append("hook"))
    loop.call_later(0, lambda: order.append("timer"))
    near, far = socket.socketpair()

    def handler(mask: int) -> None:
        order.append("event")
        near.recv(10)
    loop.register(near.fileno(), IN, handler)
    far.send(b"x")
    run(loop, 0.005)
    assert order[:3] == ["event", "timer", "hook"]
    assert order[-1] == "hook"
    near.close()
    far.close()


def test_hangup_is_announced_unasked(loop: Loop) -> None:
    reading, writing = os.pipe()
    seen: list[int] = []

    def handler(mask: int) -> None:
        seen.append(mask)
        loop.unregister(writing)
    loop.register(writing, 0, handler)
    os.close(reading)
    run(loop)
    assert len(seen) == 1
    assert seen[0] & (ERR | HUP)
    os.close(writing)


def test_more_ready_descriptors_than_one_batch(loop: Loop) -> None:
    count = loops._BATCH + 20
    pairs = [socket.socketpair() for _ in range(count)]
    seen: set[int] = set()
    for number, (near, far) in enumerate(pairs):
        def handler(mask: int, number: int = number, near: socket.socket = near) -> None:
            seen.add(number)
            near.recv(1)
            if len(seen) == count:
                loop.stop()
        loop.register(near.fileno(), IN, handler)
        far.send(b"x")
    run(loop, 5)
    assert len(seen) == count
    for pair in pairs:
        for sock in pair:
            sock.close()


def test_exception_of_a_handler_passes_through(loop: Loop) -> None:
    def broken() -> None:
        raise KeyError("bug")
    loop.call_later(0, broken)
    with pytest.raises(KeyError):
        loop.run()


def test_exception_of_a_handler_is_told_and_the_others_go_on(loop: Loop) -> None:
    told: list[tuple[object, str]] = []
    loop.on_failure = lambda fd, handler, failure: told.append((handler, str(failure)))
    served: list[int] = []
    ends = [os.pipe() for _ in range(2)]

    def bad(mask: int) -> None:
        loop.unregister(ends[0][0])
        raise ValueError("bug")

    def good(mask: int) -> None:
        os.read(ends[1][0], 1)
        served.append(mask)

    def late() -> None:
        raise KeyError("timer")

    for (reader, writer), handler in zip(ends, (bad, good), strict=True):
        os.write(writer, b"x")
        loop.register(reader, IN, handler)
    loop.call_later(0.005, late)
    run(loop, 0.03)
    assert (bad, "bug") in told
    assert (None, "'timer'") in told
    assert len(served) == 1
    for pair in ends:
        for fd in pair:
            os.close(fd)


def test_quiet_close_swallows_a_reset_only() -> None:
    class Reset:
        closed = False

        def close(self) -> None:
            self.closed = True
            raise ConnectionResetError
    closer = Reset()
    loops.quiet_close(closer)
    assert closer.closed


def test_timer_of_a_hundred_years(loop: Loop) -> None:
    """epoll_wait takes no such number."""
    timer = loop.call_later(3e9, lambda: None)
    near, far = socket.socketpair()
    loop.register(near.fileno(), IN, lambda mask: loop.stop())
    far.send(b"x")
    loop.run()
    timer.cancel()
    near.close()
    far.close()
