"""Half of a surrogate pair in what strangers write as JSON: it may be refused, but must be possible to report."""
from __future__ import annotations

import base64

import pytest

from mailproxy.auth import outcome, workerwire
from mailproxy.auth.jsonobject import as_text
from mailproxy.auth.jsonwebtoken import TokenRefused, Validator
from mailproxy.auth.passdb.driver import Answer
from mailproxy.ipc.authwire import encode


def part(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def test_a_token_of_a_stranger() -> None:
    token = part(r'{"typ":"JWT","alg":"\ud800"}') + "." + part("{}") + ".AAAA"
    with pytest.raises(TokenRefused) as refused:
        Validator(lambda _: None, [], "").claims(token)
    assert encode(workerwire.answer_line("1", Answer(outcome.MISMATCH, note=f"refused: {refused.value}")))


def test_values() -> None:
    assert as_text("a\ud800b") == "a\ufffd\ufffd\ufffdb"
    assert as_text("Häuptling\n") == "Häuptling\n"
