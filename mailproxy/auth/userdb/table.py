"""Which drivers there are, by where they stand: only what a configuration names is imported (see passdb.table)."""
from __future__ import annotations

from collections.abc import Callable, Mapping

from mailproxy.auth.passdb.table import load
from mailproxy.auth.userdb.driver import Driver

#: Name of the driver -> module of this package, and in it what makes one from `args`.
DRIVERS: Mapping[str, tuple[str, str]] = {
    "static": ("static", "Static"),
    "passwd-file": ("passwd_file", "PasswdFile"),
    "passwd": ("passwd", "Passwd"),
    "prefetch": ("prefetch", "Prefetch"),
    "sql": ("sql", "Sql"),
    "ldap": ("ldap", "Ldap"),
    "dict": ("dict", "Dict"),
    "checkpassword": ("checkpassword", "CheckPassword"),
    "python": ("python", "Python"),
}
#: Known elsewhere; a section that names one gets a different message than a typing error.
NOT_BUILT = frozenset(("lua", "nss", "vpopmail"))


def maker(driver: str) -> Callable[[str], Driver]:
    """What makes the driver.  KeyError if there is none."""
    make: Callable[[str], Driver] = load("mailproxy.auth.userdb", *DRIVERS[driver])
    return make
