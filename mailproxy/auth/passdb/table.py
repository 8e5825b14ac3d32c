"""Which drivers there are."""
from __future__ import annotations

from collections.abc import Callable

from mailproxy.auth.passdb.checkpassword import CheckPassword
from mailproxy.auth.passdb.dict import Dict
from mailproxy.auth.passdb.driver import Driver
from mailproxy.auth.passdb.http import Http
from mailproxy.auth.passdb.imap import Imap
from mailproxy.auth.passdb.ldap import make as make_ldap
from mailproxy.auth.passdb.oauth2 import OAuth2
from mailproxy.auth.passdb.pam import Pam
from mailproxy.auth.passdb.passwd import Passwd
from mailproxy.auth.passdb.passwd_file import PasswdFile
from mailproxy.auth.passdb.python import Python
from mailproxy.auth.passdb.shadow import Shadow
from mailproxy.auth.passdb.sql import Sql
from mailproxy.auth.passdb.static import Static

DRIVERS: dict[str, Callable[[str], Driver]] = {
    "static": Static,
    "passwd-file": PasswdFile,
    "passwd": Passwd,
    "shadow": Shadow,
    "pam": Pam,
    "ldap": make_ldap,
    "dict": Dict,
    "checkpassword": CheckPassword,
    "imap": Imap,
    "sql": Sql,
    "oauth2": OAuth2,
    "http": Http,
    "python": Python,
}
#: Known elsewhere; a section that names one gets a different message than a typing error.
NOT_BUILT = frozenset(("bsdauth", "lua",
                       "vpopmail", "sia", "rpam"))
