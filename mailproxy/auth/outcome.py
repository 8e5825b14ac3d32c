"""The outcomes of asking password databases; numbers are those of the worker protocol."""
from __future__ import annotations

OK = 1
MISMATCH = 0
INTERNAL = -1
SCHEME_MISSING = -2
UNKNOWN = -3
DISABLED = -4
EXPIRED = -5
#: "noauthenticate": fields only, another database must decide.
NEXT = -6
#: The answer comes later, through Chain.resume.
PENDING = 100
