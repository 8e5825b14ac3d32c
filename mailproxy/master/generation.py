"""One loading of the configuration as a set of services.

In: a Config and the sockets that exist already.  Out: units that are ready to begin.  Building has no effect on what
runs: any problem leaves the old generation as it was.
It must not know what any role does; roles come as modules.
"""
from __future__ import annotations

import fcntl
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from mailproxy.config import mail
from mailproxy.config.services import UnixListener
from mailproxy.errors import ConfigInvalid, MailproxyError, Problem
from mailproxy.ipc.contract import Child, Listener
from mailproxy.master import identity, mailservices, program, roles, spawn
from mailproxy.master.listen import Opening, Sockets
from mailproxy.master.masterlog import MasterLog
from mailproxy.master.service import Rules
from mailproxy.master.unit import Unit
from mailproxy.net import openssl
from mailproxy.net.loop import Loop, Timer

#: The configuration's way to say "never".
_NEVER = 4294967295.0
LOG = "log"


@dataclass(slots=True)
class Plan:
    """A service that will run: what was checked and prepared for it."""

    service: Any
    main: Callable[[Child, Any], int]
    who: identity.Identity
    prepared: object
    listeners: tuple[Listener, ...] = ()

    @property
    def is_program(self) -> bool:
        """It ends in exec(2) and is not one of our roles."""
        return isinstance(self.prepared, program.Program)


@dataclass(slots=True)
class Generation:
    """All units of one configuration.  The log unit begins first and ends last."""

    conf: Any
    units: dict[str, Unit] = field(default_factory=dict)
    master_pipe: tuple[int, int] = (-1, -1)
    pipes: dict[str, tuple[int, int]] = field(default_factory=dict)
    cut_on_retire: bool = False
    cut_on_stop: bool = True
    deadlines: list[Timer] = field(default_factory=list)        # of its retirement

    def others(self) -> list[Unit]:
        """Every unit but the log's."""
        return [unit for name, unit in self.units.items() if name != LOG]

    def idle(self) -> bool:
        """No process but the log's is left."""
        return not any(unit.policy.processes for unit in self.others())

    def close(self) -> None:
        """The last process is gone."""
        for timer in self.deadlines:
            timer.cancel()
        for unit in self.units.values():
            unit.close()

    def give_up(self) -> None:
        """It was never begun: close all that it has opened."""
        if self.master_pipe[1] >= 0:
            os.close(self.master_pipe[1])
        self.close_log_pipes()
        self.close()

    def close_log_pipes(self) -> None:
        """Our copies: with the last writer's the log process reads the end, and ends."""
        for read_fd, write_fd in self.pipes.values():
            os.close(read_fd)
            os.close(write_fd)
        self.pipes.clear()
        if self.master_pipe[0] >= 0:
            os.close(self.master_pipe[0])           # the write end is MasterLog's
            self.master_pipe = (-1, -1)


@dataclass(slots=True)
class Builder:
    """Makes generations; everything that they share."""

    table: Mapping[str, str]
    loop: Loop
    log: MasterLog
    sockets: Sockets
    children: dict[int, Unit]
    stdout: int = -1
    last_number: int = 0

    def next_number(self) -> int:
        """Unique numbers of children, for their status reports."""
        self.last_number = self.last_number % 0xFFFFFFFF + 1
        return self.last_number


def check(conf: Any, table: Mapping[str, str]) -> tuple[list[Plan], list[str]]:
    """What can be checked without touching the system: executables, users, what roles need.  Returns plans and
    warnings; ConfigInvalid carries every problem."""
    settle_tls(conf)
    base_dir = conf.view().core.base_dir
    problems: list[Problem] = []
    # the default names more protocols than one is built for: only what somebody asked for is worth a word
    warnings = [f"protocol {name} is not supported yet, its services are not started"
                for name in conf.protocols if name not in roles.PROTOCOLS and conf.written("protocols")]
    warnings += conf.unbuilt
    for_mail, notes = mailservices.wanted(conf)
    warnings += notes
    plans: list[Plan] = []
    for service in conf.services.values():
        if service.protocol and service.protocol not in roles.PROTOCOLS:
            continue
        try:
            plan = _plan(conf, service, table, base_dir, for_mail)
        except ConfigInvalid as failure:
            problems += failure.problems
        except MailproxyError as failure:
            problems.append(Problem("", 0, f"service({service.name}): {failure}"))
        else:
            if isinstance(plan, Plan):
                plans.append(plan)
            elif plan and conf.service_written(service.name) and service.name not in mail.STOCK.values():
                warnings.append(f"service({service.name}): {plan}")
    if not any(plan.service.name == LOG for plan in plans) and not problems:
        problems.append(Problem("", 0, "there is no service log"))
    if problems:
        raise ConfigInvalid(list(dict.fromkeys(problems)))
    return plans, warnings


def settle_tls(conf: Any) -> None:
    """What OpenSSL must know before anything is made with it; may start this program again."""
    view = conf.view()
    suites, curves = [written.text if (written := view.written(name)) is not None else ""
                      for name in ("ssl_cipher_suites", "ssl_curve_list")]
    openssl.settle(openssl.Defaults(suites, curves), sys.orig_argv)


def _plan(conf: Any, service: Any, table: Mapping[str, str], base_dir: str, for_mail: frozenset[str]) -> Plan | str:
    """How one service will run, or why it will not."""
    core = conf.view().core
    dotted = roles.find(service.executable, core.libexec_dir, table)
    if dotted is not None:
        role = roles.load(dotted)
        return Plan(service, role.main, identity.resolve(service, base_dir), role.prepare(conf, service))
    if program.is_stock(service) and service.name not in for_mail:
        return f"executable {service.executable} is not supported, the service is not started"
    found = program.find(service, conf, title(core.instance_name),
                         for_mail=service.name in for_mail and service.name != mailservices.CONFIG)
    if isinstance(found, str):
        return found
    return Plan(service, program.main, program.identity_of(found, service, base_dir), found)


def open_listeners(plans: list[Plan], conf: Any, sockets: Sockets) -> Opening:
    """Bind everything that is not bound yet.  The caller looks at `errors`."""
    view = conf.view()
    opening = Opening(sockets, view.core.base_dir, view.ssl.ssl != "no")
    try:
        for plan in plans:
            if plan.service.name == LOG:        # nobody answers on its listener yet
                continue
            limits = rules_of(plan.service)
            plan.listeners = opening.service(_for_logins(plan.service, conf, plans),
                                             limits.process_limit * limits.client_limit, fifos=plan.is_program)
    except ConfigInvalid:
        opening.give_up()
        raise
    return opening


def _for_logins(service: Any, conf: Any, plans: list[Plan]) -> Any:
    """Anvil also listens where login processes can ask it, if they hand clients to mail services."""
    if service.type != "anvil" or not any(isinstance(plan.prepared, program.Program) and plan.prepared.for_mail
                                          for plan in plans):
        return service
    door = UnixListener(mail.listener(service.name), 0o600, conf.view().core.default_login_user, "")
    return replace(service, unix_listeners=(*service.unix_listeners, door))


def rules_of(service: Any) -> Rules:
    """The numbers of a service as the policy wants them."""
    limit = 1 if service.name == LOG else service.client_limit
    if service.service_count and (not limit or service.service_count < limit):
        limit = service.service_count
    idle_kill = 0.0 if service.idle_kill >= _NEVER else service.idle_kill
    minimum = 1 if service.name == LOG else service.process_min_avail
    return Rules(service.name, service.type, minimum, service.process_limit, max(limit, 1), service.service_count,
                 0.0 if service.name == LOG else idle_kill, service.vsz_limit)


def assemble(builder: Builder, conf: Any, plans: list[Plan]) -> Generation:
    """Make the units with their pipes.  Nothing runs yet."""
    core = conf.view().core
    made = Generation(conf, cut_on_retire=bool(core.shutdown_clients and conf.written("shutdown_clients")),
                      cut_on_stop=core.shutdown_clients)
    try:
        _fill(made, builder, sorted(plans, key=lambda plan: plan.service.name != LOG), core)
    except OSError:                     # out of descriptors
        made.give_up()
        raise
    return made


def _fill(made: Generation, builder: Builder, plans: list[Plan], core: Any) -> None:
    made.master_pipe = _log_pipe(blocking=False)
    for plan in plans:
        made.pipes[plan.service.name] = _log_pipe(blocking=True)
        made.units[plan.service.name] = Unit(rules_of(plan.service), plan.listeners, builder.loop, builder.log,
                                             children=builder.children, generations=builder.next_number,
                                             has_news=hasattr(plan.prepared, "renew"))
    top = spawn.highest_fd()
    for plan in plans:
        made.units[plan.service.name].launch = _launch(builder, made, plan, core, top)


#: Lines that may wait for a log process that is slow or being replaced, before writers wait too.
_LOG_PIPE_SIZE = 1 << 20


def _log_pipe(*, blocking: bool) -> tuple[int, int]:
    read_fd, write_fd = os.pipe()
    os.set_blocking(read_fd, False)
    os.set_blocking(write_fd, blocking)
    try:
        fcntl.fcntl(write_fd, fcntl.F_SETPIPE_SZ, _LOG_PIPE_SIZE)
    except OSError:                     # beyond what an ordinary user may have: the kernel's 64 KiB must do
        return read_fd, write_fd
    return read_fd, write_fd


def _launch(builder: Builder, made: Generation, plan: Plan, core: Any, top: int) -> spawn.Launch:
    service, unit = plan.service, made.units[plan.service.name]
    rules = unit.policy.rules
    child = Child(
        service=service.name, protocol=service.protocol, generation=0, base_dir=core.base_dir,
        listeners=unit.listeners, status_fd=unit.status.write_fd, dead_fd=unit.dead_write, log_fd=2,
        notify_fd=unit.notify_fd, client_limit=rules.client_limit, service_count=rules.service_count,
        process_limit=rules.process_limit, process_min_avail=rules.process_min_avail, idle_kill=rules.idle_kill,
        cut_on_retire=made.cut_on_retire, cut_on_stop=made.cut_on_stop, verbose_proctitle=core.verbose_proctitle,
        title=f"{title(core.instance_name)}/{service.name}")
    prepared = plan.prepared
    if isinstance(prepared, program.Program):
        prepared = program.complete(prepared, child, made.conf, plan.who)
        unit.deaf = not service.protocol and service.type != "login"
    keep = unit.descriptors()
    redirect = [(made.pipes[service.name][1], 2)]
    if service.name == LOG:
        pipes = [(made.master_pipe[0], "master"),
                 *((fds[0], name) for name, fds in made.pipes.items() if name != LOG)]
        child.extra["pipes"] = pipes
        # it writes to the real standard error, and to what standard output was
        redirect = [(builder.stdout, 1)] if builder.stdout >= 0 else []
        keep += [fd for fd, _ in pipes]
    calls = spawn.calls(child.title, plan.who.calls(shares_memory=not plan.is_program),
                        spawn.ranges_without(keep, top), redirect)
    return spawn.Launch(child, plan.main, prepared, calls)


def title(instance: str) -> str:
    """What the names in ps begin with.  An instance that says who we are needs no prefix."""
    return instance if instance.startswith("mailproxy") else f"mailproxy-{instance}"


Load = Callable[[str], Any]
