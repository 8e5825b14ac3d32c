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

    def assume(self) -> None:
        """Become it, in the child.  OSError ends the child: never go on with more rights than configured."""
        if self.memory:
            resource.setrlimit(resource.RLIMIT_AS, (self.memory, self.memory))
            resource.setrlimit(resource.RLIMIT_DATA, (self.memory, self.memory))
        if not self.may_fork:
            resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
        os.chdir(self.directory)
        if self.gid != _KEEP:
            os.setgroups(self.groups)
            os.setresgid(self.gid, self.gid, self.gid)
        if self.chroot:
            os.chroot(self.chroot)
        if self.uid not in (_KEEP, 0):
            os.setresuid(self.uid, self.uid, self.uid)


def user_id(name: str, problem: str) -> tuple[int, int]:
    """uid and gid of a user given by name or number; ConfigInvalid with `problem`."""
    try:
        entry = pwd.getpwuid(int(name)) if name.isdigit() else pwd.getpwnam(name)
    except KeyError:
        if name.isdigit():
            return int(name), int(name)
        raise ConfigInvalid([Problem("", 0, problem)]) from None
    return entry.pw_uid, entry.pw_gid


def group_id(name: str, problem: str) -> int:
    if name.isdigit():
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
