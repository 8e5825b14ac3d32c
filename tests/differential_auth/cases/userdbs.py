"""The userdb chain, by USER and behind a login by REQUEST; lists of users."""
from __future__ import annotations

from tests.differential_auth.case import Ask, Case, login, passdb, user, userdb

_FILES = {
    "p": "u1:{PLAIN}pw\nu2:{PLAIN}pw::::::fb=2 userdb_home=/fromp userdb_z=1\nu3:{PLAIN}pw\nnop:{PLAIN}pw\n",
    "u": "u1:x:1001:1001:g:/home/u1:/bin/sh:userdb_mail=maildir:~/M userdb_quota_rule=*:storage=1G shell=x\n"
         "u2:x:1002:1003::/home/u2::userdb_user=renamed userdb_gone=1\n",
    "u2": "u1:x:5:6::/two/u1::userdb_two=2\nu3:x:7:8::/two/u3::\n"}
_PASSDB = passdb("passwd-file", "@case@/p")
_ASKS: list[Ask] = [user("u1"), user("u2"), user("u3"), user("nop"), user("unknown"), login("u1", "pw"),
                    login("u2", "pw"), login("u3", "pw"), login("nop", "pw")]
_RULES = ("return", "return-ok", "return-fail", "continue", "continue-ok", "continue-fail")
_BROKEN = "x=%{nosuch}"


def _one(**settings: object) -> str:
    return userdb("passwd-file", "@case@/u", **settings)


def _two(**settings: object) -> str:
    return userdb("passwd-file", "@case@/u2", **settings)


def _static(args: str = "uid=1000 gid=1000 home=/h/%u", **settings: object) -> str:
    return userdb("static", args, **settings)


def _case(name: str, *sections: str, asks: list[Ask] = _ASKS, ours: dict[str, str] | None = None,
          why: str = "") -> Case:
    return Case(name, "".join(sections or ("",)), asks, _FILES, ours=ours or {}, why=why)


_PREFETCH = userdb("prefetch")
CASES = [
    _case("no-userdb", _PASSDB),
    _case("file", _PASSDB, _one()),
    _case("file-file", _PASSDB, _one(), _two()),
    _case("static", _PASSDB, _static()),
    _case("static-everybody", _PASSDB, _static("uid=1000 gid=1000 home=/h/%u allow_all_users=yes")),
    _case("static-passdb-fields", _PASSDB, _static("uid=1000 gid=1000 x=%{passdb:fb:none} y=%{userdb:z:no}")),
    _case("static-nothing", _PASSDB, _static("")),
    _case("file-static", _PASSDB, _one(), _static()),
    _case("static-file", _PASSDB, _static(), _one()),
    *(_case(f"success-{rule}", _PASSDB, _one(result_success=rule, override_fields="o=1"), _two(override_fields="o=2"))
      for rule in _RULES),
    *(_case(f"failure-{rule}", _PASSDB, _one(result_failure=rule), _two()) for rule in _RULES),
    # not by a variable that does not exist: in default_fields of a userdb that crashes Dovecot
    *(_case(f"internal-{rule}", _PASSDB, _one(default_fields="tempfail=y", result_internalfail=rule), _two())
      for rule in _RULES),
    *(_case(f"override-broken-{rule}", _PASSDB, _one(override_fields=_BROKEN, result_success=rule), _two())
      for rule in ("return-ok", "continue", "continue-ok")),
    _case("skip-found", _PASSDB, _one(result_success="continue-ok"), _two(skip="found")),
    _case("skip-notfound", _PASSDB, _one(result_success="continue-ok"),
          _static("allow_all_users=yes", skip="notfound",
                  override_fields="home=/over mail:protected=xx uid:protected=9")),
    _case("skip-notfound-first", _PASSDB, _one(skip="notfound"), _two()),
    _case("skip-everything", _PASSDB, _one(skip="notfound")),
    _case("prefetch", _PASSDB, _PREFETCH, _one()),
    _case("prefetch-alone", _PASSDB, _PREFETCH),
    _case("defaults", _PASSDB, _one(default_fields="home=/def mail=def uid=99 extra=%u:%n")),
    _case("defaults-over-prefetched", _PASSDB, _static("allow_all_users=yes",
          default_fields="home=/d z:protected=2 y=3")),
    _case("overrides", _PASSDB, _one(override_fields="home=/over/%u mail:remove new=%{userdb:home} uid:protected=9")),
    _case("override-rename", _PASSDB, _one(override_fields="user=x%u")),
    _case("override-domain", _PASSDB, _one(override_fields="domain=ex.com")),
    _case("uid-name", _PASSDB, _static("uid=nobody gid=nogroup")),
    _case("gid-list", _PASSDB, _one(override_fields="gid=5")),
    _case("uid-zero", _PASSDB, _one(override_fields="uid=0 gid=0")),
    _case("tempfail", _PASSDB, _one(override_fields="tempfail=y reason=broken")),
    _case("tempfail-default", _PASSDB, _one(default_fields="tempfail=y reason=broken_db"), _two()),
    _case("import", _PASSDB, _one(override_fields="userdb_import=a=1")),
    _case("passwd", _PASSDB.replace("@case@/p", "@case@/sys"), userdb("passwd"),
          asks=[user("daemon"), user("nosuchaccount"), login("daemon", "pw")]),
    _case("renamed-by-passdb", passdb("passwd-file", "@case@/p", override_fields="user=u1"), _one()),
    _case("nopassword-passdb", passdb("static", "nopassword=y"), _static()),
    _case("pass-cannot-look-up", passdb("static", "a=1"), _static()),
    _case("denied", passdb("passwd-file", "@case@/u2", deny="yes"), _PASSDB, _static()),
    _case("noauthenticate", passdb("static", "nopassword=y noauthenticate=y userdb_early=1"), _PASSDB, _one()),
    _case("userdb-fields-of-failed", passdb("static", "password=zz userdb_early=1"), _PASSDB, _static()),
]
for _each in CASES:
    if _each.name == "passwd":
        _each.files = {**_FILES, "sys": "daemon:{PLAIN}pw\n"}
