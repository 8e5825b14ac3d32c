"""Which module plays which executable, by dotted name: the master's own code imports no role.

In: the `executable` setting of a service.  Out: the loaded module.  Modules are loaded once, before the first fork, so
that children import nothing.
"""
from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from typing import cast

from mailproxy.errors import MailproxyError
from mailproxy.ipc.contract import Role
from mailproxy.master import forkhooks

ROLES: Mapping[str, str] = {
    "imap-login": "mailproxy.login.worker",
    "pop3-login": "mailproxy.login.worker",
    "submission-login": "mailproxy.login.worker",
    "managesieve-login": "mailproxy.login.worker",
    "lmtp": "mailproxy.delivery.worker",
    "auth": "mailproxy.auth.server_main",
    "auth -w": "mailproxy.auth.worker_main",
    "log": "mailproxy.log.process",
    "anvil": "mailproxy.anvil.process",
}

#: Protocols whose login side is played.
PROTOCOLS = frozenset({"imap", "pop3", "sieve", "submission", "lmtp"})


def key(executable: str) -> str:
    """`/usr/lib/x/auth -w` -> `auth -w`: directories do not matter, arguments do."""
    program, _, arguments = executable.partition(" ")
    return f"{os.path.basename(program)} {arguments.strip()}".strip()


def find(executable: str, libexec_dir: str, table: Mapping[str, str]) -> str | None:
    """The module that plays an executable.  A program of the same name elsewhere is another program."""
    directory = os.path.dirname(executable.partition(" ")[0])
    if directory and directory != libexec_dir.rstrip("/") and os.path.basename(directory) != "dovecot":
        return None
    return table.get(key(executable))


def load(dotted: str) -> Role:
    """Import a role module; MailproxyError names the module that cannot be loaded."""
    try:
        with forkhooks.withheld():
            module = importlib.import_module(dotted)
    except ImportError as failure:
        raise MailproxyError(f"can't load {dotted}: {failure}") from failure
    for name in ("prepare", "main"):
        if not callable(getattr(module, name, None)):
            raise MailproxyError(f"{dotted} is no role: it has no {name}()")
    return cast(Role, module)
