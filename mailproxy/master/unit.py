"""One service as it runs: its policy joined with its pipes, its listeners and its launch.

In: what the policy decides.  Out: forks, signals, log lines; this is the policy's Ports.
It must not decide anything.
"""
from __future__ import annotations

import os
import signal
from collections.abc import Callable

from mailproxy.ipc.contract import Listener, News
from mailproxy.master import listen, spawn
from mailproxy.master.masterlog import MasterLog
from mailproxy.master.service import Policy, Rules
from mailproxy.master.status import StatusPipe
from mailproxy.net.loop import IN, Loop, Timer


class Unit:
    """Implements master.service.Ports."""

    __slots__ = ("_children", "_dead_read", "_log", "_loop", "_news_fd", "_news_timer", "dead_write", "deaf", "launch",
                 "listeners", "notify_fd", "policy", "status")

    def __init__(self, rules: Rules, listeners: tuple[Listener, ...], loop: Loop, log: MasterLog, *,
                 children: dict[int, Unit], generations: Callable[[], int], has_news: bool = False) -> None:
        self.policy = Policy(rules, self, generations)
        self.listeners = listeners
        self.launch: spawn.Launch | None = None         # set before the first event
        self._news_timer: Timer | None = None
        self.deaf = False               # a program without sessions: it may know nothing of dead pipes
        self.status = StatusPipe(self.policy.status)
        self._loop = loop
        self._dead_read = self.dead_write = self.notify_fd = self._news_fd = -1
        try:
            self._dead_read, self.dead_write = os.pipe()
            if has_news or rules.kind == "login":
                # the offset of this file is the message; it is shared by everybody who inherited the descriptor
                self._news_fd = os.memfd_create("notify")
                os.fchmod(self._news_fd, 0o600)
                # what one child could write, the others would believe
                self.notify_fd = os.open(f"/proc/self/fd/{self._news_fd}", os.O_RDONLY)
        except OSError:
            self.close()
            raise
        self._log = log
        self._children = children

    def descriptors(self) -> list[int]:
        """What a child of this service keeps, besides its log."""
        fds = [self.status.write_fd, self.dead_write, *(listener.socket.fileno() for listener in self.listeners)]
        return fds + ([self.notify_fd] if self.notify_fd >= 0 else [])

    def begin(self) -> None:
        self._loop.register(self.status.read_fd, IN, self.status.readable)
        self.policy.start()
        assert self.launch is not None
        renew: Callable[[], News] | None = getattr(self.launch.prepared, "renew", None)
        if renew is not None:
            self._news_timer = self._loop.call_later(0, lambda: self._renew(renew))

    def _renew(self, renew: Callable[[], News]) -> None:
        """Ask what has changed, and tell those who run."""
        news = renew()
        for kind, text in news.lines:
            self._log.write(kind, text)
        if news.data and self._news_fd >= 0:
            os.pwrite(self._news_fd, news.data, os.fstat(self._news_fd).st_size)
            for pid in self.policy.processes:
                spawn.send(pid, signal.SIGUSR1)
        self._news_timer = self._loop.call_later(news.again, lambda: self._renew(renew))

    def retire(self, *, by_admin: bool = False) -> None:
        """Nothing is started any more, and the processes learn that their generation is over."""
        self.policy.retire(by_admin=by_admin)
        if self._news_timer is not None:
            self._news_timer.cancel()
        if self._dead_read >= 0:
            os.close(self._dead_read)
            self._dead_read = -1

    def close(self) -> None:
        """The last process is gone.  The listeners belong to the master."""
        self.policy.end()
        self._loop.unregister(self.status.read_fd)
        self.status.close()
        for fd in (self.dead_write, self.notify_fd, self._news_fd, self._dead_read):
            if fd >= 0:
                os.close(fd)
        self._dead_read = -1

    def exited(self, pid: int, status: int) -> None:
        """waitpid(2) found one of ours."""
        process = self.policy.processes.get(pid)
        if status or (process is not None and not process.last_status):
            self.status.readable(0)     # its last report may still be in the pipe: did it ever report?
        self.policy.exited(pid, *spawn.exit_status(status), spawn.core_of(status))

    # --- Ports ------------------------------------------------------------------------------------------------------

    def now(self) -> float:
        return self._loop.now

    def fork(self, generation: int) -> int:
        assert self.launch is not None
        pid = spawn.fork(self.launch, generation)
        self._children[pid] = self
        return pid

    def signal(self, pid: int, number: int) -> None:
        spawn.send(pid, number)

    def watch(self, on: bool) -> None:
        for listener in self.listeners:
            if on:
                self._loop.register(listener.socket.fileno(), IN, self._waiting)
            else:
                self._loop.unregister(listener.socket.fileno())

    def drop_pending(self) -> None:
        assert self.launch is not None
        listen.drop_pending(self.listeners, getattr(self.launch.prepared, "refusal", b""))

    def notify_full(self, full: bool) -> None:
        if self.notify_fd >= 0:
            os.lseek(self.notify_fd, int(full), os.SEEK_SET)

    def call_later(self, delay: float, call: Callable[[], None]) -> Timer:
        return self._loop.call_later(delay, call)

    def log(self, kind: int, text: str) -> None:
        self._log.write(kind, text)

    def log_child(self, kind: int, pid: int, text: str) -> None:
        self._log.about_child(kind, self.policy.rules.name, pid, f"master: {text}")

    def _waiting(self, mask: int) -> None:
        if len(self.policy.processes) >= self.policy.rules.process_limit:
            self.status.readable(0)     # before we call it full: the word of a free place may have come with this event
        self.policy.connection_waiting()
