"""Which drivers there are."""
from __future__ import annotations

from collections.abc import Callable

from mailproxy.auth.userdb.checkpassword import CheckPassword
from mailproxy.auth.userdb.dict import Dict
from mailproxy.auth.userdb.driver import Driver
from mailproxy.auth.userdb.ldap import Ldap
from mailproxy.auth.userdb.passwd import Passwd
from mailproxy.auth.userdb.passwd_file import PasswdFile
from mailproxy.auth.userdb.prefetch import Prefetch
from mailproxy.auth.userdb.python import Python
from mailproxy.auth.userdb.sql import Sql
from mailproxy.auth.userdb.static import Static

DRIVERS: dict[str, Callable[[str], Driver]] = {
    "static": Static,
    "passwd-file": PasswdFile,
    "passwd": Passwd,
    "prefetch": Prefetch,
    "sql": Sql,
    "ldap": Ldap,
    "dict": Dict,
    "checkpassword": CheckPassword,
    "python": Python,
}
#: Known elsewhere; a section that names one gets a different message than a typing error.
NOT_BUILT = frozenset(("lua", "nss", "vpopmail"))
