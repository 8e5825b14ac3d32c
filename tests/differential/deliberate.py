"""Differences from doveconf that are meant; docs/differences.md has them for people."""
from __future__ import annotations

import re

#: (pattern of the lines about a difference, joined, reason).
_REASONS = tuple((re.compile(pattern), reason) for pattern, reason in (
    (r"Dovecot: accepts it\nours: .*: (read\(|Couldn't open include file ).*: Is a directory",
     "a directory as a file is an error, not an empty configuration"),
    (r"Dovecot: accepts it\nours: .*: No matches", "an include of nothing does not mean the directory"),
    (r"Dovecot: accepts it\nours: .*: (Line ends in '\\\\' but is followed by|File ends in a line that is continued)",
     "no continued line vanishes without a word"),
    (r"Dovecot: accepts it\nours: .*: a mode is octal", "permissions must be what was written"),
    (r"Dovecot: accepts it\nours: .*: Unknown setting: service \{ local", "a filter in a service has no effect"),
    (r"Dovecot: accepts it\nours: .*: Conflict in setting", "filter conflicts are found when the files are read"),
    (r"Dovecot: (?P<place>.* line \d+): Invalid number \$\S+: .*\nours: +(?P=place): Invalid number",
     "the value of the variable is what is bad"),
))


def reason_for(lines: list[str]) -> str:
    """Why a case differs like this; "": it must not."""
    text = "\n".join(lines)
    return next((reason for pattern, reason in _REASONS if pattern.search(text)), "")
