"""As whom a service's processes run.

In: a service's user, group, chroot and limits.  Out: numbers that a child needs no further look-up to apply.  All names
are resolved in the master, before any fork.  Not started as root there is nothing to change: every process runs as the
user that started the master, and a configured user is ignored.
"""
from __future__ import annotations

import grp
import os
import pwd
import resource
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mailproxy.errors import ConfigInvalid, Problem

_KEEP = -1


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

    def calls(self) -> list[tuple[Callable[..., Any], tuple[Any, ...]]]:
        """What a child must call to become it, in this order.  One that fails ends the child: it must never go on with
        more rights than configured."""
        found: list[tuple[Callable[..., Any], tuple[Any, ...]]] = []
        if self.memory:
            limits = (self.memory, self.memory)
            found += [(resource.setrlimit, (resource.RLIMIT_AS, limits)),
                      (resource.setrlimit, (resource.RLIMIT_DATA, limits))]
        if not self.may_fork:
            found.append((resource.setrlimit, (resource.RLIMIT_NPROC, (1, 1))))
        found.append((os.chdir, (self.directory,)))
        if self.gid != _KEEP:
            found += [(os.setgroups, (self.groups,)), (os.setresgid, (self.gid, self.gid, self.gid))]
        if self.chroot:
            found.append((os.chroot, (self.chroot,)))
        if self.uid not in (_KEEP, 0):
            found.append((os.setresuid, (self.uid, self.uid, self.uid)))
        return found


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
    """The identity of one service; ConfigInvalid for names that do not exist."""
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
    groups = {gid}
    for setting in ("privileged_group", "extra_groups"):
        value = getattr(service, setting)
        for name in value.replace(",", " ").split() if isinstance(value, str) else value:
            groups.add(group_id(name, f"{where} Group doesn't exist: {name} ({see} {{ {setting} }} setting)"))
    if chroot:
        directory = chroot
    return Identity(uid, gid, tuple(sorted(groups)), chroot, directory, memory, not login)
