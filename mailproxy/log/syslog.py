"""Log lines to syslog(3).

In: a type number and a text.  Out: a record of the matching priority, with the instance name as its ident.
"""
from __future__ import annotations

import syslog
from collections.abc import Callable

#: By type: Debug, Info, Warning, Error, Fatal, Panic.
PRIORITIES = (syslog.LOG_DEBUG, syslog.LOG_INFO, syslog.LOG_WARNING, syslog.LOG_ERR, syslog.LOG_CRIT, syslog.LOG_CRIT)

FACILITIES = {name: getattr(syslog, f"LOG_{name.upper()}") for name in (
    "auth", "authpriv", "cron", "daemon", "kern", "local0", "local1", "local2", "local3", "local4", "local5", "local6",
    "local7", "lpr", "mail", "news", "syslog", "user", "uucp") if hasattr(syslog, f"LOG_{name.upper()}")}


def connect(ident: str, facility: str) -> Callable[[int, str], None]:
    """Open the connection once for the process; the result sends one line."""
    syslog.openlog(ident, syslog.LOG_NDELAY, FACILITIES.get(facility, syslog.LOG_MAIL))

    def send(kind: int, text: str) -> None:
        syslog.syslog(PRIORITIES[kind], text)

    return send
