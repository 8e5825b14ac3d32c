"""The settings file of an ldap passdb or userdb, checked.

In: its path.  Out: Settings, or ArgsInvalid with the first thing that is wrong.
"""
from __future__ import annotations

import importlib.util

from mailproxy.auth.passdb import settings_file
from mailproxy.auth.passdb.driver import ArgsInvalid
from mailproxy.errors import DriverMissing
from mailproxy.secret import Secret

_DEFAULTS = {
    "hosts": "", "uris": "", "dn": "", "dnpass": "", "auth_bind": "no", "auth_bind_userdn": "",
    "tls": "no", "tls_ca_cert_file": "", "tls_ca_cert_dir": "", "tls_cert_file": "", "tls_key_file": "",
    "tls_cipher_suite": "", "tls_require_cert": "", "deref": "never", "scope": "subtree", "base": "",
    "ldap_version": "3", "debug_level": "0", "ldaprc_path": "",
    "user_attrs": "homeDirectory=home,uidNumber=uid,gidNumber=gid",
    "user_filter": "(&(objectClass=posixAccount)(uid=%u))",
    "pass_attrs": "uid=user,userPassword=password",
    "pass_filter": "(&(objectClass=posixAccount)(uid=%u))",
    "iterate_attrs": "uid=user", "iterate_filter": "(objectClass=posixAccount)",
    "default_pass_scheme": "crypt", "blocking": "no", "userdb_warning_disable": "no",
    "sasl_bind": "no", "sasl_mech": "", "sasl_realm": "", "sasl_authz_id": "",
}
#: The library's numbers.
SCOPES = {"base": 0, "onelevel": 1, "subtree": 2}
DEREFS = {"never": 0, "searching": 1, "finding": 2, "always": 3}
REQUIRES = {"never": 0, "hard": 1, "demand": 2, "allow": 3, "try": 4}


class Settings:
    """`text`: every setting as written; `uris`: all servers, in the order to try."""

    __slots__ = ("auth_bind", "debug", "default_scheme", "deref", "password", "path", "sasl", "scope", "text", "tls",
                 "uris", "version")

    def __init__(self, path: str) -> None:
        if not path:
            raise ArgsInvalid("ldap: Configuration file path not given")
        if importlib.util.find_spec("ldap") is None:
            raise DriverMissing("ldap: needs the Python package python-ldap, install the Debian package python3-ldap "
                                "or the pip extra mailproxy[ldap]")
        text = settings_file.load(path, _DEFAULTS)
        self.path = path
        self.password = Secret(text.pop("dnpass"))
        self.text = text
        self.uris = text["uris"].split() or [_uri(host) for host in text["hosts"].split()]
        if not self.uris:
            raise ArgsInvalid(f"ldap {path}: No uris or hosts set")
        if not text["base"]:
            raise ArgsInvalid(f"ldap {path}: No base given")
        self.auth_bind = self._flag("auth_bind")
        self.tls = self._flag("tls")
        self.sasl = self._flag("sasl_bind")
        self.scope = self._one_of("scope", SCOPES)
        self.deref = self._one_of("deref", DEREFS)
        if text["tls_require_cert"]:
            self._one_of("tls_require_cert", REQUIRES)
        self.version = self._number("ldap_version")
        self.debug = self._number("debug_level")
        self.default_scheme = text["default_pass_scheme"].upper()
        if self.tls and any(uri.startswith("ldaps:") for uri in self.uris):
            raise ArgsInvalid(f"ldap {path}: Don't use both tls=yes and ldaps URI")
        for name in ("sasl_bind", "tls"):
            if self._flag(name) and self.version < 3:
                raise ArgsInvalid(f"ldap {path}: {name}=yes requires ldap_version=3")

    def _flag(self, name: str) -> bool:
        value = self.text[name].lower()
        if value not in ("yes", "no", "y", "n", "1", "0"):
            raise ArgsInvalid(f"ldap {self.path}: Invalid boolean value for {name}: {self.text[name]}")
        return value in ("yes", "y", "1")

    def _one_of(self, name: str, table: dict[str, int]) -> int:
        value = table.get(self.text[name].lower())
        if value is None:
            word = "value" if name.startswith("tls") else "option"
            raise ArgsInvalid(f"ldap {self.path}: Unknown {name} {word} '{self.text[name]}'")
        return value

    def _number(self, name: str) -> int:
        try:
            return int(self.text[name])
        except ValueError:
            raise ArgsInvalid(f"ldap {self.path}: Invalid number for {name}: {self.text[name]}") from None


def _uri(host: str) -> str:
    return f"ldap://[{host}]" if host.count(":") > 1 and not host.startswith("[") else f"ldap://{host}"
