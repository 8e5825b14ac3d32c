"""The command `mailproxy`: start the daemon, or look at its configuration.

In: the command line.  Out: an exit code (0; 89 for anything fatal; 80 for a log that cannot be opened).
Words that are no options (`reload`, `stop`, ...) are commands of mpadm.
"""
from __future__ import annotations

import getopt
import importlib
import os
import sys
from collections.abc import Callable
from typing import Any

from mailproxy.errors import EXIT_FATAL, EXIT_OK, ConfigInvalid, MailproxyError
from mailproxy.log.pipe import sanitise

PATHS = ("/etc/mailproxy/mailproxy.conf", "/etc/dovecot/dovecot.conf")

USAGE = """\
usage: mailproxy [-F] [-p] [-c FILE]
       mailproxy -n|-N|-a|-d|-f CONDITION|-h NAME [-Psx] [-c FILE] [NAME...]
       mailproxy [-c FILE] check [--strict] [--json]
       mailproxy [-c FILE] reload | stop | COMMAND
       mailproxy --help | --version | --build-options | --hostdomain

  (no option)   start in the background; returns when all ports are bound
  -F            stay in the foreground
  -p            ask for the password of the TLS keys
  -c FILE       configuration file (default: /etc/mailproxy/mailproxy.conf, and if that
                does not exist /etc/dovecot/dovecot.conf)
  -n            print the settings that differ from the defaults
  -N            print the settings that are written in the files
  -a            print all settings; with -s even those that hardly anybody changes
  -d            print the defaults
  -f CONDITION  print what is in force for protocol=NAME, local=ADDRESS, remote=ADDRESS,
                lname=NAME (of the server); more than one must all hold
  -h NAME...    print values only
  -x            print values instead of $variables and <files
  -P            do not hide passwords and keys
  NAME          only this setting or section: ssl_cert, service/imap-login, passdb/0/driver
  check         examine the configuration and all that it names, without starting: errors,
                warnings, what is obsolete, what has no effect; exit code 89 if a start would fail
                --strict: 1 if there are warnings; --json: for programs
  reload, stop  what mpadm reload and mpadm stop do; any other COMMAND is given to mpadm, too
"""
_SHORT, _LONG = "Fpc:nNadf:hPsx", ["help", "version", "build-options", "hostdomain"]
#: Options of `check` alone.
_CHECK = ["strict", "json"]
_PRINTING = frozenset("nNadfhPsx")
_OWN_COMMANDS = ("check", "reload", "stop")


def default_path() -> str:
    """The first configuration file that exists."""
    return next((path for path in PATHS if os.path.exists(path)), PATHS[0])


def load(path: str) -> Any:
    """Read a configuration; ConfigInvalid.  Imported late, so that --help works whatever is broken."""
    return importlib.import_module("mailproxy.config").load(path)


def main(argv: list[str] | None = None) -> int:
    arguments = sys.argv[1:] if argv is None else argv
    try:
        options, words = getopt.getopt(arguments, _SHORT, _LONG)
        prints = any(option[1:] in _PRINTING for option, _ in options)
        if prints or (words and words[0] in _OWN_COMMANDS):     # options may follow: other commands have their own
            options, words = getopt.gnu_getopt(arguments, _SHORT, _LONG + (_CHECK if "check" in words else []))
    except getopt.GetoptError as error:
        return _usage(f"Invalid arguments: {error}")
    flags = [option for option, _ in options]
    if "--help" in flags or (flags == ["-h"] and not words):
        sys.stdout.write(USAGE)
        return EXIT_OK
    for flag, text in (("--version", _version), ("--build-options", _build_options), ("--hostdomain", _hostdomain)):
        if flag in flags:
            sys.stdout.write(text() + "\n")
            return EXIT_OK
    path = "".join([value for option, value in options if option == "-c"][-1:])
    if "-c" in flags and not path:
        return _usage("Option -c needs a file name")
    if prints:
        return _guarded(_print, path or default_path(), options, words)
    if words[:1] == ["check"]:
        check = importlib.import_module("mailproxy.check.command")
        own = [flag for flag in flags if flag[2:] in _CHECK]
        return _guarded(check.main, path or default_path(), [*own, *words[1:]])
    if words:
        return _admin(path, words)
    return _guarded(_start, path or default_path(), flags)


def _start(path: str, flags: list[str]) -> int:
    start = importlib.import_module("mailproxy.master.start")
    loader = load
    if "-p" in flags:
        keypassword = importlib.import_module("mailproxy.master.keypassword")
        loader = keypassword.given(load)
    return int(start.run(path, loader, foreground="-F" in flags))


def _guarded(action: Callable[..., int], *arguments: Any) -> int:
    try:
        return action(*arguments)
    except ConfigInvalid as failure:
        return report(failure)
    except BrokenPipeError:         # `mailproxy -a | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_OK
    except (MailproxyError, OSError) as failure:
        sys.stderr.write(f"Fatal: {sanitise(str(failure))}\n")
        return EXIT_FATAL


def _print(path: str, options: list[tuple[str, str]], names: list[str]) -> int:
    """The configuration, or what of it is asked for."""
    conf = load(path)
    for warning in conf.warnings:
        sys.stderr.write(f"Warning: {sanitise(warning)}\n")
    flags = "".join(option[1] for option, _ in options)
    show = importlib.import_module("mailproxy.config.show")
    try:
        show.show(conf, sys.stdout, flags, [value for option, value in options if option == "-f"], names)
        sys.stdout.flush()
    except (LookupError, ValueError) as error:
        sys.stderr.write(f"Fatal: {sanitise(str(error.args[0]))}\n")
        return EXIT_FATAL
    return EXIT_OK


def report(failure: ConfigInvalid) -> int:
    for problem in failure.problems:
        sys.stderr.write(f"Fatal: {sanitise(str(problem))}\n")
    return EXIT_FATAL


def _admin(path: str, words: list[str]) -> int:
    admin = importlib.import_module("mailproxy.admin.cli")
    return int(admin.main([*(["-c", path] if path else []), *words]))


def _usage(problem: str) -> int:
    sys.stderr.write(f"{USAGE}Fatal: {problem}\n")
    return EXIT_FATAL


def _build_options() -> str:
    """In the shape of Dovecot's: what this installation can do."""
    drivers = importlib.import_module("mailproxy.auth.passdb.table").DRIVERS
    mechanisms = importlib.import_module("mailproxy.sasl").FLAGS
    roles = importlib.import_module("mailproxy.master.roles")
    tls = importlib.import_module("ssl").OPENSSL_VERSION
    return (f"Build options: ioloop=epoll python={sys.version.split()[0]} ({tls})\n"
            f"Protocols: {' '.join(sorted(roles.PROTOCOLS))}\n"
            f"SASL mechanisms: {' '.join(sorted(mechanisms))}\n"
            f"Passdb: {' '.join(sorted(drivers))}")


def _hostdomain() -> str:
    return str(importlib.import_module("mailproxy.master.environment").hostdomain())


def _version() -> str:
    import mailproxy
    return str(getattr(mailproxy, "__version__", "0"))
