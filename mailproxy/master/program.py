"""Services that are programs of their own: the fork that ends in exec(2).

In: a Child, as every role gets it, and the Program that was checked in the master.  Out: the program, running with the
descriptors and the environment that Dovecot 2.3's master gives to its children:

    0, 1 /dev/null    2 the log pipe    3 anvil, or /dev/null    4 the notify file of a login service
    5 the status pipe    6 the dead pipe    7... the listeners in the order of the configuration

Dovecot's own programs, those of libexec_dir, give up root by themselves, as RESTRICT_SETUID and its like tell them.
Any other program is started without it: one that never heard of RESTRICT_SETUID would stay root.
"""
from __future__ import annotations

import fcntl
import os
import signal
import socket
from dataclasses import dataclass, field, replace
from typing import Any

from mailproxy.config import mail
from mailproxy.config.schema.builtin import SERVICES
from mailproxy.errors import EXIT_EXEC, ConfigInvalid, Problem
from mailproxy.ipc.contract import Child
from mailproxy.log.pipe import Log
from mailproxy.master import environment, identity
from mailproxy.master.identity import Identity

_LOG, _ANVIL, _NOTIFY, _STATUS, _DEAD, _FIRST_LISTENER = range(2, 8)
_NEVER = 4294967295
#: Seconds that a program waits for anvil before it starts without it.
_ANVIL_PATIENCE = 1.0
#: Of Dovecot's own services with Dovecot's own programs these make sense in front of a proxy.
_USEFUL = frozenset({"health-check"})
#: Dispositions that the master or its interpreter has changed and exec(2) would keep.
_RESTORED = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGPIPE, signal.SIGXFSZ)


@dataclass(frozen=True, slots=True)
class Program:
    """What to execute.  `environ` lacks only what differs from child to child.  `stock`: it comes with Dovecot;
    `for_mail`: it serves users, whose sessions anvil counts; Dovecot's own asks the config service for settings."""

    path: str
    argv: tuple[str, ...]
    stock: bool
    environ: dict[str, str] = field(default_factory=dict)
    for_mail: bool = False


def is_stock(service: Any) -> bool:
    """One of Dovecot's own services with Dovecot's own program: a proxy has no use for it."""
    builtin = SERVICES.get(service.name)
    executable = service.executable.split()
    if builtin is None or not executable:
        return not executable
    return service.name not in _USEFUL and os.path.basename(executable[0]) == builtin.settings["executable"].split()[0]


def find(service: Any, conf: Any, title: str, *, for_mail: bool) -> Program | str:
    """The program of a service, or why it cannot be had; ConfigInvalid if the configuration is wrong about it.
    `title`: the instance's, for ps."""
    core = conf.view().core
    _, *arguments = service.executable.split()
    path = mail.program_path(service, core.libexec_dir)
    stock = os.path.dirname(path) == core.libexec_dir.rstrip("/")
    where = f"service({service.name})"
    text = mail.why_unusable(path)
    if text:
        if stock:
            return f"{text}, the service is not started"
        raise ConfigInvalid([Problem("", 0, f"{where} {text}")])
    if service.chroot and not stock:
        raise ConfigInvalid([Problem("", 0, f"{where}: chroot can't be used with {path}, only Dovecot's own programs "
                                            "enter it by themselves")])
    # Dovecot's own execute themselves once more, through doveconf, by the name that they were called by
    if for_mail and stock and not conf.written("base_dir"):
        arguments = ["-o", f"base_dir={core.base_dir}", *arguments]     # Dovecot's default is another one
    return Program(path, (path if stock else f"{title}/{os.path.basename(path)}", *arguments), stock, for_mail=for_mail)


def identity_of(found: Program, service: Any, base_dir: str) -> Identity:
    """As whom it is executed: Dovecot's own programs as root, since they read their settings first."""
    who = identity.configured(service, base_dir)
    by_itself = found.stock and not service.drop_priv_before_exec
    return replace(who, by_itself=by_itself, directory=base_dir, may_fork=True)


def complete(found: Program, child: Child, conf: Any, who: Identity) -> Program:
    """With its environment."""
    view = conf.view()
    environ = environment.imported()
    environ.update({
        "DOVECOT_CHILD_PROCESS": "1",
        "CONFIG_FILE": os.path.join(child.base_dir, "config") if found.for_mail and found.stock
        else os.path.abspath(conf.path),
        "SERVICE_NAME": child.service,
        "CLIENT_LIMIT": str(child.client_limit),
        "PROCESS_LIMIT": str(child.process_limit),
        "PROCESS_MIN_AVAIL": str(child.process_min_avail),
        "IDLE_KILL": str(int(child.idle_kill) or _NEVER),
        "DOVECOT_HOSTNAME": environment.hostname(),
        "DOVECOT_HOSTDOMAIN": environment.hostdomain(),
        "LOG_SERVICE": "1",
        "LOG_DEBUG": view.logging.log_debug,
        "SOCKET_COUNT": str(len(child.listeners)),
        **who.environ()})
    if child.service_count:
        environ["SERVICE_COUNT"] = str(child.service_count)
    for number, listener in enumerate(child.listeners):
        flags = [flag for flag, on in (("ssl", listener.ssl), ("haproxy", listener.haproxy)) if on]
        environ[f"SOCKET{number}_SETTINGS"] = "\t".join([listener.name, *flags])
    # with a configuration that is a file Dovecot's programs read it through doveconf, which drops all the rest
    environ["DOVECOT_PRESERVE_ENVS"] = " ".join([*environ, "GENERATION"])
    return replace(found, environ=environ)


def main(child: Child, prepared: Any) -> int:
    """In the child: never returns but for a failure."""
    assert isinstance(prepared, Program)
    _arrange(child, _anvil(child.base_dir) if prepared.for_mail else -1)
    for number in _RESTORED:
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execve(prepared.path, prepared.argv, {**prepared.environ, "GENERATION": str(child.generation)})
    except OSError as failure:
        Log(_LOG).fatal(f"execv({prepared.path}) failed: {failure.strerror}")
    return EXIT_EXEC


def _anvil(base_dir: str) -> int:
    """A connection to anvil, which forgets us when it ends; -1 if there is none to be had."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.settimeout(_ANVIL_PATIENCE)
    try:
        sock.connect(os.path.join(base_dir, "anvil"))
        sock.send(b"VERSION\tanvil\t1\t0\n")
    except OSError:                     # sessions that are not counted are better than none
        sock.close()
        return -1
    sock.setblocking(True)
    return sock.detach()


def _arrange(child: Child, anvil: int) -> None:
    """Descriptors to their places.  All others close by themselves at exec."""
    wanted = {_LOG: child.log_fd, _ANVIL: anvil if anvil >= 0 else os.open(os.devnull, os.O_RDWR),
              _STATUS: child.status_fd, _DEAD: child.dead_fd}
    if child.notify_fd >= 0:
        wanted[_NOTIFY] = child.notify_fd
    wanted.update(enumerate((listener.socket.fileno() for listener in child.listeners), _FIRST_LISTENER))
    above = max(wanted) + 1
    # out of the way of each other first
    moved = {place: fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, above) for place, fd in wanted.items()}
    for place, fd in moved.items():
        os.dup2(fd, place)
