"""The command `mpadm`: look at and steer a running mailproxy.

In: the command line.  Out: text and an exit code: 0; 64 usage; 68 no such thing; 75 for every fatal, also "not
running"; 77 wrong password; 89 a broken configuration.  Commands are rows of a table at the end.
"""
from __future__ import annotations

import getpass
import importlib
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mailproxy import cli
from mailproxy.admin import anvil, authlookup, authtest, master
from mailproxy.admin.table import FORMATS
from mailproxy.errors import EXIT_FATAL, EXIT_OK, EXIT_TEMPFAIL, ConfigInvalid, MailproxyError

EXIT_USAGE = 64
EXIT_NOT_FOUND = 68

_SERVICE = ("name", "process_count", "process_avail", "process_limit", "client_limit", "throttle_secs",
            "exit_failure_last", "exit_failures_in_sec", "last_drop_warning", "listen_pending", "listening",
            "doveadm_stop", "process_total")
_PROCESS = ("name", "pid", "available_count", "total_count", "idle_start", "last_status_update", "last_kill_sent")


PW_ARGUMENTS = "[-l] [-p PASSWORD] [-r ROUNDS] [-s SCHEME] [-t STORED] [-u USER] [-V]"


class Usage(MailproxyError):
    """Wrong arguments of a command; answered with its usage line."""


@dataclass(slots=True)
class Context:
    """What every command gets."""

    path: str
    format: str = ""

    def conf(self) -> Any:
        return cli.load(self.path)

    def base_dir(self) -> str:
        return str(self.conf().view().core.base_dir)

    def show(self, titles: tuple[str, ...], rows: list[list[str]], default: str) -> None:
        sys.stdout.write(FORMATS[self.format or default](titles, rows))


@dataclass(frozen=True, slots=True)
class Command:
    run: Callable[[Context, list[str]], int]
    arguments: str
    about: str


def _reload(context: Context, words: list[str]) -> int:
    """The whole configuration is checked first; a broken one is not sent to the master."""
    _none(words)
    conf = context.conf()
    base_dir = str(conf.view().core.base_dir)
    master.pid_of(base_dir)
    importlib.import_module("mailproxy.master.generation").check(
        conf, importlib.import_module("mailproxy.master.roles").ROLES)
    master.send(base_dir, signal.SIGHUP)
    return EXIT_OK


def _stop(context: Context, words: list[str]) -> int:
    _none(words)
    master.stop(context.base_dir())
    return EXIT_OK


def _log_reopen(context: Context, words: list[str]) -> int:
    _none(words)
    master.send(context.base_dir(), signal.SIGUSR1)
    return EXIT_OK


def _log_find(context: Context, words: list[str]) -> int:
    _none(words)
    log = context.conf().view().logging
    info = log.info_log_path or log.log_path
    debug = log.debug_log_path or info
    for name, path in (("Debug", debug), ("Info", info), ("Warning", log.log_path), ("Error", log.log_path),
                       ("Fatal", log.log_path)):
        sys.stdout.write(f"{name}: {path}\n")
    return EXIT_OK


def _service_status(context: Context, words: list[str]) -> int:
    return _status(context, "SERVICE-STATUS", _SERVICE, "pager", words)


def _process_status(context: Context, words: list[str]) -> int:
    return _status(context, "PROCESS-STATUS", _PROCESS, "table", words)


def _status(context: Context, command: str, titles: tuple[str, ...], default: str, words: list[str]) -> int:
    control = master.Control(context.base_dir())
    try:
        known = {row[0] for row in control.rows("SERVICE-STATUS")}
        unknown = [word for word in words if word not in known]
        rows = control.rows(command, *words) if len(unknown) < len(words) or not words else []
    finally:
        control.close()
    if rows or not unknown:
        context.show(titles, rows, default)
    for word in unknown:
        sys.stderr.write(f"Error: Unknown service: {word}\n")
    return EXIT_NOT_FOUND if unknown else EXIT_OK


def _service_stop(context: Context, words: list[str]) -> int:
    if not words:
        raise Usage
    control = master.Control(context.base_dir())
    code = EXIT_OK
    try:
        for word in words:
            try:
                control.order("STOP", word)
            except master.Refused as refusal:
                sys.stderr.write(f"Error: {refusal}\n")
                code = EXIT_NOT_FOUND
    finally:
        control.close()
    return code


def _pw(context: Context, words: list[str]) -> int:
    pw = importlib.import_module("mailproxy.admin.pw")
    try:
        pw.run(words)
    except pw.BadOption:
        raise Usage from None
    return EXIT_OK


def _options(words: list[str], with_value: str, without: str = "") -> tuple[dict[str, list[str]], list[str]]:
    """`-x value` and `-u` in front of the other words: letter -> its values.  Usage for an unknown one."""
    found: dict[str, list[str]] = {}
    rest = list(words)
    while rest and len(rest[0]) == 2 and rest[0].startswith("-"):
        letter = rest.pop(0)[1]
        if letter in without:
            found[letter] = [""]
        elif letter in with_value and rest:
            found.setdefault(letter, []).append(rest.pop(0))
        else:
            raise Usage
    return found, rest


def _attempt(context: Context, words: list[str], letters: str) -> authtest.Attempt:
    options, rest = _options(words, letters)
    if not rest or len(rest) > 2:
        raise Usage
    base_dir = context.base_dir()
    password = rest[1] if len(rest) == 2 else _ask_password()
    return authtest.Attempt(base_dir, rest[0], password, options.get("M", [""])[-1], options.get("a", [""])[-1],
                            options.get("m", [""])[-1], options.get("x", []))


def _auth_test(context: Context, words: list[str]) -> int:
    """-x service=imap and the like are added to the request."""
    return authtest.test(_attempt(context, words, "axM"), sys.stdout)


def _auth_login(context: Context, words: list[str]) -> int:
    return authtest.login(_attempt(context, words, "axMm"), sys.stdout)


def _lookup(context: Context, words: list[str], with_value: str, without: str = "") -> authlookup.Lookup:
    options, rest = _options(words, with_value, without)
    if not rest or ("e" in options and options.keys() & {"f", "u"}):
        raise Usage
    return authlookup.Lookup(context.base_dir(), rest, options.get("f", [""])[-1], "u" in options,
                             options.get("e", [""])[-1], options.get("a", [""])[-1], options.get("x", []))


def _auth_lookup(context: Context, words: list[str]) -> int:
    return authlookup.passdb(_lookup(context, words, "axf"), sys.stdout)


def _user(context: Context, words: list[str]) -> int:
    return authlookup.userdb(_lookup(context, words, "axfe", "u"), sys.stdout)


def _auth_cache_flush(context: Context, words: list[str]) -> int:
    options, users = _options(words, "a")
    count = authlookup.flush(context.base_dir(), users, options.get("a", [""])[-1])
    sys.stdout.write(f"{count} cache entries flushed\n")
    return EXIT_OK


def _who(context: Context, words: list[str]) -> int:
    """-1: a row for each connection."""
    single = words[:1] == ["-1"]
    try:
        mask = anvil.Mask(words[1:] if single else words)
    except MailproxyError as failure:
        sys.stderr.write(f"Error: {failure}\n")
        return EXIT_USAGE
    rows = anvil.sessions(context.base_dir())
    keys = context.format == "json"
    if single:
        context.show(("username", "service" if keys else "proto", "pid", "ip"),
                     [row for row in rows if mask.takes(row[0], row[3:])], "table")
    else:
        context.show(("username", "connections", "service", "pids", "ips") if keys
                     else ("username", "#", "proto", "(pids)", "(ips)"), anvil.users(rows, mask), "table")
    return EXIT_OK


def _kick(context: Context, words: list[str]) -> int:
    """-f: also processes that serve others, too."""
    force = words[:1] == ["-f"]
    try:
        mask = anvil.Mask(words[1:] if force else words)
    except MailproxyError as failure:
        sys.stderr.write(f"Error: {failure}\n")
        return EXIT_USAGE
    if len(words) == force:
        sys.stderr.write("Error: user and/or ip[/bits] must be specified.\n")
        return EXIT_USAGE
    users = anvil.kick(anvil.sessions(context.base_dir()), mask, force=force)
    if not users:
        sys.stdout.write("no users kicked\n")
        return EXIT_NOT_FOUND
    sys.stdout.write("kicked connections from the following users:\n" + "".join(f"{user}\n" for user in users))
    return EXIT_OK


def _penalty(context: Context, words: list[str]) -> int:
    net = anvil.network(words[0]) if words else None
    if len(words) > 1 or (words and net is None):
        sys.stderr.write(f"Error: Extraneous arguments found: {' '.join(words[1:])}\n" if len(words) > 1
                         else f"Error: Invalid netmask '{words[0]}' given\n")
        return EXIT_USAGE
    context.show(("IP", "penalty", "last_penalty", "last_update"), anvil.penalties(context.base_dir(), net), "table")
    return EXIT_OK


def _ask_password() -> str:
    try:
        return getpass.getpass("Password: ")
    except EOFError:
        raise MailproxyError("no password given") from None


def _none(words: list[str]) -> None:
    if words:
        raise Usage


COMMANDS: dict[str, Command] = {
    "reload": Command(_reload, "", "check the configuration, then make the master read it again"),
    "stop": Command(_stop, "", "stop the master; waits up to 3 seconds"),
    "log reopen": Command(_log_reopen, "", "open the log files again (after rotation)"),
    "log find": Command(_log_find, "", "where each type of line is logged"),
    "service status": Command(_service_status, "[SERVICE...]", "counters and limits of services"),
    "service stop": Command(_service_stop, "SERVICE...", "close listeners, let processes finish; undone by a reload"),
    "process status": Command(_process_status, "[SERVICE...]", "the processes of services"),
    "who": Command(_who, "[-1] [USER-MASK] [IP[/BITS]]", "who is connected to local services"),
    "kick": Command(_kick, "[-f] [USER-MASK] [IP[/BITS]]", "end the local sessions of users"),
    "penalty": Command(_penalty, "[IP[/BITS]]", "addresses that wait for their failed logins"),
    "pw": Command(_pw, PW_ARGUMENTS, "make or verify a stored password"),
    "auth test": Command(_auth_test, "[-a SOCKET] [-x FIELD=VALUE] [-M MASTER] USER [PASSWORD]",
                         "try a login with the auth service"),
    "auth login": Command(_auth_login, "[-a SOCKET] [-m SOCKET] [-x FIELD=VALUE] [-M MASTER] USER [PASSWORD]",
                          "the same, and a userdb lookup"),
    "auth lookup": Command(_auth_lookup, "[-a SOCKET] [-x FIELD=VALUE] [-f FIELD] USER...",
                           "what the passdbs say of users"),
    "auth cache flush": Command(_auth_cache_flush, "[-a SOCKET] [USER...]", "forget cached answers"),
    "user": Command(_user, "[-a SOCKET] [-x FIELD=VALUE] [-f FIELD | -e TEXT] [-u] USER-MASK...",
                    "what the userdbs say of users"),
}


def usage() -> str:
    rows = "".join(f"  {name} {command.arguments}".rstrip().ljust(44) + f"  {command.about}\n"
                   for name, command in COMMANDS.items())
    return f"usage: mpadm [-c FILE] [-f {'|'.join(FORMATS)}] COMMAND [ARGUMENTS]\n\n{rows}"


def main(argv: list[str] | None = None) -> int:
    words = list(sys.argv[1:] if argv is None else argv)
    context = Context(cli.default_path())
    while words and words[0].startswith("-"):
        option = words.pop(0)
        if option in ("--help", "-h"):
            sys.stdout.write(usage())
            return EXIT_OK
        if option not in ("-c", "-f") or not words:
            sys.stderr.write(usage())
            return EXIT_USAGE
        if option == "-c":
            context.path = words.pop(0)
        else:
            context.format = words.pop(0)
    if context.format and context.format not in FORMATS:
        sys.stderr.write(f"Fatal: Unknown print formatter: {context.format}\n")
        return EXIT_TEMPFAIL
    for length in (3, 2, 1):
        name = " ".join(words[:length])
        command = COMMANDS.get(name) if len(words) >= length else None
        if command is not None:
            return _run(command, name, context, words[length:])
    sys.stderr.write(usage())
    return EXIT_USAGE


def _run(command: Command, name: str, context: Context, words: list[str]) -> int:
    try:
        return command.run(context, words)
    except Usage:
        sys.stderr.write(f"usage: mpadm {name} {command.arguments}".rstrip() + "\n")
        return EXIT_USAGE
    except ConfigInvalid as failure:
        cli.report(failure)
        return EXIT_FATAL if failure.problems and failure.problems[0].line else EXIT_TEMPFAIL
    except (MailproxyError, OSError) as failure:
        sys.stderr.write(f"Fatal: {failure}\n")
        return EXIT_TEMPFAIL
