"""The auth side of auth-workers: a pool of connections, one request on each at a time.

In: lookups of blocking databases.  Out: their answers, in the loop's thread, exactly once each.  The auth process never
waits: connections are made without blocking, requests queue when all are busy, and time limits end what hangs.  A
request whose worker dies is given to another one once; then it is an internal failure.
"""
from __future__ import annotations

import socket
from collections import deque
from collections.abc import Callable

from mailproxy.auth import workerwire
from mailproxy.auth.passdb.driver import Answer, failure
from mailproxy.auth.request import Request
from mailproxy.auth.sections import Section
from mailproxy.auth.usersections import UserSection
from mailproxy.errors import ProtocolError
from mailproxy.ipc.authwire import Lines, encode, unescape
from mailproxy.log.pipe import Log
from mailproxy.net.loop import IN, OUT, Loop, Timer, quiet_close

#: Seconds: a lookup, a list of all users, waiting in the queue, a queue worth mentioning, an unused connection, between
#: two mentions.
LOOKUP_TIMEOUT = 60.0
LIST_TIMEOUT = 1800.0
QUEUE_TIMEOUT = 60.0
QUEUE_WARNING = 3.0
IDLE_TIMEOUT = 300.0
WARNING_INTERVAL = 300.0
#: Requests waiting for a worker; beyond, they fail at once.
MAX_QUEUE = 100_000
_TRIES = 2
_READ = 65536

#: None: the worker died or took too long.
Reply = Callable[["list[str] | None", str], None]


class _Job:
    """`make` builds the line for an id.  `more`: where the names of a list go."""

    __slots__ = ("done", "make", "more", "since", "tries")

    def __init__(self, make: Callable[[int], str], done: Reply, since: float,
                 more: Callable[[str], None] | None = None) -> None:
        self.make = make
        self.done = done
        self.since = since
        self.more = more
        self.tries = 0


class Listing:
    """A list on its way: the reader may make it wait."""

    __slots__ = ("_pool", "worker")

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self.worker: _Worker | None = None

    def pause(self) -> None:
        if self.worker is not None:
            self.worker.read(False)

    def resume(self) -> None:
        if self.worker is not None:
            self.worker.read(True)

    def stop(self) -> None:
        """The rest is not wanted: the worker is cut off rather than listened to."""
        if self.worker is not None:
            self._pool.lost(self.worker, "the list was given up", retry=False)


class _Worker:
    """One connection.  `up`: the worker has greeted; before that, it may be waiting for a process to take it."""

    __slots__ = ("_lines", "_number", "_out", "_pool", "_timer", "job", "last", "socket", "up")

    def __init__(self, pool: Pool, connection: socket.socket) -> None:
        self._pool = pool
        self.socket = connection
        self._lines = Lines(workerwire.MAX_LINE)
        self._out = b""
        self._number = 0
        self._timer: Timer | None = None
        self.job: _Job | None = None
        self.up = self.last = False

    def send(self, line: str) -> None:
        self._out += encode(line) + b"\n"
        self._write()

    def _write(self) -> None:
        try:
            sent = self.socket.send(self._out)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self._pool.lost(self, error.strerror or str(error))
            return
        waiting = bool(self._out[sent:])
        if waiting or sent < len(self._out) or self._out == b"":
            self._pool.loop.modify(self.socket.fileno(), IN | OUT if waiting else IN)
        self._out = self._out[sent:]

    def start(self, job: _Job) -> None:
        self._stop_timer()
        self.job = job
        job.tries += 1
        self._number += 1
        self._timer = self._pool.loop.call_later(
            LOOKUP_TIMEOUT if job.more is None else LIST_TIMEOUT,
            lambda: self._pool.lost(self, "Lookup timed out", retry=False))
        self.send(job.make(self._number))

    def read(self, on: bool) -> None:
        """Take in what the worker sends, or let it wait."""
        if self.socket.fileno() >= 0:
            self._pool.loop.modify(self.socket.fileno(), (IN if on else 0) | (OUT if self._out else 0))

    def rest(self) -> None:
        self._timer = self._pool.loop.call_later(IDLE_TIMEOUT, lambda: self._pool.retire(self))

    def ready(self, mask: int) -> None:
        if mask & OUT:
            was = self._out
            self._write()
            if was and not self._out and self.socket.fileno() >= 0:
                self._pool.loop.modify(self.socket.fileno(), IN)
            if self.socket.fileno() < 0:
                return
        try:
            data = self.socket.recv(_READ)
            lines = self._lines.feed(data) if data else []
        except BlockingIOError:
            return
        except OSError as error:
            self._pool.lost(self, error.strerror or str(error))
            return
        except ProtocolError as error:
            self._pool.lost(self, str(error))
            return
        if not data:
            self._pool.lost(self, "disconnected")
            return
        for line in lines:
            self._line(line)

    def _line(self, line: str) -> None:
        number, *fields = line.split("\t")
        if number == "VERSION" and not self.up:
            self.up = True
            self._pool.free(self)
            return
        if number == workerwire.RESTART:
            self.last = True
            return
        if self.job is None or number != str(self._number):
            return                                      # the end of a request that was given up
        if fields[:1] == ["*"] and self.job.more is not None:
            self.job.more(unescape(fields[1]) if len(fields) > 1 else "")
            return
        job, self.job = self.job, None
        self._stop_timer()
        self._pool.free(self)
        job.done(fields, "")

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def close(self) -> None:
        self._stop_timer()
        if self.socket.fileno() >= 0:
            self._pool.loop.unregister(self.socket.fileno())
            quiet_close(self.socket)


class Pool:
    """`path`: the workers' socket; `most`: connections at once (auth_worker_max_count)."""

    __slots__ = ("_hash", "_idle", "_log", "_most", "_path", "_queue", "_queue_timer", "_warned", "_workers", "loop")

    def __init__(self, loop: Loop, log: Log, path: str, most: int, fingerprint: str) -> None:
        self.loop = loop
        self._log = log
        self._path = path
        self._most = max(most, 1)
        self._hash = fingerprint
        self._workers: set[_Worker] = set()
        self._idle: list[_Worker] = []
        self._queue: deque[_Job] = deque()
        self._queue_timer: Timer | None = None
        self._warned = float("-inf")

    # -- what steps ask for ---------------------------------------------------------------------------------------

    def lookup(self, section: Section, request: Request, check: bool, done: Callable[[Answer], None]) -> None:
        values = {name: request[name] for name in section.needs}
        values["orig_user"] = request["orig_user"]      # schemes that hold a name hold this one
        password = request.password

        def make(number: int) -> str:
            return workerwire.lookup(number, section.number, check, password, values)

        def answered(fields: list[str] | None, reason: str) -> None:
            if fields is None:
                done(failure(reason))
                return
            try:
                answer = workerwire.parse_answer(fields)
            except ProtocolError as error:
                answer = failure(f"auth-worker {error}")
            done(answer)
        self._submit(_Job(make, answered, self.loop.now))

    def verify(self, request: Request, stored: str, done: Callable[[bool | None, str], None]) -> None:
        password, user = request.password, request.original_user or ""

        def make(number: int) -> str:
            return workerwire.verify(number, password, stored, user)

        def answered(fields: list[str] | None, reason: str) -> None:
            if fields is None or len(fields) < 2:
                done(None, reason or "auth-worker sent a broken answer")
            else:
                done({"1": True, "0": False}.get(fields[0]), unescape(fields[1]))
        self._submit(_Job(make, answered, self.loop.now))

    def look_up_user(self, section: UserSection, request: Request, done: Callable[[Answer], None]) -> None:
        values = {name: request[name] for name in section.needs}

        def answered(fields: list[str] | None, reason: str) -> None:
            try:
                done(failure(reason) if fields is None else workerwire.parse_answer(fields))
            except ProtocolError as error:
                done(failure(f"auth-worker {error}"))
        self._submit(_Job(lambda number: workerwire.user(number, section.number, values), answered, self.loop.now))

    def list_users(self, section: UserSection, values: dict[str, str], more: Callable[[str], None],
                   done: Callable[[str | None], None]) -> Listing:
        """`more` for each name; `done` with None at the end, or with what went wrong."""
        listing = Listing(self)

        def make(number: int) -> str:
            listing.worker = next(worker for worker in self._workers if worker.job is job)
            return workerwire.users(number, section.number, values)

        def answered(fields: list[str] | None, reason: str) -> None:
            listing.worker = None
            if fields is None or len(fields) < 2:
                done(reason or "auth-worker sent a broken answer")
            else:
                done(None if fields[0] == "1" else unescape(fields[1]))
        job = _Job(make, answered, self.loop.now, more)
        job.tries = _TRIES - 1              # half a list cannot be begun again
        self._submit(job)
        return listing

    def make(self, stored: str, scheme: str, user: str, salt: bytes, done: Callable[[bytes | None, str], None]) -> None:
        """What is stored in another scheme."""
        def answered(fields: list[str] | None, reason: str) -> None:
            if fields is None or len(fields) < 2:
                done(None, reason or "auth-worker sent a broken answer")
            elif fields[0] == "1":
                done(encode(unescape(fields[1])), "")
            else:
                done(None, unescape(fields[1]))
        self._submit(_Job(lambda number: workerwire.make(number, stored, scheme, user, salt), answered, self.loop.now))

    def replace(self, section: Section, request: Request, stored: str, done: Callable[[str], None]) -> None:
        """Write a new password; `done` with what went wrong, "" for nothing."""
        values = {name: request[name] for name in getattr(section.driver, "update_variables", ())}

        def answered(fields: list[str] | None, reason: str) -> None:
            done(reason if fields is None else unescape(fields[0]))
        job = _Job(lambda number: workerwire.replace(number, section.number, stored, values), answered, self.loop.now)
        job.tries = _TRIES - 1              # nobody knows whether a worker that died had written it
        self._submit(job)

    def policy(self, command: str, body: str, done: Callable[[int, str, str], None]) -> None:
        """The policy server's status and message, and what went wrong."""
        def answered(fields: list[str] | None, reason: str) -> None:
            if fields is None or len(fields) < 3 or fields[0] not in workerwire.POLICY_STATUSES:
                done(0, "", reason or "auth-worker sent a broken answer")
            else:
                done(int(fields[0]), unescape(fields[1]), unescape(fields[2]))
        job = _Job(lambda number: workerwire.policy(number, command, body), answered, self.loop.now)
        self._submit(job)

    # -- the pool -------------------------------------------------------------------------------------------------

    def _submit(self, job: _Job) -> None:
        if self._idle:
            self._idle.pop().start(job)
            return
        if len(self._queue) >= MAX_QUEUE:
            job.done(None, f"more than {MAX_QUEUE} auth requests are queued for auth-workers")
            return
        self._queue.append(job)
        self._grow()
        if self._queue and self._queue_timer is None:
            self._queue_timer = self.loop.call_later(1.0, self._age)

    def _grow(self) -> None:
        """A request never waits for one certain worker: whoever is free first takes the next."""
        coming = sum(not worker.up for worker in self._workers)
        if len(self._workers) < self._most and coming < len(self._queue):
            self._connect()
        if not self._workers:
            waiting, self._queue = self._queue, deque()
            for job in waiting:
                job.done(None, f"no auth-worker can be reached through {self._path}")

    def _connect(self) -> None:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            connection.connect(self._path)
        except OSError as error:            # also EAGAIN: the listen queue is full, the others have to do
            self._log.error(f"connect({self._path}) failed: {error.strerror}")
            connection.close()
            return
        worker = _Worker(self, connection)
        self._workers.add(worker)
        self.loop.register(connection.fileno(), IN, worker.ready)
        worker.send(f"{workerwire.HELLO}\nDBHASH\t{self._hash}")

    def free(self, worker: _Worker) -> None:
        """The worker has answered: the next request, or rest."""
        if worker.last:
            self.lost(worker, "")
        elif self._queue:
            worker.start(self._queue.popleft())
        else:
            self._idle.append(worker)
            worker.rest()

    def lost(self, worker: _Worker, reason: str, retry: bool = True) -> None:
        """The worker died, or hangs."""
        if worker not in self._workers:
            return
        self._workers.discard(worker)
        if worker in self._idle:
            self._idle.remove(worker)
        worker.close()
        job, worker.job = worker.job, None
        if job is not None:
            if retry and job.tries < _TRIES:
                job.since = self.loop.now
                self._log.warning(f"auth-worker: {reason}, the request is given to another worker")
                self._submit(job)
            else:
                job.done(None, f"auth-worker: Aborted PASSV request: {reason}")
        if self._queue:
            self._grow()

    def retire(self, worker: _Worker) -> None:
        """Unused for long; one always stays."""
        if len(self._workers) > 1 and worker in self._idle:
            self._idle.remove(worker)
            self._workers.discard(worker)
            worker.close()
        else:
            worker.rest()

    def _age(self) -> None:
        """Once a second while something waits."""
        now = self.loop.now
        while self._queue and now - self._queue[0].since > QUEUE_TIMEOUT:
            job = self._queue.popleft()
            job.done(None, f"Aborting auth request that was queued for {now - job.since:.0f} secs, "
                           f"{len(self._queue)} left in queue")
        if self._queue and now - self._queue[0].since >= QUEUE_WARNING and now - self._warned >= WARNING_INTERVAL:
            self._warned = now
            self._log.error(f"Auth request was queued for {now - self._queue[0].since:.0f} seconds, "
                            f"{len(self._queue)} left in queue (see auth_worker_max_count)")
        self._queue_timer = self.loop.call_later(1.0, self._age) if self._queue else None

    def close(self) -> None:
        for worker in list(self._workers):
            worker.close()
        self._workers.clear()


