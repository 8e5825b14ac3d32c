"""When to fork, whom to end: the policy of one service.

In: events (a connection waits, a child reported, a child died, time passed) and a Ports object that carries out what is
decided.  Out: calls to Ports.  It must not know sockets, processes or the wall clock; unit tests drive it with a fake.

    SERVING    listeners are watched while no process has room; a waiting connection then means fork
    FULL       process_limit is reached and somebody waits: look again after _LOOK_AGAIN seconds
    LOOKING    still no room; the listeners are watched to learn whether somebody still waits
    THROTTLED  its processes fail at once: nothing is started until the throttle ends
    STOPPED    retired by a reload, stopped by an admin or by the master's end: nothing is ever started again
"""
from __future__ import annotations

import enum
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from mailproxy.ipc.contract import FIRST_REPORT
from mailproxy.log.pipe import ERROR, FATAL, WARNING
from mailproxy.master.usage import Usage

_LOOK_AGAIN = 1.0
#: A login service that is still full after this long drops what waits.
_DROP_AFTER = 10.0
#: A login service whose processes have known for this long that it is full, and have made no room, has none.
_NO_ROOM_AFTER = 0.5
#: Two full moments further apart than this are two different episodes.
_EPISODE = 2.5
_SIGNAL_EVERY = 2.0
#: A process that has said nothing since it was told to end if idle, this long ago or more, has ignored it.
_IGNORED_AFTER = 1.0
_WARN_EVERY = 1.0
#: A worker service may be full for this long without a word.
_WORKER_PATIENCE = 0.5
_THROTTLE_FIRST = 2.0
_THROTTLE_MAX = 60.0
_FAILURES_PER_SECOND = 10
#: Forks for process_min_avail in one turn of the loop.
_BATCH = 10
#: Services of this type have a process from the start.
_AT_START = "startup"
_CORE_SIGNALS = (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS)
_CODE_WORDS = {80: " (Can't open log file)", 81: " (Can't write to log file)", 82: " (Internal logging error)",
               84: " (exec() failed)", 89: " (Fatal failure)"}


class State(enum.Enum):
    SERVING = "serving"
    FULL = "full"
    LOOKING = "looking"
    THROTTLED = "throttled"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Rules:
    """The numbers of a service, resolved: 0 is not "default" here.  client_limit is the one in force."""

    name: str
    kind: str = ""                  # "login", "worker", ...
    process_min_avail: int = 0
    process_limit: int = 100
    client_limit: int = 1
    service_count: int = 0
    idle_kill: float = 60.0         # 0: never
    vsz_limit: int = 0


class Cancellable(Protocol):
    def cancel(self) -> None: ...


class Ports(Protocol):
    """What a policy asks of the world."""

    def now(self) -> float: ...

    def fork(self, generation: int) -> int: ...         # pid; OSError if it cannot

    def signal(self, pid: int, number: int) -> None: ...

    def watch(self, on: bool) -> None: ...

    def drop_pending(self) -> None: ...

    def notify_full(self, full: bool) -> None: ...

    def call_later(self, delay: float, call: Callable[[], None]) -> Cancellable: ...

    def log(self, kind: int, text: str) -> None: ...

    def log_child(self, kind: int, pid: int, text: str) -> None: ...


class Process:
    """One child as the master knows it."""

    __slots__ = ("available", "forked", "generation", "idle_since", "last_kill", "last_status", "pid", "sent", "total")

    def __init__(self, pid: int, generation: int, available: int, now: float) -> None:
        self.pid = pid
        self.generation = generation
        self.available = available
        self.forked = now
        self.total = 0
        self.idle_since = 0.0           # 0: not idle
        self.last_status = 0.0          # 0: never reported
        self.last_kill = 0.0
        self.sent = 0                   # the signal that we want it to die of


class Policy:
    """One service of one generation of the configuration."""

    __slots__ = ("_clean_exit", "_fail_second", "_full_at", "_full_since", "_look_timer", "_next_generation", "_ports",
                 "_refilling", "_signalled", "_stirred", "_usage", "_watchdog", "_watchdog_at", "available", "by_admin",
                 "failures", "last_drop", "last_failure", "processes", "rules", "started", "state", "throttle",
                 "watching")

    def __init__(self, rules: Rules, ports: Ports, generations: Callable[[], int]) -> None:
        self.rules = rules
        self.processes: dict[int, Process] = {}
        self.available = 0              # processes that will accept at least one more connection
        self.state = State.SERVING
        self.throttle = 0.0
        self.watching = False
        self.started = 0                # processes ever started
        self.failures = 0               # within the second of the last one
        self.last_failure = 0.0
        self.last_drop = 0.0
        self.by_admin = False
        self._usage = Usage(rules.process_limit * rules.client_limit)
        self._ports = ports
        self._next_generation = generations
        self._clean_exit = False
        self._fail_second = -1
        self._full_since = 0.0
        self._full_at = 0.0
        self._signalled = 0.0
        self._stirred = 0.0             # the last word of any process; a full one that makes room repeats it
        self._refilling = False
        self._look_timer: Cancellable | None = None
        self._watchdog: Cancellable | None = None
        self._watchdog_at = 0.0

    # --- events -----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """The service begins: fork what must be there, then wait for connections."""
        if self.rules.kind == _AT_START and not self.processes and self._may_start():
            self._fork()
        self._refill()
        self._watch()

    def connection_waiting(self) -> None:
        """A listener is readable although nobody has room for the connection."""
        if not self._may_start() or self.available:
            self._watch()               # an event of the batch that changed our state
        elif len(self.processes) >= self.rules.process_limit:
            self._full()
        elif self._fork():
            self._refill()
            self._watch()

    def status(self, pid: int, generation: int, available: int) -> None:
        """A child reported how many more connections it takes."""
        process = self.processes.get(pid)
        if process is None:
            return
        if process.generation != generation:
            self._ports.log(ERROR, f"service({self.rules.name}): Ignoring invalid update from child {pid}")
            return
        now = self._ports.now()
        before, process.available = process.available, min(available, self.rules.client_limit)
        process.last_status = self._stirred = now
        if process.available < before:
            process.total += before - process.available
        if self._usage.change(before - process.available, now) and self._may_start():
            self._warn_near()
        if process.available == self.rules.client_limit:
            if not process.idle_since:
                process.idle_since = now
                self._arm(now + self.rules.idle_kill if self.rules.idle_kill else 0.0)
        else:
            process.idle_since = 0.0
        if (before > 0) != (process.available > 0):
            self.available += 1 if process.available else -1
            self._room_changed()

    def exited(self, pid: int, code: int, killed_by: int, core: bool | None = False) -> None:
        """A child is gone: by exit(code), or by a signal.  `core`: it left a dump; None: dumps are switched off."""
        process = self.processes.pop(pid, None)
        if process is None:
            return
        self._usage.change(process.available - self.rules.client_limit, self._ports.now())
        if process.available:
            self.available -= 1
        if not code and not killed_by and not process.last_status and self._may_start():
            # it would be started again at once, and so on
            self._ports.log_child(ERROR, pid, f"service({self.rules.name}): child {pid} exited without having "
                                              "reported to the master")
            self._failed(process)
        elif not code and not killed_by:
            self._clean_exit = True
            self.failures = 0
            self.throttle = 0.0
        elif not (killed_by and killed_by == process.sent):
            self._log_exit(pid, code, killed_by, core)
            self._failed(process)
        self._room_changed()

    def retire(self, *, by_admin: bool = False) -> None:
        """Never start anything again; the processes are told by their dead pipe."""
        self.by_admin = self.by_admin or by_admin
        self._not_full()
        self.state = State.STOPPED
        self._watch()

    def end(self) -> None:
        """The last process is gone for good: let go of what waits, and with it of this configuration."""
        for timer in (self._watchdog, self._look_timer):
            if timer is not None:
                timer.cancel()

    def kill_all(self, number: int) -> int:
        """Send a signal to every process; returns how many."""
        for process in self.processes.values():
            process.sent = number
            process.last_kill = self._ports.now()
            self._ports.signal(process.pid, number)
        return len(self.processes)

    def busy(self) -> int:
        """Connections that the processes have, as far as they have said."""
        return self._usage.used

    # --- forking ----------------------------------------------------------------------------------------------------

    def _fork(self) -> bool:
        generation = self._next_generation()
        try:
            pid = self._ports.fork(generation)
        except OSError as failure:
            self._ports.log_child(ERROR, 0, f"service({self.rules.name}): fork() failed: {failure.strerror}")
            self._throttle()
            return False
        now = self._ports.now()
        self.processes[pid] = Process(pid, generation, self.rules.client_limit, now)
        self.available += 1
        self.started += 1
        self._arm(now + FIRST_REPORT)
        return True

    def _refill(self) -> None:
        """Keep process_min_avail processes with room: one at once, the rest in batches; others get their turn."""
        if self._refilling or not self._may_start():
            return
        for _ in range(_BATCH if self.available else 1):
            if not self._is_short() or not self._fork():
                break
        if self._is_short() and self._may_start():
            self._refilling = True
            self._ports.call_later(0, self._refill_more)

    def _refill_more(self) -> None:
        self._refilling = False
        self._refill()
        self._watch()

    def _may_start(self) -> bool:
        return self.state not in (State.THROTTLED, State.STOPPED)

    def _is_short(self) -> bool:
        return self.available < self.rules.process_min_avail and len(self.processes) < self.rules.process_limit

    def _room_changed(self) -> None:
        """A process became full or free, or died."""
        if self.available or len(self.processes) < self.rules.process_limit:
            self._not_full()
        if self.available < self.rules.process_min_avail:
            self._refill()
        self._watch()

    def _watch(self) -> None:
        """Listeners are watched only while a waiting connection would be news."""
        wanted = (self.state is State.SERVING or self.state is State.LOOKING) and not self.available
        if wanted != self.watching:
            self.watching = wanted
            self._ports.watch(wanted)

    # --- process_limit reached --------------------------------------------------------------------------------------

    def _full(self) -> None:
        now = self._ports.now()
        if now - self._full_at > _EPISODE:
            self._full_since = now
        first = self._full_since == now
        self._full_at = now
        if self.rules.kind != "worker" or now - self._full_since > _WORKER_PATIENCE:
            self._warn_full(now)
        if self.rules.kind == "login":
            self._ports.notify_full(True)
            if now - self._signalled >= _SIGNAL_EVERY or not self._signalled:
                self._signalled = now
                for pid in self.processes:
                    self._ports.signal(pid, signal.SIGUSR1)
            # whoever has said anything since the signal is making room
            no_room = self._stirred <= self._signalled and self._full_since <= self._signalled <= now - _NO_ROOM_AFTER
            if no_room or now - self._full_since >= _DROP_AFTER:
                self._ports.drop_pending()
        elif not first:
            self._ports.drop_pending()
        self.state = State.FULL
        self._watch()
        if self._look_timer is None:
            self._look_timer = self._ports.call_later(_LOOK_AGAIN if self.rules.kind != "login" else _NO_ROOM_AFTER,
                                                      self._look_again)

    def _look_again(self) -> None:
        self._look_timer = None
        if self.state is State.FULL:
            self.state = State.LOOKING
            self._watch()

    def _not_full(self) -> None:
        if self.state is State.FULL or self.state is State.LOOKING:
            self.state = State.SERVING
            self._full_at = 0.0             # the next full moment is another episode: somebody was let in
            self._ports.notify_full(False)
        if self._look_timer is not None:
            self._look_timer.cancel()
            self._look_timer = None

    def _warn_full(self, now: float) -> None:
        if self.last_drop and now - self.last_drop < _WARN_EVERY:
            return
        self.last_drop = now
        self._ports.log(WARNING, f"service({self.rules.name}): {self._limit()} reached, client connections are being"
                                 " dropped")

    def _warn_near(self) -> None:
        self._ports.log(WARNING, f"service({self.rules.name}): {self._usage.used} of {self._usage.capacity} connections"
                                 f" in use, {self._limit()} will be reached soon")

    def _limit(self) -> str:
        """The limit that stops the service from taking more."""
        rules = self.rules
        if rules.process_limit > 1:
            return f"process_limit ({rules.process_limit})"
        if rules.service_count == 1:
            return "client_limit/service_count (1)"
        return f"client_limit ({rules.client_limit})"

    # --- failures ---------------------------------------------------------------------------------------------------

    def _log_exit(self, pid: int, code: int, killed_by: int, core: bool | None) -> None:
        name = self.rules.name
        if killed_by:
            text = f"child {pid} killed with signal {killed_by}"
            if core:
                text += " (core dumped)"
            elif killed_by in _CORE_SIGNALS:
                text += " (core dumps disabled)" if core is None else " (core not dumped)"
        elif code == 83:
            size = f"{self.rules.vsz_limit // 1048576} MB" if self.rules.vsz_limit else "unlimited"
            text = (f"child {pid} returned error 83 (Out of memory (service {name} {{ vsz_limit={size} }}, "
                    "you may need to increase it))")
        else:
            text = f"child {pid} returned error {code}{_CODE_WORDS.get(code, '')}"
        self._ports.log_child(FATAL, pid, f"service({name}): {text}")

    def _failed(self, process: Process) -> None:
        now = self._ports.now()
        self.last_failure = now
        if int(now) != self._fail_second:
            self._fail_second = int(now)
            self.failures = 0
        self.failures += 1
        # a client that can crash its own session must not be able to stop the service: one clean exit disarms this
        if not process.last_status or (not self._clean_exit and self.failures > _FAILURES_PER_SECOND):
            self._throttle()

    def _throttle(self) -> None:
        if not self._may_start():
            return
        self._not_full()
        self.throttle = min(self.throttle * 2, _THROTTLE_MAX) if self.throttle else _THROTTLE_FIRST
        self.state = State.THROTTLED
        self._ports.log_child(ERROR, 0, f"service({self.rules.name}): command startup failed, "
                                        f"throttling for {self.throttle:.3f} secs")
        self._watch()
        if not self.processes:
            self._ports.drop_pending()
        self._ports.call_later(self.throttle, self._unthrottle)

    def _unthrottle(self) -> None:
        if self.state is State.THROTTLED:
            self.state = State.SERVING
            self.start()

    # --- time -------------------------------------------------------------------------------------------------------

    def _arm(self, when: float) -> None:
        """One timer serves all processes.  It is never moved to a later time, so that the usual short life of a
        process costs no timer at all."""
        if not when or (self._watchdog is not None and self._watchdog_at <= when):
            return
        if self._watchdog is not None:
            self._watchdog.cancel()
        self._watchdog_at = when
        self._watchdog = self._ports.call_later(when - self._ports.now(), self._look_at_processes)

    def _look_at_processes(self) -> None:
        self._watchdog = None
        now = self._ports.now()
        idle_kill = self.rules.idle_kill
        spare = self.available - self.rules.process_min_avail
        due: list[float] = []
        ignoring: list[Process] = []
        for process in self.processes.values():
            if not process.last_status:
                if now - process.forked < FIRST_REPORT:
                    due.append(process.forked + FIRST_REPORT)
                elif process.sent != signal.SIGKILL:
                    self._ports.log_child(ERROR, process.pid, f"service({self.rules.name}): Initial status "
                                          "notification not received in 30 seconds, killing the process")
                    self._ports.signal(process.pid, signal.SIGKILL)
                    process.last_kill = now
            elif process.idle_since and idle_kill:
                if now - process.idle_since < idle_kill:
                    due.append(process.idle_since + idle_kill)
                elif process.last_kill > process.last_status + _IGNORED_AFTER:
                    self._ports.log(ERROR, f"service({self.rules.name}): Process {process.pid} is ignoring idle SIGINT")
                    ignoring.append(process)
                elif spare > 0 and self.state is not State.STOPPED:
                    spare -= 1
                    self._ports.signal(process.pid, signal.SIGINT)
                    process.last_kill = now
                    process.idle_since = now        # one that ignores it is asked again after another idle_kill
                    due.append(now + idle_kill)
                else:
                    due.append(now + idle_kill)
        for process in ignoring:            # it is taken to be busy, whatever it has said
            self.status(process.pid, process.generation, 0)
        if due:
            self._arm(min(due))
