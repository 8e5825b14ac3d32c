"""Limits that the machine does not grant or that contradict each other.

In: the configuration.  Out: findings.  The limits of this process stand for those of the server: run the check as it
is run.
"""
from __future__ import annotations

import resource

from mailproxy.check.findings import Findings
from mailproxy.config.checks import warn_descriptors
from mailproxy.config.loader import Config
from mailproxy.config.services import Service

#: Descriptors of a process beside those of its connections.
_OWN_DESCRIPTORS = 32


def look(conf: Config, findings: Findings) -> None:
    descriptors, processes = (resource.getrlimit(kind)[0] for kind in (resource.RLIMIT_NOFILE, resource.RLIMIT_NPROC))
    findings.told(warn_descriptors(conf.services.values(), conf.view().core, descriptors))
    login = [service for service in conf.services.values() if service.type == "login"]
    for service in login:
        _service(conf, service, findings, descriptors)
    wanted = sum(service.process_limit for service in login)
    if processes not in (resource.RLIM_INFINITY, -1) and wanted > processes:
        findings.warning("", 0, f"the login services may want {wanted} processes, a user may have {processes}"
                                " (ulimit -u)")


def _service(conf: Config, service: Service, findings: Findings, descriptors: int) -> None:
    node = conf.top.node.children.get("service", {}).get(service.name)
    path, line = (node.path, node.line) if node is not None else ("", 0)
    if service.service_count == 1:
        written = node.settings.get("client_limit") if node is not None else None
        if written is not None and service.client_limit > 1:
            findings.warning(written.path, written.line,
                             f"service({service.name}): client_limit has no effect while service_count is 1: "
                             f"{service.process_limit} sessions at most (process_limit)")
        return
    needed = 2 * service.client_limit + _OWN_DESCRIPTORS
    if needed > descriptors:
        findings.warning(path, line,
                         f"service({service.name}): client_limit={service.client_limit} sessions need {needed} "
                         f"descriptors (client and backend), a process may have {descriptors} (ulimit -n)")
