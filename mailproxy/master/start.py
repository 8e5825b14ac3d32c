"""The start of a master: everything that can fail, in order, before anything runs.

In: the path of a configuration.  Out: an exit code; with a master that serves in between.  Every fatal error is said on
standard error and, once it is known where that is, in the log.
"""
from __future__ import annotations

import errno
import gc
import os
import resource
import sys
import time
from collections.abc import Mapping
from typing import Any

import mailproxy
from mailproxy.errors import EXIT_FATAL, EXIT_LOG_OPEN, EXIT_OK, ConfigInvalid, MailproxyError, describe
from mailproxy.log import sink
from mailproxy.log.format import Stamp, heads
from mailproxy.log.pipe import ERROR, FATAL, PANIC, sanitise
from mailproxy.log.sink import settings_of
from mailproxy.master import directories, environment, pidfile, roles, signals, spawn, systemd, traces
from mailproxy.master.generation import Load, Plan, check, open_listeners, rules_of, settle_tls
from mailproxy.master.listen import Sockets
from mailproxy.master.run import Master


def start_line(conf: Any) -> str:
    names = [name for name in conf.protocols if name in roles.PROTOCOLS]
    what = f"for {', '.join(names)}" if names else "without any protocols"
    cores = " (core dumps disabled)" if resource.getrlimit(resource.RLIMIT_CORE)[0] == 0 else ""
    return f"mailproxy v{version()} starting up {what}{cores}"


def version() -> str:
    return str(getattr(mailproxy, "__version__", "0"))


def size_notes(plans: list[Plan]) -> list[str]:
    """How many sessions the limits allow, before production finds out."""
    notes = []
    for plan in plans:
        rules = rules_of(plan.service)
        if rules.kind == "login" and rules.service_count == 1:
            notes.append(f"service({rules.name}): at most {rules.process_limit} sessions at the same time "
                         f"(service_count=1, process_limit={rules.process_limit})")
    return notes


def run(path: str, load: Load, *, foreground: bool, table: Mapping[str, str] = roles.ROLES) -> int:
    """Start a master and serve; returns the exit code.  In the background the caller's process returns as soon as the
    ports are bound and everything is started."""
    conf: Any = None
    pid_file: pidfile.PidFile | None = None
    try:
        conf = load(path)
        settle_tls(conf)                # may start this program again, which then needs all of its environment
        sockets = Sockets(lent=systemd.lent_sockets(os.environ))
        manager = systemd.Manager(os.environ)
        environment.clean(conf.view().core.import_environment)
        settings = settings_of(conf)
        try:
            sink.check(settings)
        except OSError as failure:
            _complain(f"Fatal: Can't open log file {failure.filename}: {failure.strerror}")
            return EXIT_LOG_OPEN
        core = conf.view().core
        _check_base_dir(core.base_dir)
        notes = directories.prepare(core)
        pid_file = pidfile.PidFile(os.path.join(core.base_dir, "master.pid"))
        pid_file.lock()
        last = traces.take_lastlog(core.base_dir)
        if last:
            _complain(f"Last died with error (see error log for more information): {last}")
        master = Master(os.path.abspath(path), load, table, conf, pid_file, manager)
        return _start(master, conf, check(conf, table), sockets, pid_file, notes=notes, foreground=foreground)
    except ConfigInvalid as failure:
        if pid_file is not None:
            pid_file.remove()
        return _fatal(conf, [f"Fatal: {problem}" for problem in failure.problems])
    except MailproxyError as failure:
        if pid_file is not None and not isinstance(failure, pidfile.AlreadyRunning):
            pid_file.remove()
        return _fatal(conf, [f"Fatal: {failure}"])


def _check_base_dir(base_dir: str) -> None:
    if not os.path.isabs(base_dir):
        raise MailproxyError(f"base_dir must be an absolute path: {base_dir}")


def _start(master: Master, conf: Any, checked: tuple[list[Plan], list[str]], sockets: Sockets,
           pid_file: pidfile.PidFile, *, notes: list[str], foreground: bool) -> int:
    core = conf.view().core
    plans, warnings = checked
    opening = open_listeners(plans, conf, sockets)
    if opening.errors:
        opening.give_up()
        pid_file.remove()
        return _fatal(conf, [*(f"Error: {text}" for text in opening.errors), "Fatal: Failed to start listeners"])
    os.chdir(core.base_dir)
    os.umask(0o077)
    stdout = _null_streams(foreground=foreground)
    tell = -1
    if not foreground:
        tell = _daemonise()
    signals.block()
    if os.geteuid() != 0:
        signals.hide_memory()
    gc.disable()
    pid_file.write()
    directories.link_config(core.base_dir, master.path)
    unwritten = traces.remember_instance(core.state_dir, core.instance_name, core.base_dir, master.path)
    master.adopt(sockets, stdout)
    notes = [*conf.warnings, *notes, *warnings, *opening.warnings, *sockets.return_lent()]
    if unwritten:
        notes.append(unwritten)
    if not spawn.titles_available():
        notes.append("the library setproctitle is missing, process titles stay as they are "
                     "(package python3-setproctitle)")
    master.begin(conf, plans, [start_line(conf), *size_notes(plans)], notes)
    if tell >= 0:
        os.write(tell, b"+")
        os.close(tell)
    try:
        code = master.serve()
    except Exception as failure:
        traces.leave_lastlog(core.base_dir, describe(failure))
        _log_directly(settings_of(conf), PANIC, [describe(failure)])
        pid_file.remove()
        return EXIT_FATAL
    master.finish()
    return code


def _null_streams(*, foreground: bool) -> int:
    """Descriptors 0 and 1 become /dev/null here, once, instead of in every child; returns the real standard output
    for the log process."""
    sys.stdout.flush()
    stdout = os.dup(1) if foreground else -1
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    if null > 2:
        os.close(null)
    return stdout


def _daemonise() -> int:
    """The parent waits for the word that all is started, then leaves with exit code 0.  Returns, in the child, where
    to say that word."""
    read_fd, write_fd = os.pipe()
    if os.fork():
        os.close(write_fd)
        ready = os.read(read_fd, 1)
        os._exit(EXIT_OK if ready else EXIT_FATAL)
    os.close(read_fd)
    os.setsid()
    os.dup2(0, 2)
    return write_fd


def _fatal(conf: Any, lines: list[str]) -> int:
    """Say it on standard error and, as far as there is one, in the log."""
    for line in lines:
        _complain(line)
    if conf is None:
        return EXIT_FATAL
    try:
        settings = settings_of(conf)
        if settings.log_path in ("/dev/stderr", "/dev/stdout"):
            return EXIT_FATAL
        for kind, target in ((ERROR, "Error: "), (FATAL, "Fatal: ")):
            _log_directly(settings, kind, [line.removeprefix(target) for line in lines if line.startswith(target)])
    except (OSError, MailproxyError) as failure:
        _complain(f"Error: the log can't be written: {failure}")
    return EXIT_FATAL


def _log_directly(settings: sink.Settings, kind: int, texts: list[str]) -> None:
    if not texts:
        return
    target = sink.open_sinks(settings)[kind]
    stamp = Stamp(settings.log_timestamp).at(time.time())
    for text in texts:
        target.put(kind, stamp, heads("master")[kind], sanitise(text).encode("utf-8", "backslashreplace"))
    target.flush()


def _complain(text: str) -> None:
    try:
        os.write(2, sanitise(text).encode("utf-8", "backslashreplace") + b"\n")
    except OSError as failure:
        if failure.errno not in (errno.EBADF, errno.EPIPE):
            raise
