"""What the cache keeps of an answer that says both a password and nopassword."""
from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from mailproxy.auth import outcome
from mailproxy.auth.cache import Cache
from mailproxy.auth.chain import CachedStep, Plan
from mailproxy.auth.fields import FieldTemplates
from mailproxy.auth.passdb.driver import Answer
from mailproxy.auth.request import Request

RULES = {outcome.OK: "return-ok", outcome.MISMATCH: "continue", outcome.INTERNAL: "continue",
         outcome.UNKNOWN: "continue"}


class Silent:
    verbose = debug = passwords = False

    def __getattr__(self, name: str) -> Callable[..., str]:
        return lambda *rest, **more: ""


class Database:
    def lookup(self, section: object, request: Request, check: bool, done: Callable[[Answer], None]) -> None:
        answer = Answer(outcome.OK, "{PLAIN}secret", [("nopassword", "y")])
        if check:
            answer.verdict = request.password == "secret"
        done(answer)


def test_a_guess_opens_nothing() -> None:
    section: Any = SimpleNamespace(
        number=1, driver=object(), name="sql", verbose=None, overrides=FieldTemplates(""), defaults=FieldTemplates(""),
        deny=False, rules=RULES, mechanisms=(), username_filter=None, skip="never", verify=None, master=False,
        needs=("user",))
    view = SimpleNamespace(
        auth_master_user_separator="", auth_default_realm="", auth_username_translation="", auth_username_chars="",
        auth_username_format="%Lu", auth_ssl_username_from_cert=False, auth_failure_delay=2)
    journal: Any = Silent()
    workers: Any = Database()
    cache = Cache(100_000, 3600, 3600, lambda: 0.0)
    plan = Plan([CachedStep(section, journal, workers, cache, ("user",), False)], view, journal)
    nobody: Any = None

    def login(password: str) -> bool:
        request = Request(nobody, 1, "PLAIN", [], plan, lambda _: None)
        plan.names.prepare(request, "joe", "")
        request.password = password
        plan.run(request)
        return bool(request.result == outcome.OK)
    assert [login(word) for word in ("wrong", "wrong", "other", "secret", "secret", "wrong")] == [
        False, False, False, True, True, False]
