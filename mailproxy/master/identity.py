"""As whom a service's processes run.

In: a service's user, group, chroot and limits.  Out: numbers that a child needs no further look-up to apply.  All names
are resolved in the master, before any fork.  Not started as root there is nothing to change: every process runs as the
user that started the master, and a configured user is ignored.

vsz_limit counts what a process takes for itself: a role starts with the master's memory, which it shares, and which may
be large (thousands of certificates), so that much is added.  A program that replaces that memory has the number alone.
"""
from __future__ import annotations

import grp
import os
import pwd
import resource
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from mailproxy.errors import ConfigInvalid, Problem

_KEEP = -1
_GUESS = 1 << 28


@dataclass(frozen=True, slots=True)
class Identity:
    """What to become; -1: stay."""

    uid: int = _KEEP
    gid: int = _KEEP
    groups: tuple[int, ...] = ()
    chroot: str = ""                # absolute
    directory: str = "/"            # the working directory; below the chroot afterwards
    memory: int = 0                 # bytes of address space, 0: unlimited
    may_fork: bool = True
    privileged: int = _KEEP         # a group that a program may ask for when it needs it
    by_itself: bool = False         # a program that drops root when it has read its settings

    def calls(self, *, shares_memory: bool = True) -> list[tuple[Callable[..., Any], tuple[Any, ...]]]:
        """What a child must call to become it, in this order.  One that fails ends the child: it must never go on with
        more rights than configured."""
        found: list[tuple[Callable[..., Any], tuple[Any, ...]]] = []
        if self.memory:
            size, data = shared_memory() if shares_memory else (0, 0)
            found += [(resource.setrlimit, (resource.RLIMIT_AS, (self.memory + size,) * 2)),
                      (resource.setrlimit, (resource.RLIMIT_DATA, (self.memory + data,) * 2))]
        if not self.may_fork:
            found.append((resource.setrlimit, (resource.RLIMIT_NPROC, (1, 1))))
        found.append((os.chdir, (self.directory,)))
        if self.by_itself:
            return found
        if self.gid != _KEEP:
            found += [(os.setgroups, (self.groups,)), (os.setresgid, (self.gid, self.gid, self.gid))]
        if self.chroot:
            found.append((os.chroot, (self.chroot,)))
        if self.uid not in (_KEEP, 0):
            found.append((os.setresuid, (self.uid, self.uid, self.uid)))
        return found

    def environ(self) -> dict[str, str]:
        """The same as an order to a program of Dovecot's, which carries it out by itself."""
        numbers = {"RESTRICT_SETUID": self.uid if self.uid > 0 else _KEEP,
                   "RESTRICT_SETGID": self.gid if self.gid > 0 else _KEEP, "RESTRICT_SETGID_PRIV": self.privileged}
        found = {name: str(number) for name, number in numbers.items() if number != _KEEP}
        others = [str(group) for group in self.groups if group != self.gid]
        if others:
            found["RESTRICT_SETEXTRAGROUPS"] = ",".join(others)
        if self.chroot:
            found["RESTRICT_CHROOT"] = self.chroot
        return found


def shared_memory() -> tuple[int, int]:
    """Bytes of address space and of data that a fork of this process starts with."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            fields = file.read().split()
    except OSError:                     # no /proc: a generous guess
        return _GUESS, _GUESS
    page = resource.getpagesize()
    return int(fields[0]) * page, int(fields[5]) * page


def user_id(name: str, problem: str) -> tuple[int, int]:
    """uid and gid of a user given by name or number; ConfigInvalid with `problem`."""
    try:
        entry = pwd.getpwuid(int(name)) if name.isdecimal() else pwd.getpwnam(name)
    except KeyError:
        if name.isdecimal():
            return int(name), int(name)
        raise ConfigInvalid([Problem("", 0, problem)]) from None
    return entry.pw_uid, entry.pw_gid


def group_id(name: str, problem: str) -> int:
    if name.isdecimal():
        return int(name)
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise ConfigInvalid([Problem("", 0, problem)]) from None


def resolve(service: Any, base_dir: str) -> Identity:
    """The identity of a service that is a role; ConfigInvalid for names that do not exist."""
    who = configured(service, base_dir)
    if who.privileged == _KEEP:
        return who
    return replace(who, groups=tuple(sorted({*who.groups, who.privileged})))


def configured(service: Any, base_dir: str) -> Identity:
    """What a service's section says; ConfigInvalid for names that do not exist."""
    login = service.type == "login"
    chroot = os.path.normpath(os.path.join(base_dir, service.chroot)) if service.chroot else ""
    directory = os.path.join(base_dir, "login") if login else base_dir
    memory = service.vsz_limit
    if os.geteuid() != 0:
        return Identity(directory=directory, memory=memory, may_fork=not login)
    where = f"service({service.name})"
    see = f"See service {service.name}"
    uid, gid = 0, 0
    if service.user:
        uid, gid = user_id(service.user, f"{where} User doesn't exist: {service.user} ({see} {{ user }} setting)")
    if service.group:
        gid = group_id(service.group, f"{where} Group doesn't exist: {service.group} ({see} {{ group }} setting)")
    privileged = _KEEP
    if service.privileged_group:
        name = service.privileged_group
        privileged = group_id(name, f"{where} Group doesn't exist: {name} ({see} {{ privileged_group }} setting)")
    groups = {gid, *(group_id(name, f"{where} Group doesn't exist: {name} ({see} {{ extra_groups }} setting)")
                     for name in service.extra_groups)}
    if chroot:
        directory = chroot
    return Identity(uid, gid, tuple(sorted(groups)), chroot, directory, memory, not login, privileged)
