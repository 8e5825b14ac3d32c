"""Which drivers there are, by where they stand: only what a configuration names is imported.

Every process is a copy of the master, so an unused driver and its libraries would be memory and page faults of each.
"""
from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from mailproxy.auth.passdb.driver import Driver

#: Name of the driver -> module of this package, and in it what makes one from `args`.
DRIVERS: Mapping[str, tuple[str, str]] = {
    "static": ("static", "Static"),
    "passwd-file": ("passwd_file", "PasswdFile"),
    "passwd": ("passwd", "Passwd"),
    "shadow": ("shadow", "Shadow"),
    "pam": ("pam", "Pam"),
    "ldap": ("ldap", "make"),
    "dict": ("dict", "Dict"),
    "checkpassword": ("checkpassword", "CheckPassword"),
    "imap": ("imap", "Imap"),
    "sql": ("sql", "Sql"),
    "oauth2": ("oauth2", "OAuth2"),
    "http": ("http", "Http"),
    "python": ("python", "Python"),
}
#: Known elsewhere; a section that names one gets a different message than a typing error.
NOT_BUILT = frozenset(("bsdauth", "lua",
                       "vpopmail", "sia", "rpam"))


def maker(driver: str) -> Callable[[str], Driver]:
    """What makes the driver.  KeyError if there is none."""
    make: Callable[[str], Driver] = load("mailproxy.auth.passdb", *DRIVERS[driver])
    return make


def load(package: str, module: str, name: str) -> Any:
    """One name of one module of a package of drivers."""
    return getattr(import_module(f"{package}.{module}"), name)
