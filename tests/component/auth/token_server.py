"""What a small OpenID server answers, chosen by the token or the password that it is asked about."""
from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from pathlib import Path
from typing import Any

from tests.fakes.http_answers import Answer, Asked

USER = "joe@ex.com"
TOKENS = {
    "ok": '{"email":"joe@ex.com","active":true,"x":5,"f":1.50,"n":null,"b":false,"scope":"mail imap",'
          '"nested":{"email":"evil"},"arr":["a","b"],"token_type":"bearer"}',
    "noactive": '{"email":"joe@ex.com","scope":"mail"}', "inactive": '{"email":"joe@ex.com","active":false}',
    "activetext": '{"email":"joe@ex.com","active":"true"}', "other": '{"email":"ann@ex.com","active":true}',
    "upper": '{"email":"JOE@EX.com","active":true}', "noname": '{"active":true}',
    "onescope": '{"email":"joe@ex.com","scope":"imap"}', "audience": '{"email":"joe@ex.com","aud":"mail"}',
    "twoaudiences": '{"email":"joe@ex.com","aud":"mail x"}', "otheraudience": '{"email":"joe@ex.com","aud":"x"}',
    "mac": '{"email":"joe@ex.com","active":true,"token_type":"mac"}', "junk": "hello", "list": "[1,2]", "empty": "",
    "cut": '{"email":"joe@ex.com"', "trailing": '{"email":"joe@ex.com","active":true} xx',
    "number": '{"email":5,"active":true}', "noletters": '{"email":"","active":true}',
    "twice": '{"email":"ann@ex.com","email":"joe@ex.com","active":true}',
    "unicode": '{"email":"joe@ex.com","active":true,"u":"\\u00e4\\ud83d\\ude00","t":"a\\tb"}',
    "listaudience": '{"email":"joe@ex.com","aud":["mail","x"]}', "invalid": '{"error":"invalid_token"}',
}
STATUS = {"s500": 500, "s503": 503, "s400": 400, "s401": 401, "s404": 404}
GRANTS = {
    "good": (200, '{"access_token":"ok","token_type":"bearer"}'),
    "complete": (200, '{"access_token":"ok","email":"joe@ex.com","active":true}'),
    "p w&d@": (200, '{"access_token":"ok"}'), "wrong": (400, '{"error":"invalid_grant"}'),
    "wrong401": (401, '{"error":"invalid_grant"}'), "client": (400, '{"error":"invalid_client"}'),
    "notoken": (200, '{"x":1}'), "down": (500, ""), "inactive": (200, '{"access_token":"inactive"}'),
    "stranger": (200, '{"access_token":"other"}'), "mac": (200, '{"access_token":"ok","token_type":"mac"}'),
}


def about_token(asked: Asked) -> Answer:
    token = asked.query.get("token") or asked.headers.get("Authorization", "").removeprefix("Bearer ")
    if token in STATUS:
        return Answer('{"error":"something"}', STATUS[token])
    return Answer(TOKENS.get(token, '{"active":false,"email":"nobody"}'))


def grant(asked: Asked) -> Answer:
    status, body = GRANTS.get(asked.query.get("password", ""), (400, '{"error":"invalid_grant"}'))
    return Answer(body, status)


PATHS = {"/introspect": about_token, "/tokeninfo": about_token, "/grant": grant}

# -- tokens of our own ------------------------------------------------------------------------------------------------

SECRET = b"a secret of some length, as HMAC wants it"


def _part(value: Any) -> str:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def claims(**changed: Any) -> dict[str, Any]:
    """Good ones, changed; None takes one away."""
    everything = {"sub": USER, "email": USER, "exp": int(time.time()) + 600, **changed}
    return {name: value for name, value in everything.items() if value is not None}


def hs256(body: Any, header: dict[str, Any] | None = None, key: bytes = SECRET) -> str:
    message = f"{_part(header if header is not None else {'alg': 'HS256', 'typ': 'JWT'})}.{_part(body)}"
    return f"{message}.{_part(hmac.new(key, message.encode(), hashlib.sha256).digest())}"


def write_keys(directory: Path, keys: dict[str, str]) -> None:
    for name, text in keys.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="ascii")
        for each in (path, *path.parents):
            if each == directory.parent:
                break
            each.chmod(0o755)


def secret_key() -> str:
    return base64.b64encode(SECRET).decode()
