"""The end of a master: who is told what, and how long it waits.

In: all generations.  Out: their processes told to finish, and the loop stopped in bounded time.  Login workers get
TERM when sessions may be cut (shutdown_clients), else QUIT, and then go on without a master until their last session
ends, with the auth and log processes that they still use.
"""
from __future__ import annotations

import os
import signal

from mailproxy.master.generation import LOG, Generation
from mailproxy.master.masterlog import MasterLog
from mailproxy.master.unit import Unit
from mailproxy.net.loop import Loop

#: Who serves the login workers is told after them, so that farewells can still be logged and answered.
_HELPERS_AFTER = 1.0
_KILL_AFTER = 5.0
#: Without cutting sessions: time for the workers to close their listeners.
_LEAVE_AFTER = 1.0
#: After the last other process the log process needs a moment to write what it has.
_LOG_GRACE = 2.0


class Stopping:
    """Runs once."""

    __slots__ = ("_cut", "_done", "_generations", "_log", "_log_told", "_loop")

    def __init__(self, generations: list[Generation], loop: Loop, log: MasterLog, cut: bool) -> None:
        self._generations = generations
        self._loop = loop
        self._log = log
        self._cut = cut
        self._log_told = False
        self._done = False

    def begin(self) -> None:
        for unit in self._units():
            unit.retire()
            if unit.policy.rules.kind == "login":
                unit.policy.kill_all(signal.SIGTERM if self._cut else signal.SIGQUIT)
        if self._cut:
            self._loop.call_later(_HELPERS_AFTER, self._term_helpers)
            self._loop.call_later(_KILL_AFTER, self._kill)
        else:
            self._loop.call_later(_LEAVE_AFTER, self._leave)
        self._loop.call_later(0, self.look)

    def look(self) -> None:
        """A child is gone, or time passed: are we through?"""
        if self._done:
            return
        if any(not generation.idle() for generation in self._generations):
            if self._cut and not self._log_told and not self._login_left():
                self._term_helpers()
            return
        if not self._log_told:
            self._end_log()
        if not any(generation.units[LOG].policy.processes for generation in self._generations):
            self._end()

    def _units(self) -> list[Unit]:
        return [unit for generation in self._generations for unit in generation.others()]

    def _login_left(self) -> bool:
        return any(unit.policy.processes for unit in self._units() if unit.policy.rules.kind == "login")

    def _term_helpers(self) -> None:
        for unit in self._units():
            if unit.policy.rules.kind != "login":
                for process in unit.policy.processes.values():
                    if process.sent != signal.SIGTERM:
                        process.sent = signal.SIGTERM
                        unit.signal(process.pid, signal.SIGTERM)

    def _kill(self) -> None:
        count = sum(unit.policy.kill_all(signal.SIGKILL) for unit in self._units())
        if count:
            self._log.warning(f"Processes aren't dying, sent SIGKILL to {count} processes.")
        self._loop.call_later(_LEAVE_AFTER, self._leave)

    def _leave(self) -> None:
        """Whoever is left goes on alone; without sessions to keep, nobody is."""
        if not self._done:
            self._end_log()

    def _end_log(self) -> None:
        """Our copies of the pipes are closed: the log process ends with its last writer."""
        if self._log_told:
            return
        self._log_told = True
        self._log.flush()
        written = self._log.move(-1)
        if written >= 0:
            os.close(written)
        for generation in self._generations:
            generation.units[LOG].policy.retire()
            generation.close_log_pipes()
        if any(not generation.idle() for generation in self._generations):
            self._end()                 # the log process stays for those who stay
        else:
            self._loop.call_later(_LOG_GRACE, self._end)

    def _end(self) -> None:
        self._done = True
        self._loop.stop()
