"""LOGIN (draft-murchison-sasl-login): two prompts.  Obsolete, and still what many clients use."""
from __future__ import annotations

from mailproxy.errors import ProtocolError
from mailproxy.sasl.mechanism import Answer, Challenge, Credentials, Refusal, to_bytes, to_text
from mailproxy.secret import Secret

_USER_PROMPT = b"Username:"
_PASSWORD_PROMPT = b"Password:"


class Server:
    __slots__ = ("_user",)

    def __init__(self) -> None:
        self._user: str | None = None

    def respond(self, data: bytes | None) -> Answer:
        if data is not None and b"\0" in data:
            return Refusal("invalid input: NUL byte")
        if self._user is not None:
            return Credentials(self._user, to_text(data or b""))
        if data is None:
            return Challenge(_USER_PROMPT)
        self._user = to_text(data)
        return Challenge(_PASSWORD_PROMPT, self._user)


class Client:
    """Answers prompts in order, whatever they say: servers spell them in many ways."""

    __slots__ = ("_answers",)

    def __init__(self, user: str, password: Secret, authzid: str = "") -> None:
        self._answers = [password, Secret(user)]

    def initial(self) -> bytes | None:
        return None

    def respond(self, challenge: bytes) -> bytes:
        if not self._answers:
            raise ProtocolError("LOGIN: the server asks for more than name and password")
        return to_bytes(self._answers.pop().reveal())
