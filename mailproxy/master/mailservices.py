"""Which of Dovecot's own services are started although we are a proxy: those that take users who are not proxied.

In: a configuration.  Out: names of services, and warnings about logins that nobody takes and services that nobody
reaches.
"""
from __future__ import annotations

import os
from typing import Any

from mailproxy.config import mail
from mailproxy.master.roles import PROTOCOLS

#: Dovecot's mail programs ask this service for the settings of each user.
CONFIG = "config"


def wanted(conf: Any) -> tuple[frozenset[str], list[str]]:
    """Names of services; warnings."""
    names: set[str] = set()
    missing: dict[str, str] = {}
    for service in conf.services.values():
        if service.type == "login" and service.protocol in PROTOCOLS:
            found = mail.service_for(conf, service.protocol)
            if isinstance(found, str):
                missing[service.protocol] = found
            else:
                names.add(found.name)
    warnings = [f"service({name}): no login reaches it, it does not listen on {mail.listener(protocol)}"
                for protocol, name in mail.STOCK.items()
                if name in conf.services and name not in names and conf.service_written(name)
                and protocol not in missing]
    if missing:
        words = ", ".join(f"{protocol} ({why})" for protocol, why in missing.items())
        warnings.append(f"Users who are not proxied can't log in: there is no mail service for {words}")
    if any(is_dovecots(conf.services[name], conf.view().core.libexec_dir) for name in names):
        names.add(CONFIG)
    return frozenset(names), warnings


def is_dovecots(service: Any, libexec_dir: str) -> bool:
    """A program that came with Dovecot."""
    return os.path.dirname(mail.program_path(service, libexec_dir)) == libexec_dir.rstrip("/")
