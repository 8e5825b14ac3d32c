"""The services that take over the clients who are not proxied: as with Dovecot, those that listen on login/PROTOCOL.

In: a configuration.  Out: such a service and the path of its socket, or why there is none that can run.
"""
from __future__ import annotations

import os
from typing import Any

#: Dovecot's own by protocol; a service of another name serves as well if it has the socket.
STOCK = {"imap": "imap", "pop3": "pop3", "sieve": "managesieve", "submission": "submission"}
#: Where login processes live, below base_dir.
LOGIN_DIRECTORY = "login"


def program_path(service: Any, libexec_dir: str) -> str:
    return os.path.join(libexec_dir, service.executable.split()[0])


def why_unusable(path: str) -> str:
    """Why a program cannot be started, in access(2)'s words; "" if it can."""
    if os.access(path, os.X_OK) and not os.path.isdir(path):
        return ""
    return f"access({path}) failed: " + ("Permission denied" if os.path.exists(path) else "No such file or directory")


def listener(protocol: str) -> str:
    return f"{LOGIN_DIRECTORY}/{protocol}"


def service_for(conf: Any, protocol: str) -> Any | str:
    """The service that takes clients of this protocol; a text says why there is none."""
    path = listener(protocol)
    libexec_dir = conf.view().core.libexec_dir
    for service in conf.services.values():
        if any(row.path == path for row in service.unix_listeners):
            if not service.executable.split():
                return f"service {service.name} has no executable"
            return why_unusable(program_path(service, libexec_dir)) or service
    return f"no service listens on {path}"
