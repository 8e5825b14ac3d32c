"""The policy of one service, driven without processes, sockets or a clock."""
from __future__ import annotations

import heapq
import itertools
import signal
from collections.abc import Callable

import pytest

from mailproxy.log.pipe import ERROR, FATAL, WARNING
from mailproxy.master.service import Policy, Rules, State


class Entry:
    def __init__(self, call: Callable[[], None]) -> None:
        self.call: Callable[[], None] | None = call

    def cancel(self) -> None:
        self.call = None


class World:
    """Ports that only note what they are asked; time passes when a test says so."""

    def __init__(self, **rules: object) -> None:
        self.time = 1000.0
        self.queue: list[tuple[float, int, Entry]] = []
        self.order = itertools.count()
        self.pids = itertools.count(101)
        self.forked: list[int] = []
        self.signals: list[tuple[int, int]] = []
        self.watched = False
        self.drops = 0
        self.full: list[bool] = []
        self.lines: list[tuple[int, str]] = []
        self.refuse_fork = False
        self.generations = itertools.count(1)
        self.numbers: dict[int, int] = {}
        self.policy = Policy(Rules("imap-login", **{"kind": "login", "client_limit": 1, **rules}),  # type: ignore[arg-type]
                             self, lambda: next(self.generations))

    def now(self) -> float:
        return self.time

    def fork(self, generation: int) -> int:
        if self.refuse_fork:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        pid = next(self.pids)
        self.forked.append(pid)
        self.numbers[pid] = generation
        return pid

    def signal(self, pid: int, number: int) -> None:
        self.signals.append((pid, number))

    def watch(self, on: bool) -> None:
        assert on != self.watched, "asked twice for the same"
        self.watched = on

    def drop_pending(self) -> None:
        self.drops += 1

    def notify_full(self, full: bool) -> None:
        self.full.append(full)

    def call_later(self, delay: float, call: Callable[[], None]) -> Entry:
        entry = Entry(call)
        heapq.heappush(self.queue, (self.time + delay, next(self.order), entry))
        return entry

    def log(self, kind: int, text: str) -> None:
        self.lines.append((kind, text))

    def log_child(self, kind: int, pid: int, text: str) -> None:
        self.lines.append((kind, text))

    def advance(self, seconds: float) -> None:
        end = self.time + seconds
        while self.queue and self.queue[0][0] <= end:
            when, _, entry = heapq.heappop(self.queue)
            self.time = max(self.time, when)
            if entry.call is not None:
                entry.call()
        self.time = end

    def status(self, pid: int, available: int) -> None:
        self.policy.status(pid, self.numbers[pid], available)


def test_nothing_is_forked_before_a_connection_waits() -> None:
    world = World()
    world.policy.start()
    assert world.forked == []
    assert world.watched


def test_a_waiting_connection_forks_and_watching_stops_until_nobody_has_room() -> None:
    world = World()
    world.policy.start()
    world.policy.connection_waiting()
    assert world.forked == [101]
    assert not world.watched
    world.policy.connection_waiting()           # a second listener of the same batch
    assert world.forked == [101]
    world.status(101, 0)
    assert world.watched
    world.policy.connection_waiting()
    assert world.forked == [101, 102]


def test_min_avail_is_kept_by_every_accepted_connection() -> None:
    world = World(process_min_avail=2)
    world.policy.start()
    world.advance(0)
    assert world.forked == [101, 102]
    world.status(101, 0)
    world.advance(0)
    assert world.forked == [101, 102, 103]
    assert world.policy.available == 2
    assert not world.watched


def test_min_avail_is_filled_in_batches() -> None:
    world = World(process_min_avail=35)
    world.policy.start()
    assert len(world.forked) == 1
    _, _, entry = heapq.heappop(world.queue)
    while entry.call is None or entry.call.__name__ != "_refill_more":
        _, _, entry = heapq.heappop(world.queue)
    entry.call()
    assert len(world.forked) == 11
    world.advance(0)
    assert len(world.forked) == 35


def test_min_avail_never_exceeds_process_limit() -> None:
    world = World(process_min_avail=5, process_limit=3)
    world.policy.start()
    world.advance(0)
    assert len(world.forked) == 3


def test_unknown_pids_and_wrong_generations_change_nothing() -> None:
    world = World()
    world.policy.start()
    world.policy.connection_waiting()
    world.policy.status(999, 1, 0)
    world.policy.status(101, 77, 0)
    assert world.policy.available == 1
    assert world.lines == [(ERROR, "service(imap-login): Ignoring invalid update from child 101")]


def test_total_is_the_sum_of_decreases() -> None:
    world = World(client_limit=10)
    world.policy.start()
    world.policy.connection_waiting()
    for available in (10, 7, 9, 8):
        world.status(101, available)
    assert world.policy.processes[101].total == 4


def test_more_room_than_the_limit_is_not_believed() -> None:
    world = World(client_limit=10)
    world.policy.start()
    world.policy.connection_waiting()
    world.status(101, 4_000_000_000)
    assert world.policy.processes[101].available == 10


def full_world(**rules: object) -> World:
    world = World(process_limit=2, **rules)
    world.policy.start()
    for pid in (101, 102):
        world.policy.connection_waiting()
        world.status(pid, 0)
    return world


def test_a_full_login_service_tells_its_processes() -> None:
    world = full_world()
    world.policy.connection_waiting()
    assert world.lines == [(WARNING, "service(imap-login): process_limit (2) reached, "
                                     "client connections are being dropped")]
    assert world.full == [True]
    assert world.signals == [(101, signal.SIGUSR1), (102, signal.SIGUSR1)]
    assert not world.watched
    assert world.policy.state is State.FULL
    world.advance(0.5)
    assert world.watched                        # does somebody still wait?
    world.policy.connection_waiting()
    assert len(world.signals) == 2              # not again within 2 s
    world.advance(1.5)
    world.policy.connection_waiting()
    assert len(world.signals) == 4


def test_who_waits_for_a_service_without_room_is_refused_soon() -> None:
    world = full_world()
    world.policy.connection_waiting()
    world.advance(0.4)
    assert world.drops == 0
    world.advance(0.1)
    world.policy.connection_waiting()
    assert world.drops == 1                     # all have had the time to make room
    world.advance(0.5)
    world.policy.connection_waiting()
    assert world.drops == 2


def test_who_waits_for_a_process_that_makes_room_is_let_in() -> None:
    """It says again that it has no room, since another client has taken the place at once."""
    world = full_world()
    for _ in range(20):
        world.policy.connection_waiting()
        world.advance(0.25)
        world.status(101, 0)
        world.advance(0.25)
    assert world.drops == 0
    for _ in range(20):                         # this cannot go on for ever
        world.policy.connection_waiting()
        world.advance(0.25)
        world.status(101, 0)
        world.advance(0.25)
    assert world.drops


def test_a_process_that_ends_one_client_after_the_other_gets_the_time_for_it() -> None:
    """It has used up its count: there is room when the last of them is gone."""
    world = full_world()
    for _ in range(3):
        world.policy.connection_waiting()
        world.advance(0.1)
        world.status(101, 0)
        for _ in range(4):
            world.advance(0.475)
            world.policy.connection_waiting()
    assert len(world.signals) == 8              # every two seconds
    assert world.drops == 0
    world.advance(0.5)
    world.policy.connection_waiting()
    assert world.drops == 1                     # nobody has said anything since


def test_nobody_is_refused_before_the_processes_were_told() -> None:
    world = full_world()
    world.policy.connection_waiting()
    world.policy.exited(101, 0, 0)              # it has made room
    world.policy.connection_waiting()
    world.status(103, 0)
    world.advance(0.1)
    world.policy.connection_waiting()           # full again, too soon for another signal
    assert len(world.signals) == 2
    for _ in range(3):
        world.advance(0.5)
        world.policy.connection_waiting()
    assert (len(world.signals), world.drops) == (2, 0)
    world.advance(0.5)
    world.policy.connection_waiting()
    assert (len(world.signals), world.drops) == (4, 0)
    world.advance(0.5)
    world.policy.connection_waiting()
    assert world.drops == 1


def test_room_ends_the_full_state() -> None:
    world = full_world()
    world.policy.connection_waiting()
    world.policy.exited(101, 0, 0)
    assert world.full == [True, False]
    assert world.watched
    world.policy.connection_waiting()
    assert world.forked == [101, 102, 103]


def test_two_episodes_of_fullness_do_not_add_up() -> None:
    world = full_world()
    world.policy.connection_waiting()
    world.advance(60)
    world.policy.connection_waiting()
    assert world.drops == 0


def test_other_services_drop_the_second_time() -> None:
    world = full_world(kind="")
    world.policy.connection_waiting()
    assert (world.drops, world.full) == (0, [])
    world.advance(1)
    world.policy.connection_waiting()
    assert world.drops == 1
    assert world.signals == []


def test_a_worker_service_is_patient() -> None:
    world = full_world(kind="worker")
    world.policy.connection_waiting()
    assert world.lines == []
    world.advance(1)
    world.policy.connection_waiting()
    assert len(world.lines) == 1


@pytest.mark.parametrize(("count", "text"), [(0, "client_limit (1)"), (1, "client_limit/service_count (1)")])
def test_the_limit_is_named(count: int, text: str) -> None:
    world = World(process_limit=1, service_count=count)
    world.policy.start()
    world.policy.connection_waiting()
    world.status(101, 0)
    world.policy.connection_waiting()
    assert text in world.lines[0][1]


def test_a_child_that_dies_before_its_first_report_throttles_the_service() -> None:
    world = World()
    world.policy.start()
    world.policy.connection_waiting()
    world.policy.exited(101, 3, 0)
    assert world.lines == [(FATAL, "service(imap-login): child 101 returned error 3"),
                           (ERROR, "service(imap-login): command startup failed, throttling for 2.000 secs")]
    assert not world.watched
    assert world.drops == 1                     # nobody is there for those who wait
    world.advance(1.9)
    assert not world.watched
    world.advance(0.1)
    assert world.watched


def test_throttling_doubles_to_a_minute_and_a_clean_exit_resets_it() -> None:
    world = World(process_min_avail=1)
    world.policy.start()
    seen = []
    for _ in range(7):
        world.policy.exited(world.forked[-1], 3, 0)
        seen.append(world.policy.throttle)
        world.advance(world.policy.throttle)
    assert seen == [2, 4, 8, 16, 32, 60, 60]
    assert len(world.forked) == 8
    world.status(world.forked[-1], 1)
    world.policy.exited(world.forked[-1], 0, 0)
    assert world.policy.throttle == 0


def test_a_child_that_ends_well_without_a_report_is_a_failure_too() -> None:
    world = World(process_min_avail=1)
    world.policy.start()
    world.policy.exited(101, 0, 0)
    assert world.lines[0] == (ERROR, "service(imap-login): child 101 exited without having reported to the master")
    assert world.policy.state is State.THROTTLED
    assert world.forked == [101]


def test_a_service_that_begins_at_the_start_has_a_process_then() -> None:
    world = World(kind="startup")
    world.policy.start()
    assert world.forked == [101]


def test_a_child_that_crashes_after_its_report_does_not_throttle() -> None:
    world = World(process_min_avail=1)
    world.policy.start()
    for _ in range(10):
        world.status(world.forked[-1], 1)
        world.policy.exited(world.forked[-1], 0, signal.SIGSEGV)
    assert world.policy.state is State.SERVING
    world.status(world.forked[-1], 1)
    world.policy.exited(world.forked[-1], 0, signal.SIGSEGV)
    assert world.policy.state is State.THROTTLED        # eleven within a second, and never a clean exit


def test_one_clean_exit_disarms_the_failure_counter() -> None:
    world = World(process_min_avail=1)
    world.policy.start()
    world.status(world.forked[-1], 1)
    world.policy.exited(world.forked[-1], 0, 0)
    for _ in range(30):
        world.status(world.forked[-1], 1)
        world.policy.exited(world.forked[-1], 1, 0)
    assert world.policy.state is State.SERVING


def test_fork_failure_throttles() -> None:
    world = World()
    world.policy.start()
    world.refuse_fork = True
    world.policy.connection_waiting()
    assert world.lines[0] == (ERROR, "service(imap-login): fork() failed: Resource temporarily unavailable")
    assert world.policy.state is State.THROTTLED


@pytest.mark.parametrize(("code", "killed", "text"), [
    (80, 0, "returned error 80 (Can't open log file)"),
    (89, 0, "returned error 89 (Fatal failure)"),
    (83, 0, "returned error 83 (Out of memory (service imap-login { vsz_limit=256 MB }, "
            "you may need to increase it))"),
    (0, 9, "killed with signal 9"),
    (0, 11, "killed with signal 11 (core not dumped)"),
])
def test_exits_have_words(code: int, killed: int, text: str) -> None:
    world = World(vsz_limit=268435456)
    world.policy.start()
    world.policy.connection_waiting()
    world.status(101, 1)
    world.policy.exited(101, code, killed)
    assert world.lines[0] == (FATAL, f"service(imap-login): child 101 {text}")


@pytest.mark.parametrize(("core", "text"), [(True, "core dumped"), (None, "core dumps disabled")])
def test_what_became_of_the_core_dump(core: bool | None, text: str) -> None:
    world = World()
    world.policy.start()
    world.policy.connection_waiting()
    world.status(101, 1)
    world.policy.exited(101, 0, 11, core)
    assert world.lines[0] == (FATAL, f"service(imap-login): child 101 killed with signal 11 ({text})")


def test_idle_processes_above_min_avail_are_asked_to_leave() -> None:
    world = World(process_min_avail=1, client_limit=10, idle_kill=5.0)
    world.policy.start()
    world.status(101, 0)
    world.advance(0)
    world.status(102, 10)
    world.status(101, 10)
    world.advance(5)
    assert len(world.signals) == 1
    assert world.signals[0][1] == signal.SIGINT
    world.policy.exited(world.signals[0][0], 0, 0)
    world.advance(60)
    assert len(world.signals) == 1              # the one that must stay stays
    assert world.policy.available == 1


def test_a_process_that_stays_when_idle_is_taken_to_be_busy() -> None:
    world = World(client_limit=10, idle_kill=5.0)
    world.policy.start()
    world.policy.connection_waiting()
    world.status(101, 10)
    world.advance(5)
    assert world.signals == [(101, signal.SIGINT)]
    world.advance(5)
    assert world.lines == [(ERROR, "service(imap-login): Process 101 is ignoring idle SIGINT")]
    assert world.policy.available == 0
    world.advance(60)
    assert (len(world.lines), len(world.signals)) == (1, 1)
    world.policy.connection_waiting()
    assert world.forked == [101, 102]


def test_a_busy_process_is_not_idle() -> None:
    world = World(client_limit=10, idle_kill=5.0)
    world.policy.start()
    world.policy.connection_waiting()
    world.status(101, 10)
    world.advance(3)
    world.status(101, 9)
    world.advance(3)
    world.status(101, 10)
    world.advance(4.9)
    assert world.signals == []
    world.advance(0.2)
    assert world.signals == [(101, signal.SIGINT)]


def test_idle_kill_can_be_never() -> None:
    world = World(client_limit=10, idle_kill=0.0)
    world.policy.start()
    world.policy.connection_waiting()
    world.status(101, 10)
    world.advance(100_000)
    assert world.signals == []


def test_a_child_that_never_reports_is_killed() -> None:
    world = World()
    world.policy.start()
    world.policy.connection_waiting()
    world.advance(29.9)
    assert world.signals == []
    world.advance(0.2)
    assert world.signals == [(101, signal.SIGKILL)]
    assert "Initial status notification not received in 30 seconds, killing the process" in world.lines[0][1]
    world.policy.exited(101, 0, signal.SIGKILL)
    assert world.policy.state is State.THROTTLED


def test_short_lives_cost_one_timer() -> None:
    world = World()
    world.policy.start()
    for pid in range(101, 151):
        world.policy.connection_waiting()
        world.status(pid, 0)
        world.policy.exited(pid, 0, 0)
    assert len(world.queue) == 1


def test_a_retired_service_starts_nothing_and_says_nothing_of_the_signals_it_sent() -> None:
    world = World(process_min_avail=1)
    world.policy.start()
    world.policy.retire()
    assert world.policy.kill_all(signal.SIGTERM) == 1
    world.policy.exited(101, 0, signal.SIGTERM)
    world.policy.connection_waiting()
    assert world.forked == [101]
    assert world.lines == []
    assert not world.watched
