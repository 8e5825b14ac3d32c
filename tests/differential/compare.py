"""One configuration through the real `doveconf -n` and through ours, brought into a comparable form.

Equal means: the same dump line by line and the same warnings, or the real error among ours.  Version lines and what
programs were asked at the time of the dump do not count; settings whose default is another on purpose are named in
DEFAULTS.
"""
from __future__ import annotations

import difflib
import io
import subprocess
from collections.abc import Iterable
from typing import NamedTuple

from mailproxy import config
from mailproxy.config.dump import dump
from mailproxy.errors import ConfigInvalid

from .sources import Case

DOVECONF = "/usr/bin/doveconf"
TIMEOUT = 20.0
#: Errors of ours that are shown where they are of no use to Dovecot's.
SHOWN = 5
#: Not of the file: doveconf asks managesieve-login.
PROBED = ("managesieve_notify_capability", "managesieve_sieve_capability")
#: Settings with another default, and why: who writes Dovecot's or our default sees it on one side only.
DEFAULTS = {
    "protocols": "Debian's is empty, its packages append to it",
    "base_dir": "a Dovecot may run beside us",
    "state_dir": "a Dovecot may run beside us",
    "instance_name": "names the processes",
    "login_greeting": "Debian's names Debian",
    "managesieve_implementation_string": "Debian's names Debian",
}
#: What the default of base_dir becomes in messages.
_BASE_DIR = ("/run/dovecot/", "/run/mailproxy/")
_UNCOMPARED = ("# ", *PROBED, *(f"{key} =" for key in DEFAULTS))
#: Warnings about this machine and not about the file.
_ELSEWHERE = ("NOTE:", "fd limit (ulimit -n)")


class Outcome(NamedTuple):
    """What one side made of a file: a dump with warnings, or errors."""

    dump: list[str]
    errors: list[str]
    warnings: frozenset[str]


def comparable(text: str) -> list[str]:
    return [line for line in text.splitlines() if not line.startswith(_UNCOMPARED)]


def _warnings(texts: Iterable[str]) -> frozenset[str]:
    return frozenset(text for text in texts if not text.startswith(_ELSEWHERE))


def real(case: Case, *, use: bool = False) -> Outcome:
    """`use`: read the values as a server does, which finds more than printing them."""
    run = subprocess.run([DOVECONF, "-nx" if use else "-n", "-c", str(case.path)], capture_output=True, check=False,
                         timeout=TIMEOUT, text=True, errors="surrogateescape", stdin=subprocess.DEVNULL)
    log = run.stderr.splitlines()
    if run.returncode:
        # the first may be of the program that it asks for capabilities
        fatal = [line.partition("Fatal: ")[2] for line in log if line.startswith("doveconf: Fatal: ")]
        fatal = [text.replace(*_BASE_DIR) for text in fatal[-1:]]
        return Outcome([], fatal or [f"exit status {run.returncode}: {run.stderr}"], frozenset())
    warnings = [line.partition("Warning: ")[2] for line in log if line.startswith("doveconf: Warning: ")]
    # the one failure that it calls an error without failing
    warnings += [line.partition("Error: ")[2] for line in log if "Error: Could not find a minimum" in line]
    return Outcome(comparable(run.stdout), [], _warnings(warnings))


def ours(case: Case) -> Outcome:
    try:
        conf = config.load(str(case.path))
    except ConfigInvalid as invalid:
        return Outcome([], [str(problem) for problem in invalid.problems], frozenset())
    out = io.StringIO()
    dump(conf, out)
    return Outcome(comparable(out.getvalue()), [], _warnings(conf.warnings))


def difference(theirs: Outcome, own: Outcome) -> list[str]:
    """Lines about what differs; none: equal."""
    if theirs.errors or own.errors:
        if theirs.errors and theirs.errors[0] in own.errors:
            return []
        return [f"Dovecot: {text}" for text in theirs.errors or ["accepts it"]] \
            + [f"ours:    {text}" for text in own.errors[:SHOWN] or ["accepts it"]]
    found = [line for line in difflib.unified_diff(theirs.dump, own.dump, "Dovecot", "ours", lineterm="", n=0)
             if not line.startswith("@@")]
    found += [f"only Dovecot warns: {text}" for text in sorted(theirs.warnings - own.warnings)]
    return found + [f"only we warn: {text}" for text in sorted(own.warnings - theirs.warnings)]
