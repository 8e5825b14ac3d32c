"""`-p`: the password of the TLS keys, asked for instead of written down.

In: a terminal, or standard input if there is none.  Out: a loader of configurations in which ssl_key_password has that
value wherever the files say nothing else; so a reload knows it, too.
Limit: _MAX_PASSWORD bytes.
"""
from __future__ import annotations

import os
import sys
import termios
from collections.abc import Callable
from typing import Any

from mailproxy.config.tree import Written
from mailproxy.errors import MailproxyError
from mailproxy.master.generation import settle_tls
from mailproxy.secret import Secret

PROMPT = "Give the password for SSL keys: "
_TERMINAL = "/dev/tty"
_SETTING = "ssl_key_password"
_MAX_PASSWORD = 1024


def ask() -> Secret:
    """One line without echo.  MailproxyError if there is none."""
    try:
        fd = os.open(_TERMINAL, os.O_RDWR | os.O_NOCTTY)
    except OSError:                     # no terminal: a script feeds us
        return _line(sys.stdin.fileno())
    try:
        before = termios.tcgetattr(fd)
        silent = termios.tcgetattr(fd)
        silent[3] &= ~termios.ECHO
        os.write(fd, PROMPT.encode())
        try:
            termios.tcsetattr(fd, termios.TCSAFLUSH, silent)
            return _line(fd)
        finally:
            termios.tcsetattr(fd, termios.TCSAFLUSH, before)
            os.write(fd, b"\n")
    finally:
        os.close(fd)


def _line(fd: int) -> Secret:
    text = b""
    while len(text) <= _MAX_PASSWORD:
        byte = os.read(fd, 1)
        if byte == b"\n" or not byte:
            break
        text += byte
    if not text or len(text) > _MAX_PASSWORD:
        raise MailproxyError("-p: no password was given" if not text else "-p: the password is too long")
    return Secret(text.decode("utf-8", "surrogateescape"))


def given(load: Callable[[str], Any]) -> Callable[[str], Any]:
    """`load`, with the password, which is asked for the first time that it is needed: the configuration may have this
    program started anew first, for OpenSSL's sake."""
    password: Secret | None = None

    def load_with_password(path: str) -> Any:
        nonlocal password
        conf = load(path)
        if password is None:
            settle_tls(conf)
            password = ask()
        settings = conf.top.node.settings
        if _SETTING not in settings or not settings[_SETTING].text:
            settings[_SETTING] = Written("", "", path=path, line=0, value=password)
        return conf
    return load_with_password
