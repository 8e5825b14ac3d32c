"""The command: runs every examination and says what was found.

In: a path and words of the command line.  Out: an exit code; the report on standard output.  It starts nothing and
changes nothing.  An examination that needs what an error has spoilt is left out; the others still run.
"""
from __future__ import annotations

import sys
from collections.abc import Sequence

from mailproxy.check import certificates, files, ignored, limits, passdbs
from mailproxy.check.findings import Findings
from mailproxy.config.loader import Config, examine
from mailproxy.errors import EXIT_FATAL, EXIT_OK, ConfigInvalid
from mailproxy.master import generation, roles

#: With --strict: nothing is wrong, but something is not as it should be.
EXIT_WARNINGS = 1
_WORDS = ("--strict", "--json")


def main(path: str, words: Sequence[str]) -> int:
    unknown = [word for word in words if word not in _WORDS]
    if unknown:
        sys.stderr.write(f"Fatal: check: Unknown argument: {unknown[0]}\n")
        return EXIT_FATAL
    findings = look(path)
    sys.stdout.write(findings.json(path) if "--json" in words else findings.text(path))
    if findings.errors:
        return EXIT_FATAL
    return EXIT_WARNINGS if "--strict" in words and (findings.warnings or findings.obsolete) else EXIT_OK


def look(path: str) -> Findings:
    """Everything there is to say about a configuration."""
    findings = Findings()
    conf, problems = examine(path)
    findings.problems(problems)
    if conf is None:
        return findings
    findings.told(conf.warnings)
    for examine_it in (_rehearse, files.look, certificates.look, passdbs.look, limits.look, ignored.look):
        try:
            examine_it(conf, findings)
        except ConfigInvalid as failure:        # a `<file` that it needs
            findings.problems(failure.problems)
    return findings


def _rehearse(conf: Config, findings: Findings) -> None:
    """All that a start does before it touches the system."""
    try:
        _, warnings = generation.check(conf, roles.ROLES)
    except ConfigInvalid as failure:
        findings.problems(failure.problems)
        warnings = list(conf.unbuilt)
    idle = tuple(f"service({service.name}): executable" for service in ignored.services(conf))
    findings.told(text for text in warnings if not text.startswith(idle))       # those are listed as ignored
