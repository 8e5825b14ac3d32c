"""Which drivers there are."""
from __future__ import annotations

from collections.abc import Callable

from mailproxy.auth.passdb.driver import Driver
from mailproxy.auth.passdb.passwd_file import PasswdFile
from mailproxy.auth.passdb.sql import Sql
from mailproxy.auth.passdb.static import Static

DRIVERS: dict[str, Callable[[str], Driver]] = {
    "static": Static,
    "passwd-file": PasswdFile,
    "sql": Sql,
}
#: Known elsewhere; a section that names one gets a different message than a typing error.
NOT_BUILT = frozenset(("passwd", "shadow", "pam", "bsdauth", "ldap", "dict", "checkpassword", "oauth2", "imap", "lua",
                       "vpopmail", "sia", "rpam"))
