"""All users.  Only with databases for all protocols: Dovecot's workers do not know those of one."""
from __future__ import annotations

from tests.differential_auth.case import LIST, Case, user, userdb

_FILES = {"u": "u1:x:1001:1001::/h:\nu2:x:1002:1002::/h:\n", "more": "u2:x:1:1::/x:\nu3:x:2:2::/x:\n"}
FILES = userdb("passwd-file", "@dir@/lists/u") + userdb("static", "uid=1 gid=1") + userdb("passwd-file",
               "@dir@/lists/more")
STATIC = userdb("static", "uid=1 gid=1") + userdb("prefetch")
MISSING = userdb("passwd-file", "@dir@/lists/none")
CASES = [Case("lists", "", [LIST, user("u1"), LIST], _FILES)]
