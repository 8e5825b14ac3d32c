"""Settings of Dovecot 1.x that are still understood: translated, with a warning that names today's way.

In: a key and value that are not part of the language (any more).  Out: assignments of today's settings, given back to
the parser as path keys.  Knows nothing of scopes and files.
"""
from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from mailproxy.config import units
from mailproxy.config.schema.define import APPEND, MERGE, SectionType, Setting
from mailproxy.config.schema.sections import SERVICE
from mailproxy.config.tree import Node

#: `socket listen` inside an `auth` block, with the keys that its parts had.
SOCKET = SectionType("socket", MERGE, {}, {name: SectionType(name, APPEND, {
    **SERVICE.children["unix_listener"].settings, "path": Setting("path", units.TEXT, "")})
    for name in ("master", "client")})
LOGIN_SERVICES = ("imap-login", "pop3-login", "managesieve-login")
MAIL_SERVICES = ("imap", "pop3", "managesieve")


class Assignment(NamedTuple):
    """One setting of today.  `kind`: "" text, "<" the value is a file's name."""

    key: str
    value: str
    kind: str = ""


class Translation(NamedTuple):
    """What an old setting means today; `warnings` without the place.  `failure`: why its value says nothing."""

    warnings: tuple[str, ...]
    assignments: tuple[Assignment, ...] = ()
    failure: str = ""


Translator = Callable[[str, str], Translation | None]


def _renamed(new: str, values: dict[str, str] | None = None) -> Translator:
    def translate(key: str, value: str) -> Translation:
        text = value if values is None else values.get(value.lower(), value)
        return Translation((f"{key} has been renamed to {new}",), (Assignment(new, text),) if text else ())
    return translate


def _file(new: str) -> Translator:
    def translate(key: str, value: str) -> Translation:
        return Translation((f"{key} has been replaced by {new} = <file",), (Assignment(new, value, "<"),))
    return translate


def _gone(phrase: str) -> Translator:
    def translate(key: str, value: str) -> Translation:
        return Translation((f"{key} {phrase}",))
    return translate


def _service(names: tuple[str, ...], setting: str, convert: Callable[[str], str] = str) -> Translator:
    where = "service auth" if names == ("auth",) else "service"

    def translate(key: str, value: str) -> Translation:
        text = convert(value)
        return Translation((f"{key} has been replaced by {where} {{ {setting} }}",),
                           tuple(Assignment(f"service/{name}/{setting}", text) for name in names))
    return translate


def _workarounds(key: str, value: str) -> Translation | None:
    warnings = []
    for word, phrase in (("outlook-idle", "is no longer necessary"), ("netscape-eoh", "is no longer supported")):
        if word in value:
            warnings.append(f"{key}={word} {phrase}")
            value = value.replace(word, "")
    return Translation(tuple(warnings), (Assignment(key, value),)) if warnings else None


def socket_path(socket: Node) -> tuple[str, str]:
    """The path of a part of a `socket listen` block, or what is wrong with it.  Names tell what a socket speaks."""
    path = socket.settings["path"].text if "path" in socket.settings else ""
    is_master = path.endswith(("-master", "-userdb"))
    if not path:
        return "", "socket listen {} is missing path"
    if socket.type.name == "master" and not is_master:
        return "", "socket listen { master { path=.. } } must end with -master (or -userdb) suffix"
    if socket.type.name == "client" and is_master:
        return "", "socket listen { client { path=.. } } must end not with -master or -userdb suffix"
    return path, ""


def _plugin(key: str, value: str) -> Translation:
    return Translation((f"{key} has been moved into plugin {{}} section",), (Assignment(f"plugin/{key}", value),))


def _ssl_protocols(key: str, value: str) -> Translation:
    """The lowest version that the old list of versions and exclusions allows."""
    versions = ("SSLv3", "TLSv1", "TLSv1.1", "TLSv1.2")
    words = value.split()
    listed = {word for word in words if not word.startswith("!")}
    excluded = {word[1:] for word in words if word.startswith("!")}
    replaced = f"{key} has been replaced by ssl_min_protocol"
    unknown = [word for word in (*listed, *excluded) if word not in versions]
    allowed = [word for word in versions if (not listed or word in listed) and word not in excluded]
    if unknown or not allowed:
        reason = f"Unrecognized protocol '{unknown[0]}'" if unknown else "All protocols disabled"
        return Translation((replaced,), (), "Could not find a minimum ssl_min_protocol setting from"
                                            f" ssl_protocols = {value}: {reason}")
    return Translation((replaced,), (Assignment("ssl_min_protocol", allowed[0]),))


def _megabytes(value: str) -> str:
    return value + "M"


_GONE = _gone("has been removed")
_UNNEEDED = _gone("is no longer needed")
_TRANSLATORS: dict[str, Translator] = {
    "ssl_protocols": _ssl_protocols,
    "ssl_disable": _renamed("ssl", {"yes": "no", "no": "yes"}),
    "ssl_cert_file": _file("ssl_cert"),
    "ssl_key_file": _file("ssl_key"),
    "ssl_ca_file": _file("ssl_ca"),
    "ssl_parameters_regenerate": _UNNEEDED,
    "ssl_dh_parameters_length": _UNNEEDED,
    "login_process_per_connection": _service(LOGIN_SERVICES, "service_count",
                                             lambda value: "0" if value.lower() == "no" else "1"),
    "login_processes_count": _service(LOGIN_SERVICES, "process_min_avail"),
    "login_max_processes_count": _service(LOGIN_SERVICES, "process_limit"),
    "login_max_connections": _service(LOGIN_SERVICES, "client_limit"),
    "login_process_size": _service(LOGIN_SERVICES, "vsz_limit", _megabytes),
    "login_user": _service(LOGIN_SERVICES, "user"),
    "login_chroot": _service(LOGIN_SERVICES, "chroot", lambda value: "" if value.lower() == "no" else "login"),
    "login_executable": _service(LOGIN_SERVICES, "executable"),
    "max_mail_processes": _service(MAIL_SERVICES, "process_limit"),
    "mail_process_size": _service(MAIL_SERVICES, "vsz_limit", _megabytes),
    "mail_drop_priv_before_exec": _service(MAIL_SERVICES, "drop_priv_before_exec"),
    "mail_executable": _service(MAIL_SERVICES, "executable"),
    "auth_process_size": _service(("auth",), "vsz_limit", _megabytes),
    "auth_user": _service(("auth",), "user"),
    "auth_chroot": _service(("auth",), "chroot"),
    "auth_executable": _service(("auth",), "executable"),
    "auth_count": _gone("has been removed, and its value must be 1"),
    "fsync_disable": _renamed("mail_fsync", {"yes": "never", "no": "optimized"}),
    "director_consistent_hashing": _GONE,
    "login_dir": _GONE,
    "mail_log_max_lines_per_sec": _GONE,
    "maildir_copy_preserve_filename": _GONE,
    "dbox_rotate_days": _GONE,
    "dbox_rotate_min_size": _GONE,
    "imap_client_workarounds": _workarounds,
    "plugin/imap_zlib_compress_level": lambda key, value: Translation(
        ("imap_zlib_compress_level has been replaced by imap_compress_deflate_level",),
        (Assignment("plugin/imap_compress_deflate_level", value),)),
    "sieve": _plugin,
    "sieve_storage": lambda key, value: Translation(
        ("sieve_storage has been moved into plugin { sieve_dir }",), (Assignment("plugin/sieve_storage", value),)),
    "mail": lambda key, value: Translation((), (Assignment("mail_location", value),)),
    "doveadm_proxy_port": lambda key, value: Translation((), (Assignment("doveadm_port", value),)),
}
_ADDRESS_PORT = re.compile(r"(\[[^\]]*\]|[^:,\s]+):([0-9]+)\Z")
_LISTENERS = {"imap": ("imap-login", "imap"), "pop3": ("pop3-login", "pop3"), "sieve": ("managesieve-login", "sieve")}


def translate(key: str, value: str, protocol: str) -> Translation | None:
    """Today's form of an obsolete setting; None: `key` with this value is not one.  `protocol`: of the filter block
    that the setting stands in."""
    if key in ("listen", "ssl_listen"):
        return _listen(key, value, protocol)
    if key == "protocols":
        return _protocols(value)
    if key == "auth_cache_size":
        if value.isdecimal() and len(value) < 5 and 0 < int(value) < 1024:
            text = f"auth_cache_size value no longer defaults to megabytes. Use {value}M"
            return Translation((text,), (Assignment(key, value + "M"),))
        return None
    if key.startswith("mail_cache_compress_"):
        return _renamed("mail_cache_purge_" + key.removeprefix("mail_cache_compress_"))(key, value)
    translator = _TRANSLATORS.get(key)
    return None if translator is None else translator(key, value)


def _listen(key: str, value: str, protocol: str) -> Translation | None:
    """`listen = address:port` and the listeners of one protocol block."""
    found = _ADDRESS_PORT.match(value)
    if not found and not protocol and key == "listen":
        return None
    address = found[1] if found else value
    warnings = [f"{key}=..:port has been replaced by service {{ inet_listener {{ port }} }}"] if found else []
    assignments = []
    per_listener = bool(protocol) or key == "ssl_listen"
    if per_listener:
        warnings.append(f"protocol {{ {key} }} has been replaced by service {{ inet_listener {{ address }} }}")
    else:
        assignments.append(Assignment("listen", address))
    for name in (protocol,) if protocol else ("imap", "pop3"):
        if name not in _LISTENERS:
            continue
        service, listener = _LISTENERS[name]
        prefix = f"service/{service}/inet_listener/{listener}{'s' if key == 'ssl_listen' else ''}"
        if per_listener:
            assignments.append(Assignment(f"{prefix}/address", address))
        if found:
            assignments.append(Assignment(f"{prefix}/port", found[2]))
    return Translation(tuple(warnings), tuple(assignments))


def _protocols(value: str) -> Translation | None:
    warnings: list[str] = []
    assignments: list[Assignment] = []
    words = value.split()
    kept = [word for word in words if word not in ("imaps", "pop3s")]
    if "managesieve" in kept:
        warnings.append("protocols=managesieve has been renamed to protocols=sieve")
        kept = ["sieve" if word == "managesieve" else word for word in kept]
    for word in ("imaps", "pop3s"):
        plain = word[:-1]
        if word in words and plain in words:
            warnings.append(f"'{word}' protocol is no longer necessary, remove it")
        elif word in words:
            warnings.append(
                f"'{word}' protocol can no longer be specified (use protocols={plain}). to disable non-ssl {plain},"
                f" use service {plain}-login {{ inet_listener {plain} {{ port=0 }} }}")
            assignments.append(Assignment(f"service/{plain}-login/inet_listener/{plain}/port", "0"))
            kept.append(plain)
    if not warnings:
        return None
    return Translation(tuple(warnings), (Assignment("protocols", " ".join(kept)), *assignments))
