"""The master: start, serve, reload, stop.

In: the path of a configuration.  Out: a running set of services and an exit code.  It owns the listeners, forks,
counts, reaps and signals; it speaks no protocol and accepts no connection but to throw it away.
What it decides about one service is in service.py, how a configuration becomes services in generation.py.
"""
from __future__ import annotations

import gc
import os
import signal
import sys
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

import mailproxy
from mailproxy.errors import EXIT_OK, ConfigInvalid, MailproxyError, Problem, describe
from mailproxy.log.pipe import ERROR, PANIC, WARNING
from mailproxy.master import environment, pidfile, signals, spawn
from mailproxy.master.control import Control
from mailproxy.master.generation import (
    LOG,
    Builder,
    Generation,
    Load,
    Plan,
    assemble,
    check,
    open_listeners,
)
from mailproxy.master.listen import Opening, Sockets
from mailproxy.master.masterlog import MasterLog
from mailproxy.master.service import Policy
from mailproxy.master.stopping import Stopping
from mailproxy.master.systemd import Manager
from mailproxy.master.unit import Unit
from mailproxy.net.loop import IN, Handler, Loop

#: A reload that may cut sessions waits this long before TERM, and as long again before KILL.
_RETIRE_TERM = 6.0
#: Retiring workers close a removed port themselves; after this long the master ends it for them.
_END_LISTENING = 0.2
#: So many internal errors within so many seconds: better a new master than this one.
_MAX_FAILURES = 10
_FAILURE_PERIOD = 1.0


class Master:
    """One running master.  `serve()` returns when it was told to stop."""

    def __init__(self, path: str, load: Load, table: Mapping[str, str], conf: Any, pid_file: pidfile.PidFile,
                 manager: Manager) -> None:
        self.path = path
        self._manager = manager
        self._load = load
        self._pid_file = pid_file
        self._base_dir: str = conf.view().core.base_dir
        self._loop = Loop()
        self._children: dict[int, Unit] = {}
        self._log = MasterLog(-1)
        self._sockets = Sockets()
        self._builder = Builder(table, self._loop, self._log, self._sockets, self._children)
        self._current: Generation | None = None
        self._retired: list[Generation] = []
        self._control: Control | None = None
        self._stopping: Stopping | None = None
        self._signal_fd = -1
        self._failures: deque[float] = deque(maxlen=_MAX_FAILURES)

    # --- start ------------------------------------------------------------------------------------------------------

    def adopt(self, sockets: Sockets, stdout: int) -> None:
        """Take over what the start has opened before there was a master."""
        self._sockets = self._builder.sockets = sockets
        self._builder.stdout = stdout

    def begin(self, conf: Any, plans: list[Plan], texts: list[str], notes: Iterable[str]) -> None:
        """The first generation starts."""
        sys.unraisablehook = spawn.unraisable
        self._signal_fd = signals.open_fd()
        self._loop.register(self._signal_fd, IN, self._signalled)
        self._loop.at_batch_end(self._log.flush)
        self._loop.on_failure = self._failed
        self._control = Control(self._base_dir, self._loop, self)
        self._switch(assemble(self._builder, conf, plans), texts)
        for note in notes:
            self._log.warning(note)
        self._log.flush()
        self._manager.begin(self._loop, self._summary)
        self._manager.ready()

    def serve(self) -> int:
        self._loop.run()
        return EXIT_OK

    def _switch(self, fresh: Generation, texts: list[str]) -> None:
        """The fresh generation takes over: the old one's listeners go to it, its log first."""
        old, self._current = self._current, fresh
        unused = self._log.move(fresh.master_pipe[1])
        if unused >= 0:
            os.close(unused)
        if old is not None:
            self._retire(old)
        gc.unfreeze()
        gc.collect()
        gc.freeze()                     # children share what the collector would otherwise write to
        for text in texts:
            self._log.info(text)
        fresh.units[LOG].begin()
        for unit in fresh.others():
            unit.begin()

    def _failed(self, fd: int, handler: Handler | None, failure: Exception) -> None:
        """A bug of ours: it is logged and the master goes on, unless it does nothing else any more."""
        self._log.write(PANIC, describe(failure))
        self._failures.append(self._loop.now)
        if len(self._failures) == _MAX_FAILURES and self._loop.now - self._failures[0] < _FAILURE_PERIOD:
            self._log.flush()
            raise failure

    def _summary(self) -> str:
        """For the service manager.  What retiring processes have, they do not say."""
        current = self._current.units.values() if self._current else ()
        sessions = sum(unit.policy.busy() for unit in current if unit.policy.rules.kind == "login")
        text = f"v{mailproxy.__version__} running: {len(self._children)} processes, {sessions} login connections"
        retiring = sum(len(unit.policy.processes) for old in self._retired for unit in old.others())
        return text + (f", {retiring} processes of older configurations" if retiring else "")

    def _generations(self) -> list[Generation]:
        return [*self._retired, *([self._current] if self._current else [])]

    # --- what the control socket asks -------------------------------------------------------------------------------

    def policies(self) -> Iterable[Policy]:
        return [unit.policy for unit in self._current.units.values()] if self._current else []

    def stop_service(self, name: str) -> bool:
        unit = self._current.units.get(name) if self._current else None
        if unit is None or name == LOG:
            return False
        unit.retire(by_admin=True)
        for listener in unit.listeners:
            for key in [key for key, sock in self._sockets.held.items() if sock is listener.socket]:
                self._loop.call_later(_END_LISTENING, self._sockets.release(key))
        unit.listeners = ()
        return True

    # --- signals ----------------------------------------------------------------------------------------------------

    def _signalled(self, mask: int) -> None:
        for arrival in signals.read(self._signal_fd):
            if arrival.number == signal.SIGCHLD:
                self._reap()
            elif arrival.number == signal.SIGHUP:
                self._reload()
            elif arrival.number in (signal.SIGTERM, signal.SIGINT):
                self._stop(f"Killed with signal {arrival.number} {arrival.origin}")
            elif arrival.number == signal.SIGUSR1:
                self._reopen_logs()

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if not pid:
                break
            unit = self._children.pop(pid, None)
            if unit is not None:
                unit.exited(pid, status)
        if self._stopping is not None:
            self._stopping.look()
        elif self._retired:
            self._bury()

    def _reopen_logs(self) -> None:
        for generation in self._generations():
            for pid in generation.units[LOG].policy.processes:
                spawn.send(pid, signal.SIGUSR1)

    # --- reload -----------------------------------------------------------------------------------------------------

    def _reload(self) -> None:
        """SIGHUP.  Whatever is wrong with the new configuration, the old one goes on."""
        if self._stopping is not None:
            return
        self._log.warning("SIGHUP received - reloading configuration")
        self._manager.reloading()
        opening: Opening | None = None
        try:
            conf, plans, warnings = self._prepare_reload()
            opening = open_listeners(plans, conf, self._sockets)
            if len(opening.errors) > len(opening.busy):     # a busy port may become free; nothing else heals by itself
                raise ConfigInvalid([Problem("", 0, text) for text in opening.errors])
            fresh = assemble(self._builder, conf, plans)
        except ConfigInvalid as failure:
            if opening is not None:
                opening.give_up()
            for problem in failure.problems:
                self._log.error(f"Error reading configuration: {problem}" if problem.path
                                else f"Config reload failed: {problem}")
            self._manager.ready()
            return
        except (MailproxyError, OSError) as failure:
            if opening is not None:
                opening.give_up()
            self._log.error(f"Config reload failed: {failure}")
            self._manager.ready()
            return
        self._switch(fresh, ["Configuration reloaded"])
        for end in self._sockets.retain(opening.wanted):
            # the retiring workers get the word first; a listener that ends under them would look like a fault
            self._loop.call_later(_END_LISTENING, end)
        for text in [*conf.warnings, *warnings, *opening.warnings, *opening.errors]:
            self._log.write(ERROR if text in opening.errors else WARNING, text)
        self._manager.ready()

    def _prepare_reload(self) -> tuple[Any, list[Plan], list[str]]:
        conf = self._load(self.path)
        base_dir = conf.view().core.base_dir
        if base_dir != self._base_dir:
            raise MailproxyError(f"base_dir can't be changed by a reload ({self._base_dir} -> {base_dir})")
        environment.add(conf.view().core.import_environment)
        return conf, *check(conf, self._builder.table)

    def _retire(self, old: Generation) -> None:
        for unit in old.others():
            unit.retire()
        self._retired.append(old)
        fresh = self._current
        if fresh is not None and fresh.cut_on_stop:
            old.deadlines = [
                self._loop.call_later(_RETIRE_TERM, lambda: self._cut(old, fresh, signal.SIGTERM, "SIGTERM")),
                self._loop.call_later(2 * _RETIRE_TERM, lambda: self._cut(old, fresh, signal.SIGKILL, "SIGKILL"))]
        self._loop.call_later(0, self._bury)

    def _cut(self, old: Generation, fresh: Generation, number: int, name: str) -> None:
        """Programs that hold no sessions may never have heard of a dead pipe: they are told by signal.  Everybody
        else only if sessions may be cut."""
        if old not in self._retired:
            return
        count = sum(unit.policy.kill_all(number) for unit in old.others()
                    if fresh.cut_on_retire or unit.deaf)
        if count:
            self._log.warning(f"Processes aren't dying after reload, sent {name} to {count} processes.")

    def _bury(self) -> None:
        """Generations whose last process is gone: their log process ends by itself when our copies are closed."""
        for generation in [old for old in self._retired if old.idle()]:
            generation.units[LOG].policy.retire()
            generation.close_log_pipes()
            if not generation.units[LOG].policy.processes:
                generation.close()
                self._retired.remove(generation)

    # --- stop -------------------------------------------------------------------------------------------------------

    def _stop(self, text: str) -> None:
        if self._stopping is not None:
            return
        self._log.warning(text)
        self._manager.stopping()
        if self._control is not None:
            self._control.close()
        cut = self._current is None or self._current.cut_on_stop
        self._stopping = Stopping(self._generations(), self._loop, self._log, cut)
        self._stopping.begin()

    def finish(self) -> None:
        """After serve(): ports free, pid file gone."""
        for end in self._sockets.retain(set()):
            end()
        self._pid_file.remove()
        self._manager.stopped()
