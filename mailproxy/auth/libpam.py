"""The part of libpam that a login needs, without a package of its own: a conversation that gives one password.

In: service, user, password.  Out: a Verdict.  Blocking, and as safe as the configured modules are: for auth-workers.
The C library frees what the conversation answers, so that has to come from its own allocator.
"""
from __future__ import annotations

import ctypes
import ctypes.util
from dataclasses import dataclass
from functools import cache
from typing import Any

from mailproxy.errors import DriverMissing

SUCCESS, AUTH_ERROR, USER_UNKNOWN = 0, 7, 10
NEW_TOKEN_REQUIRED, ACCOUNT_EXPIRED = 12, 13
#: The modules could not be loaded, or had nobody to ask: says nothing about the password.  (A system error does: so
#: pam_exec answers when its program refuses.)
TROUBLE = frozenset((1, 2, 3, 5, 9, 26, 28))
_CONVERSATION_ERROR, _OUT_OF_MEMORY = 19, 5
_PROMPT_HIDDEN, _PROMPT_SHOWN = 1, 2
_USER, _TERMINAL, _REMOTE_HOST, _REMOTE_USER = 2, 3, 4, 8
_ESTABLISH = 2
#: Messages of modules in one conversation; more is a module gone mad.
MAX_MESSAGES = 64


class _Message(ctypes.Structure):
    _fields_ = [("style", ctypes.c_int), ("text", ctypes.c_char_p)]


class _Response(ctypes.Structure):
    _fields_ = [("text", ctypes.c_void_p), ("code", ctypes.c_int)]


_Talk = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.POINTER(ctypes.POINTER(_Message)),
                         ctypes.POINTER(ctypes.POINTER(_Response)), ctypes.c_void_p)


class _Conversation(ctypes.Structure):
    _fields_ = [("talk", _Talk), ("data", ctypes.c_void_p)]


@dataclass(frozen=True, slots=True)
class Verdict:
    """`step`: the function that failed; `user`: as the modules changed it; `message`: the last one for the user."""

    status: int
    step: str = ""
    reason: str = ""
    user: str = ""
    message: str = ""


@cache
def _libraries() -> tuple[Any, Any]:
    try:
        pam = ctypes.CDLL("libpam.so.0")
    except OSError:
        raise DriverMissing("pam: libpam.so.0 is not there, install the Debian package libpam0g") from None
    libc = ctypes.CDLL(None)
    libc.calloc.restype = libc.strdup.restype = ctypes.c_void_p
    libc.calloc.argtypes = (ctypes.c_size_t, ctypes.c_size_t)
    libc.strdup.argtypes = (ctypes.c_char_p,)
    libc.free.argtypes = (ctypes.c_void_p,)
    handle = ctypes.c_void_p
    pam.pam_start.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.POINTER(_Conversation), ctypes.POINTER(handle))
    pam.pam_set_item.argtypes = (handle, ctypes.c_int, ctypes.c_char_p)
    pam.pam_get_item.argtypes = (handle, ctypes.c_int, ctypes.POINTER(ctypes.c_char_p))
    pam.pam_strerror.argtypes = (handle, ctypes.c_int)
    pam.pam_strerror.restype = ctypes.c_char_p
    for name in ("pam_authenticate", "pam_setcred", "pam_acct_mgmt", "pam_open_session", "pam_close_session",
                 "pam_end"):
        getattr(pam, name).argtypes = (handle, ctypes.c_int)
    return pam, libc


def check() -> None:
    """DriverMissing if there is no libpam."""
    _libraries()


class _Talker:
    """Answers prompts: a visible one with the name, the first hidden one with the password, another one not at all."""

    __slots__ = ("_libc", "_password", "_sent", "_user", "message")

    def __init__(self, libc: Any, user: bytes, password: bytes) -> None:
        self._libc = libc
        self._user = user
        self._password = password
        self._sent = False
        self.message = b""

    def __call__(self, count: int, messages: Any, responses: Any, _data: Any) -> int:
        if not 0 < count <= MAX_MESSAGES:
            return _CONVERSATION_ERROR
        block = self._libc.calloc(count, ctypes.sizeof(_Response))
        if not block:
            return _OUT_OF_MEMORY
        answers = ctypes.cast(block, ctypes.POINTER(_Response))
        for index in range(count):
            message = messages[index].contents
            if message.style in (_PROMPT_HIDDEN, _PROMPT_SHOWN):
                answer = self._answer(message.style)
                if answer is None:
                    for earlier in range(index):
                        self._libc.free(answers[earlier].text)
                    self._libc.free(block)
                    return _CONVERSATION_ERROR
                answers[index].text = self._libc.strdup(answer)
            else:
                self.message = message.text or b""
        responses[0] = answers
        return SUCCESS

    def _answer(self, style: int) -> bytes | None:
        if style == _PROMPT_SHOWN:
            return self._user
        if self._sent:
            return None
        self._sent = True
        return self._password


def authenticate(service: str, user: str, password: str, remote: str, *, credentials: bool = False,
                 session: bool = False) -> Verdict:
    """`remote`: the client's address, "" if it has none."""
    pam, libc = _libraries()
    name = _bytes(user)
    talker = _Talker(libc, name, _bytes(password))
    conversation = _Conversation(_Talk(talker), None)
    handle = ctypes.c_void_p()
    status: int = pam.pam_start(_bytes(service), name, ctypes.byref(conversation), ctypes.byref(handle))
    if status != SUCCESS:
        return Verdict(status, "pam_start", _text(pam.pam_strerror(handle, status)))
    if remote:
        pam.pam_set_item(handle, _REMOTE_HOST, _bytes(remote))
    pam.pam_set_item(handle, _REMOTE_USER, name)
    pam.pam_set_item(handle, _TERMINAL, b"dovecot")         # modules are configured for this word
    status, step = _steps(pam, handle, credentials, session)
    reason = _text(pam.pam_strerror(handle, status)) if step else ""
    item = ctypes.c_char_p()
    changed = b""
    if status == SUCCESS and pam.pam_get_item(handle, _USER, ctypes.byref(item)) == SUCCESS:
        changed = item.value or b""
    pam.pam_end(handle, status)
    return Verdict(status, step, reason, _text(changed), _text(talker.message))


def _steps(pam: Any, handle: ctypes.c_void_p, credentials: bool, session: bool) -> tuple[int, str]:
    """The status, and the function that failed ("" if none did)."""
    steps = [("pam_authenticate", 0)]
    if credentials:
        steps.append(("pam_setcred", _ESTABLISH))
    steps.append(("pam_acct_mgmt", 0))
    if session:
        steps += [("pam_open_session", 0), ("pam_close_session", 0)]
    for name, flags in steps:
        status: int = getattr(pam, name)(handle, flags)
        if status != SUCCESS:
            return status, name
    return SUCCESS, ""


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _text(raw: bytes | None) -> str:
    return (raw or b"").decode("utf-8", "surrogateescape")
