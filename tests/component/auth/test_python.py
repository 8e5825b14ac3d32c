"""passdb and userdb python: what Dovecot makes of the same script in Lua, and scripts that misbehave."""
from __future__ import annotations

import contextlib
import os
import tempfile
import time
from pathlib import Path

import pytest

from mailproxy.auth.passdb.driver import ArgsInvalid
from mailproxy.auth.passdb.python import Python
from tests.component.auth.peer import Peer
from tests.component.auth.processes import dovecot, ours
from tests.component.auth.scenario import Passdb, Scenario
from tests.component.auth.test_oauth2 import ask

#: name -> (result, fields or text) in the words of Lua and of Python.
_ROWS: dict[str, tuple[str, str, str]] = {
    "text": ("OK", '"password=pw a=1 b=%u c d=x"', '"password=pw a=1 b=%u c d=x"'),
    "table": ("OK", '{password="pw", t=true, f=false, n=5, s="a b"}',
              '{"password": "pw", "t": True, "f": False, "n": 5, "s": "a b"}'),
    "hashed": ("OK", '{password="{SHA}jcRgK4AtOTdxvTFX7qqGvw6aYHI="}',
               '{"password": "{SHA}jcRgK4AtOTdxvTFX7qqGvw6aYHI="}'),
    "nothing": ("OK", '{a="1"}', '{"a": "1"}'), "empty": ("OK", '""', '""'),
    "free": ("OK", '{nopassword="y", a="1"}', '{"nopassword": "y", "a": "1"}'),
    "unknown": ("USER_UNKNOWN", '"nobody"', '"nobody"'), "mismatch": ("PASSWORD_MISMATCH", '"no"', '"no"'),
    "internal": ("INTERNAL_FAILURE", '"broken"', '"broken"'), "disabled": ("USER_DISABLED", '"d"', '"d"'),
    "expired": ("PASS_EXPIRED", '"e"', '"e"'), "scheme": ("SCHEME_NOT_AVAILABLE", '"s"', '"s"'),
    "next": ("NEXT", '{x="7"}', '{"x": "7"}'),
    "vars": ("OK", '{password="pw", x=req:var_expand("%n-%d-%s-%l-%{session}-%w"), y=req.service, z=req.rip}',
             '{"password": "pw", "x": req.var_expand("%n-%d-%s-%l-%{session}-%w"), "y": req.service, '
             '"z": req.rip}'),
    "template": ("OK", 'req:response_from_template("password=pw a=%u b=x c")',
                 'req.response_from_template("password=pw a=%u b=x c")'),
    "verified": ("OK", '{password="pw", r=tostring(req:password_verify("{PLAIN}pw", req.password) == 1)}',
                 '{"password": "pw", "r": str(req.password_verify("{PLAIN}pw", req.password)[0] == 1).lower()}'),
    "proxied": ("OK", '{password="pw", proxy="y", host="10.0.0.1", user="other", userdb_x="5"}',
                '{"password": "pw", "proxy": "y", "host": "10.0.0.1", "user": "other", "userdb_x": "5"}'),
    "earlier": ("OK", '{password="pw", e=tostring(req.passdb["first"])}',
                '{"password": "pw", "e": req.passdb.get("first", "nil")}'),
}
_LUA = "function auth_passdb_lookup(req)\n" + "".join(
    f'  if req.user == "{name}" then return dovecot.auth.PASSDB_RESULT_{result}, {lua} end\n'
    for name, (result, lua, _) in _ROWS.items()) + """
  if req.user == "one" then return dovecot.auth.PASSDB_RESULT_OK end
  if req.user == "none" then return end
  if req.user == "odd" then return 77, "x" end
  if req.user == "error" then error("boom") end
  return dovecot.auth.PASSDB_RESULT_USER_UNKNOWN, ""
end
"""
_PYTHON = "from mailproxy.auth.script import *\ndef auth_passdb_lookup(req):\n" + "".join(
    f'  if req.user == "{name}": return PASSDB_RESULT_{result}, {python}\n'
    for name, (result, _, python) in _ROWS.items()) + """  if req.user == "one": return PASSDB_RESULT_OK
  if req.user == "none": return
  if req.user == "odd": return 77, "x"
  if req.user == "error": raise RuntimeError("boom")
  return PASSDB_RESULT_USER_UNKNOWN, ""
"""
_LUA_VERIFY = """function auth_password_verify(req, pass)
  if req.user == "text" and pass == "pw" then return dovecot.auth.PASSDB_RESULT_OK, {a="1"} end
  if req.user == "table" and pass == "pw" then return dovecot.auth.PASSDB_RESULT_OK, {password="other", a="1"} end
  if req.user == "next" then return dovecot.auth.PASSDB_RESULT_NEXT, {x="7"} end
  if req.user == "disabled" then return dovecot.auth.PASSDB_RESULT_USER_DISABLED, "d" end
  return dovecot.auth.PASSDB_RESULT_PASSWORD_MISMATCH, "no"
end
"""
_PYTHON_VERIFY = """from mailproxy.auth.script import *
def auth_password_verify(req, password):
  if req.user == "text" and password == "pw": return PASSDB_RESULT_OK, {"a": "1"}
  if req.user == "table" and password == "pw": return PASSDB_RESULT_OK, {"password": "other", "a": "1"}
  if req.user == "next": return PASSDB_RESULT_NEXT, {"x": "7"}
  if req.user == "disabled": return PASSDB_RESULT_USER_DISABLED, "d"
  return PASSDB_RESULT_PASSWORD_MISMATCH, "no"
"""
_LOGINS = [(name, password) for name in (*_ROWS, "one", "none", "odd", "error", "nobody") for password in ("pw", "bad")]


def _scenario(driver: str, script: str, *more: Passdb, before: tuple[Passdb, ...] = (), **settings: object) -> Scenario:
    passdb = Passdb(driver, "file=@DIR@/script")
    return Scenario([*before, passdb, *more], {"auth_verbose": True, **settings}, {"script": script})


@pytest.mark.parametrize("case", ["lookup", "verify", "next"])
def test_as_the_same_script_in_lua(case: str) -> None:
    lua, python = (_LUA_VERIFY, _PYTHON_VERIFY) if case == "verify" else (_LUA, _PYTHON)
    more = (Passdb("static", "nopassword=y last=1", username_filter=("next",)),) if case != "lookup" else ()
    before = (Passdb("static", "nopassword=y noauthenticate=y first=1", username_filter=("earlier",)),)
    answers = []
    for start, driver, script in ((dovecot, "lua", lua), (ours, "python", python)):
        scene = _scenario(driver, script, *more, before=before)
        with tempfile.TemporaryDirectory(prefix="mailproxy-auth-") as directory, start(scene, Path(directory)):
            answers.append(ask(Path(directory) / "run", _LOGINS))
    theirs, mine = answers
    assert len(theirs) == len(_LOGINS)
    for login, line in theirs.items():
        assert sorted(mine[login].split("\t")) == sorted(line.split("\t")), login


_BAD = """
import os, time
from mailproxy.auth.script import *
def script_init():
    return 0
def auth_passdb_lookup(req):
    match req.username:
        case "exit": raise SystemExit(3)
        case "hard": os._exit(1)
        case "sleep": time.sleep(60)
        case "spin":
            while True: pass
        case "name": return PASSDB_RESULT_OK, {"a\\tuser=root": "1", "nopassword": "y"}
        case "value": return PASSDB_RESULT_OK, {"a": "1\\tuser=root\\n", "nopassword": "y"}
        case "object": return PASSDB_RESULT_OK, {"a": object(), "nopassword": "y"}
        case "huge": return PASSDB_RESULT_OK, {"a": "x" * 100000, "nopassword": "y"}
        case "wrong": return undefined_name
        case "secret": raise ValueError(req.password)
        case "log": req.log_info("it\\nis " + req.service); req.log_debug("unseen")
        case "true": return True, {"nopassword": "y"}
        case "deep": return auth_passdb_lookup(req)
    return PASSDB_RESULT_OK, {"nopassword": "y"}
"""


def test_scripts_that_misbehave_cost_one_answer(tmp_path: Path) -> None:
    scene = _scenario("python", _BAD)
    scene.passdbs[0] = Passdb("python", "@DIR@/script timeout=1")
    with ours(scene, tmp_path, 3) as process:
        peer = Peer(process.path("login/login"))
        start = time.monotonic()
        for user in ("exit", "sleep", "spin", "name", "object", "huge", "wrong", "secret", "true", "deep"):
            assert "code=temp_fail" in peer.auth(user, "top-secret"), user
            assert peer.auth("fine", "x") == "OK\tuser=fine"
        assert time.monotonic() - start < 12
        assert peer.auth("value", "x") == "OK\tuser=value\ta=1\x01tuser=root\x01n"
        assert peer.auth("log", "x").startswith("OK\t")
        assert "code=temp_fail" in peer.auth("hard", "x")               # two workers died of it, one is left
        assert peer.auth("fine", "x") == "OK\tuser=fine"
        peer.close()
        log = process.log()
        assert "top-secret" not in log
        assert "took too long" in log
        assert "undefined_name" in log
        assert "python(log): it\\nis imap" in log
        assert "unseen" not in log
    for pid in process.worker_pids:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)


def test_a_script_that_cannot_start_is_tried_again(tmp_path: Path) -> None:
    script = f"""
import os
from mailproxy.auth.script import *
def script_init():
    return 0 if os.path.exists("{tmp_path}/ready") else 1
def auth_passdb_lookup(req):
    return PASSDB_RESULT_OK, "nopassword"
def script_deinit():
    open("{tmp_path}/ended", "w").close()
"""
    now = [0.0]
    path = tmp_path / "script.py"
    path.write_text(script, encoding="utf-8")
    from mailproxy.auth.scriptfile import Args, Caller
    caller = Caller("passdb", Args("passdb", str(path)), lambda: now[0])
    caller.open()
    values = _Values()
    assert "script_init" in caller.ask("auth_passdb_lookup", values).error or \
        "just now" in caller.ask("auth_passdb_lookup", values).error
    (tmp_path / "ready").touch()
    assert "just now" in caller.ask("auth_passdb_lookup", values).error
    now[0] = 6.0
    assert caller.ask("auth_passdb_lookup", values).result == 1
    caller.close()
    assert (tmp_path / "ended").exists()


class _Values(dict[str, str]):
    def __missing__(self, key: str) -> str:
        return ""


def test_a_changed_file_counts_when_the_configuration_is_read(tmp_path: Path) -> None:
    path = tmp_path / "route.py"
    template = ("from mailproxy.auth.script import *\n"
                "def lookup(req): return PASSDB_RESULT_OK, {'nopassword': 'y', 'v': '%s'}\n")
    path.write_text(template % "old", encoding="utf-8")
    old = Python(f"{path}:lookup")
    path.write_text(template % "new", encoding="utf-8")
    new = Python(f"{path}:lookup")
    for driver, version in ((old, "old"), (new, "new")):
        driver.open()
        assert ("v", version) in driver.lookup(_Values()).fields
        driver.close()


@pytest.mark.parametrize(("script", "args", "text"), [
    ("def f(:", "@PATH@", "line 1"), ("\0", "@PATH@", "null bytes"), (None, "@PATH@", "No such file"),
    ("", "", "full path"), ("", "route.py", "wrong setting"), ("", "@PATH@ timeout=0", "timeout"),
    ("", "@PATH@ blocking=no", "blocking"), ("", "@PATH@ what=5", "what")])
def test_bad_args_are_told(tmp_path: Path, script: str | None, args: str, text: str) -> None:
    path = tmp_path / "script.py"
    if script is not None:
        path.write_text(script, encoding="utf-8")
    with pytest.raises(ArgsInvalid, match=text):
        Python(args.replace("@PATH@", str(path)))


_USERS = """
from mailproxy.auth.script import *
def auth_userdb_lookup(req):
    if req.user == "joe": return USERDB_RESULT_OK, {"uid": 1000, "gid": 1000, "home": "/h/" + req.username}
    if req.user == "broken": raise KeyError
    if req.user == "temp": return USERDB_RESULT_INTERNAL_FAILURE, "later"
    return USERDB_RESULT_USER_UNKNOWN, "nobody"
def auth_userdb_iterate():
    yield "joe"
    yield "ann"
"""


def test_userdb(tmp_path: Path) -> None:
    scene = Scenario([Passdb("static", "nopassword=y")], {"auth_verbose": True}, {"users.py": _USERS},
                     userdbs=[Passdb("python", "file=@DIR@/users.py")])
    with ours(scene, tmp_path) as process:
        peer = Peer(process.path("auth-userdb"), handshake=False)
        peer.send("VERSION\t1\t1")
        assert peer.line().startswith("VERSION")
        assert peer.line().startswith("SPID")
        replies = []
        for number, user in enumerate(("joe", "ann", "broken", "temp"), 1):
            peer.send(f"USER\t{number}\t{user}\tservice=lmtp")
            replies.append(peer.line())
        assert replies == ["USER\t1\tjoe\tuid=1000\tgid=1000\thome=/h/joe", "NOTFOUND\t2", "FAIL\t3", "FAIL\t4"]
        peer.send("LIST\t9\tservice=doveadm")
        assert sorted(peer.line() for _ in range(3)) == ["DONE\t9\t", "LIST\t9\tann", "LIST\t9\tjoe"]
        peer.close()
