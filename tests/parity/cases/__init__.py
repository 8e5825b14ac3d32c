"""All scenarios, grouped by configuration."""
from __future__ import annotations

from ..scenario import Group
from . import (
    authentication,
    edges,
    failure,
    fields,
    pop3,
    prelogin,
    security,
    settings,
    sieve,
    submission,
    success,
    table,
    trusted,
)

GROUPS: tuple[Group, ...] = (success.GROUP, prelogin.GROUP, *security.GROUPS, *failure.GROUPS, *fields.GROUPS,
                             *trusted.GROUPS, *authentication.GROUPS, *settings.GROUPS,
                             *edges.GROUPS, *pop3.GROUPS, *sieve.GROUPS, *submission.GROUPS, *table.GROUPS)
