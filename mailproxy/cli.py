"""The command `mailproxy`: start the daemon, or look at its configuration.

In: the command line.  Out: an exit code (0; 89 for anything fatal; 80 for a log that cannot be opened).
Words that are no options (`reload`, `stop`, ...) are commands of mpadm.
"""
from __future__ import annotations

import importlib
import os
import sys
from typing import Any

from mailproxy.errors import EXIT_FATAL, EXIT_OK, ConfigInvalid, MailproxyError

PATHS = ("/etc/mailproxy/mailproxy.conf", "/etc/dovecot/dovecot.conf")

USAGE = """\
usage: mailproxy [-F] [-c FILE] [-n | -a [-P]] [--help] [--version] [check | reload | stop | COMMAND]

  (no option)   start in the background; returns when all ports are bound
  -F            stay in the foreground
  -c FILE       configuration file (default: /etc/mailproxy/mailproxy.conf, and if that
                does not exist /etc/dovecot/dovecot.conf)
  -n            print the settings that differ from the defaults
  -a            print all settings
  -P            with -n or -a: do not hide passwords and keys
  check         check everything that a start would check, without starting
  reload, stop  what mpadm reload and mpadm stop do; any other COMMAND is given to mpadm, too
"""


def default_path() -> str:
    """The first configuration file that exists."""
    return next((path for path in PATHS if os.path.exists(path)), PATHS[0])


def load(path: str) -> Any:
    """Read a configuration; ConfigInvalid.  Imported late, so that --help works whatever is broken."""
    return importlib.import_module("mailproxy.config").load(path)


def main(argv: list[str] | None = None) -> int:
    arguments = sys.argv[1:] if argv is None else argv
    path, mode, foreground, secrets = "", "", False, False
    rest = iter(arguments)
    for word in rest:
        if word == "-F":
            foreground = True
        elif word == "-c":
            path = next(rest, "")
            if not path:
                return _usage("Option -c needs a file name")
        elif word in ("-n", "-a"):
            mode = word
        elif word == "-P":
            secrets = True
        elif word in ("--help", "-h"):
            sys.stdout.write(USAGE)
            return EXIT_OK
        elif word == "--version":
            sys.stdout.write(_version() + "\n")
            return EXIT_OK
        elif word.startswith("-"):
            return _usage(f"Unknown argument: {word}")
        elif word in ("check", "reload", "stop"):
            mode = word
        else:
            return _admin(path, [word, *rest])
    if secrets and mode not in ("-n", "-a"):
        return _usage("Option -P goes with -n or -a")
    if mode in ("reload", "stop"):
        return _admin(path, [mode])
    return _act(path or default_path(), mode, foreground=foreground, secrets=secrets)


def _act(path: str, mode: str, *, foreground: bool, secrets: bool) -> int:
    try:
        if mode == "check":
            return check(path)
        if mode:
            conf = load(path)
            importlib.import_module("mailproxy.config.dump").dump(conf, sys.stdout, changed_only=mode == "-n",
                                                                  show_secrets=secrets)
            return EXIT_OK
    except ConfigInvalid as failure:
        return report(failure)
    except (MailproxyError, OSError) as failure:
        sys.stderr.write(f"Fatal: {failure}\n")
        return EXIT_FATAL
    start = importlib.import_module("mailproxy.master.start")
    return int(start.run(path, load, foreground=foreground))


def check(path: str) -> int:
    """All that a start checks before it touches the system."""
    conf = load(path)
    _, warnings = importlib.import_module("mailproxy.master.generation").check(
        conf, importlib.import_module("mailproxy.master.roles").ROLES)
    for warning in [*conf.warnings, *warnings]:
        sys.stderr.write(f"Warning: {warning}\n")
    return EXIT_OK


def report(failure: ConfigInvalid) -> int:
    for problem in failure.problems:
        sys.stderr.write(f"Fatal: {problem}\n")
    return EXIT_FATAL


def _admin(path: str, words: list[str]) -> int:
    admin = importlib.import_module("mailproxy.admin.cli")
    return int(admin.main([*(["-c", path] if path else []), *words]))


def _usage(problem: str) -> int:
    sys.stderr.write(f"{USAGE}Fatal: {problem}\n")
    return EXIT_FATAL


def _version() -> str:
    import mailproxy
    return str(getattr(mailproxy, "__version__", "0"))
