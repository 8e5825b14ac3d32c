"""All LMTP scenarios, grouped by configuration."""
from __future__ import annotations

from ..scenario import Group
from . import backend, client, fields, message

GROUPS: tuple[Group, ...] = (*client.GROUPS, *backend.GROUPS, *fields.GROUPS, *message.GROUPS)
