"""`mpadm pw`: makes and verifies stored passwords, with the options and messages of `doveadm pw`.

In: options; the password from -p or the terminal.  Out: one line `{SCHEME}data`, " (verified)" behind one that was.
"""
from __future__ import annotations

import getopt
import getpass
import sys

from mailproxy.auth import schemes
from mailproxy.errors import MailproxyError

_DEFAULT_SCHEME = "CRYPT"
#: Times that two passwords may differ before there is something else wrong than the typing.
_ATTEMPTS = 3


class BadOption(MailproxyError):
    """Options that do not exist or do not fit."""


def run(words: list[str]) -> None:
    try:
        pairs, rest = getopt.getopt(words, "lp:r:s:t:u:V")
    except getopt.GetoptError as error:
        raise BadOption(str(error)) from None
    if rest:
        raise BadOption(f"Extraneous arguments found: {' '.join(rest)}")
    options = dict(pairs)
    if "-l" in options:
        sys.stdout.write(" ".join(schemes.names()) + "\n")
    elif "-t" in options:
        stored = schemes.detect(options["-t"], "")
        if stored.startswith("{}"):
            raise MailproxyError("Missing {scheme} prefix from hash")
        _verify(stored, _password(options, again=False), options.get("-u", ""))
        sys.stdout.write(f"{stored} (verified)\n")
    else:
        _make(options)


def _make(options: dict[str, str]) -> None:
    rounds = options.get("-r", "0")
    if not (rounds.isascii() and rounds.isdecimal()) or len(rounds) > 10:
        raise MailproxyError(f"Invalid number of rounds: {rounds}")
    scheme, user = options.get("-s", _DEFAULT_SCHEME), options.get("-u", "")
    schemes.known(scheme)
    password = _password(options, again=True)
    stored = schemes.generate(scheme, password, int(rounds), user)
    if "-V" in options:
        _verify(stored, password, user)
        stored += " (verified)"
    sys.stdout.write(stored + "\n")


def _verify(stored: str, password: str, user: str) -> None:
    try:
        right = schemes.verify(stored, password, user)
    except schemes.UnknownScheme:
        raise MailproxyError("reverse decode check failed: Unknown scheme") from None
    except schemes.SchemeError as error:
        raise MailproxyError(f"reverse decode check failed: {str(error).partition(': ')[2]}") from None
    if not right:
        raise MailproxyError("reverse password verification check failed: Password mismatch")


def _password(options: dict[str, str], *, again: bool) -> str:
    """Without -p asked for, twice when it is a new one."""
    if "-p" in options:
        return options["-p"]
    try:
        for _ in range(_ATTEMPTS):
            first = getpass.getpass("Enter new password: " if again else "Enter password to verify: ")
            if not again or getpass.getpass("Retype new password: ") == first:
                return first
            sys.stderr.write("Error: Passwords don't match!\n")
    except EOFError:
        raise MailproxyError("no password given") from None
    raise MailproxyError("Passwords don't match!")
