"""`mailproxy check` over whole configurations: what lands in which section, and the exit code."""
from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mailproxy import cli
from mailproxy.check import certificates
from mailproxy.check.findings import Findings
from mailproxy.config.loader import examine
from tests.certificates import Authority

HEAD = ("protocols = imap\nbase_dir = {dir}/run\nstate_dir = {dir}/state\nlog_path = {dir}/log\n"
        "default_login_user = nobody\ndefault_internal_user = nobody\ndefault_internal_group = nogroup\n")
PASSDB = "passdb {\ndriver = static\nargs = nopassword=y proxy=y host=127.0.0.1 pass=hidden\n}\n"
#: Line of the first line after HEAD.
FIRST = HEAD.count("\n") + 1
Result = dict[str, list[str]]
Check = Callable[..., Result]


@pytest.fixture
def check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Check:
    """Runs it on HEAD and a text; (section -> lines "line: text"), with the exit code as section "code"."""
    def run(text: str, *words: str, head: str = HEAD) -> Result:
        path = tmp_path / "mailproxy.conf"
        path.write_text(head.format(dir=tmp_path) + text)
        code = cli.main(["-c", str(path), "check", "--json", *words])
        report = json.loads(capsys.readouterr().out)
        result = {name: [(f"{Path(row['file']).name}:" if row["file"] not in ("", str(path)) else "")
                         + f"{row['line'] - FIRST + 1 if row['file'] == str(path) and row['line'] else row['line']}: "
                         + row["text"].replace(str(tmp_path), "DIR") for row in report[name]]
                  for name in ("errors", "warnings", "obsolete", "ignored")}
        return {**result, "code": [str(code)]}
    return run


def fine(**sections: list[str]) -> Result:
    return {"errors": [], "warnings": [], "obsolete": [], "ignored": [], "code": ["0"], **sections}


def test_nothing_to_say(check: Check) -> None:
    assert check(PASSDB + "ssl = no\n") == fine()


def test_all_sections_at_once(check: Check) -> None:
    found = check("foo = 1\nssl = maybe\nmail_location = x\nssl_disable = no\nverbose_proctitle = 1\n" + PASSDB
                  + "mail_debug = x\nmail_plugins = a\nlocal 10.0.0.0/8 {\nmail_plugins = b\n}\nmail_plugins = c\n")
    assert found["errors"] == ["1: Unknown setting: foo", "2: Invalid value: maybe",
                               "10: Invalid boolean value: x (use yes or no)"]
    assert found["obsolete"] == ["4: ssl_disable has been renamed to ssl"]
    assert found["ignored"] == ["3: mail_location: ignored: no mail storage here",
                                "13: mail_plugins: ignored: no mail storage here",
                                "15: mail_plugins: ignored: no mail storage here"]
    assert len(found["warnings"]) == 1
    assert found["warnings"][0].startswith("15: Global setting mail_plugins won't change")
    assert found["code"] == ["89"]


def test_what_is_ignored(check: Check) -> None:
    found = check(PASSDB + "ssl = no\nplugin {\nquota = x\nsieve = y\n}\nnamespace inbox {\ninbox = yes\n}\n"
                  "namespace {\nprefix = x/\n}\ndict {\na = b\n}\nuserdb {\ndriver = passwd\n}\n"
                  "service pop3-login {\nclient_limit = 5\n}\n"
                  "service imap-hibernate {\nprocess_limit = 5\n}\n"
                  "service indexer {\nuser = root\n}\nservice pop3 {\n}\n"
                  "director_servers = 1.2.3.4\nprotocol pop3 {\npop3_uidl_format = %u\n}\n"
                  "service imap-login {\nclient_limit = 100\nservice_count = 0\n}\n")
    assert found["ignored"] == [
        "7: plugin { quota }: ignored: no mail storage here", "8: plugin { sieve }: ignored: no mail storage here",
        "10: namespace inbox: ignored: no mail storage here", "13: namespace: ignored: no mail storage here",
        "17: dict { a }: ignored: no such service here",
        "25: service imap-hibernate: ignored: no mail storage here",
        "28: service indexer: ignored: no such service here",
        "33: director_servers: ignored: no such service here",
        "35: pop3_uidl_format: ignored: no mail storage here"]
    assert (found["errors"], found["code"]) == ([], ["0"])


def test_strict_minds_warnings(check: Check) -> None:
    text = PASSDB.replace("host=", "colour=x host=") + "ssl = no\n"
    found = check(text)
    assert (found["warnings"], found["code"]) == (["1: passdb static: unknown field colour is ignored"], ["0"])
    assert check(text, "--strict")["code"] == ["1"]
    assert check(PASSDB + "ssl = no\n", "--strict")["code"] == ["0"]
    assert check("auth_count = 1\nssl = no\n" + PASSDB, "--strict")["code"] == ["1"]


def test_files_that_cannot_be_read(check: Check, tmp_path: Path) -> None:
    found = check("ssl_cert = <nothing.pem\nssl_key = <nothing.key\nmail_server_comment = <nothing\n"
                  "passdb {\ndriver = sql\nargs = /nonexistent\n}\n"
                  "passdb {\ndriver = passwd-file\nargs = DIR/none\n}\n")
    reason = "No such file or directory"
    assert [line for line in found["errors"] if line.startswith(("1:", "2:"))] == [
        f"1: ssl_cert: Can't open file DIR/nothing.pem: {reason}",
        f"2: ssl_key: Can't open file DIR/nothing.key: {reason}"]
    assert any(line.startswith("4: ") and "/nonexistent" in line for line in found["errors"])
    assert f"8: passdb passwd-file: DIR/none can't be read by service auth: {reason}" in found["errors"]
    assert f"3: mail_server_comment: Can't open file DIR/nothing: {reason}" in found["warnings"]


def test_a_passwd_file_is_read_as_the_auth_user(check: Check, tmp_path: Path) -> None:
    path = tmp_path / "users"
    path.write_text("joe:{PLAIN}x::::::proxy=y host=h port=0\nann:{PLAIN}x::::::proxy=y host=h hots=2\n# :\n\njim:x\n")
    text = f"ssl = no\npassdb {{\ndriver = passwd-file\nargs = scheme=plain username_format=%u {path}\n}}\n"
    path.chmod(0o600)
    for directory in (tmp_path, *tmp_path.parents[:-2]):
        directory.chmod(0o755)
    assert check(text)["errors"] == [
        "2: passdb passwd-file: DIR/users can't be read by service auth: Permission denied",
        "users:1: port=0: a port is a number from 1 to 65535"]
    path.chmod(0o644)
    found = check(text)
    assert found["errors"] == ["users:1: port=0: a port is a number from 1 to 65535"]
    assert found["warnings"] == ["users:2: unknown field hots is ignored (do you mean host?)"]


@pytest.mark.parametrize(("query", "errors", "warnings"), [
    ("SELECT password, 'Y' AS proxy, host FROM users WHERE userid = '%u'", [], []),
    ("SELECT NULL AS password, 'Y' AS nopassword, 'Y' proxy FROM users",
     ["1: passdb sql: proxy without host: there is nowhere to go"], []),
    ("SELECT password, 'Y' AS proxy, h.host, '0' AS port, concat('a,', x) AS destuser, 1 AS `hots` FROM h",
     ["1: passdb sql: port=0: a port is a number from 1 to 65535"],
     ["1: passdb sql: unknown field hots is ignored (do you mean host?)"]),
    ("SELECT password, \\\n  (SELECT host FROM hosts) AS host, \\\n  'Y' AS proxy, 'no' AS ssl FROM users", [],
     ["1: passdb sql: ssl=no means verified TLS: the field counts, not its value"]),
    ("SELECT *, 'Y' AS proxy FROM users", [], []),
    ("CALL lookup('%u')", [], []),
])
def test_columns_of_a_query(check: Check, tmp_path: Path, query: str, errors: list[str], warnings: list[str]) -> None:
    (tmp_path / "sql.conf").write_text(f"driver = sqlite\nconnect = {tmp_path}/db\npassword_query = {query}\n")
    found = check(f"passdb {{\ndriver = sql\nargs = {tmp_path}/sql.conf\n}}\nssl = no\n")
    assert (found["errors"], found["warnings"]) == (errors, warnings)


def test_fields_may_come_from_another_passdb(check: Check) -> None:
    first = "passdb {\ndriver = static\nargs = nopassword=y proxy=y\nresult_success = continue-ok\n}\n"
    assert len(check(first + "ssl = no\n")["errors"]) == 1
    assert check(first + "ssl = no\n" + PASSDB)["errors"] == []


def test_certificates(check: Check, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    good, soon, old, other = (authority.issue(name, days=days) for name, days in (
        ("good", 60), ("soon", 5), ("old", -3), ("other", 60)))
    found = check(f"ssl_cert = <{soon.certificate}\nssl_key = <{soon.key}\n"
                  f"local_name good {{\nssl_cert = <{good.certificate}\nssl_key = <{good.key}\n}}\n"
                  f"local_name old {{\nssl_cert = <{old.certificate}\nssl_key = <{old.key}\n}}\n"
                  "local_name odd {\nssl_client_cert = -----BEGIN CERTIFICATE-----aaaa-----END CERTIFICATE-----\n}\n"
                  + PASSDB)
    assert len(found["warnings"]) == 1
    assert found["warnings"][0].startswith("1: ssl_cert: certificate of soon expires on 20")
    assert found["warnings"][0].endswith(", in 4 days")
    assert [line.split(" on ")[0] for line in found["errors"] if not line.startswith("0:")][:2] == [
        "8: ssl_cert: certificate of old expired", "12: ssl_client_cert: not a certificate"]
    found = check(f"ssl_cert = <{good.certificate}\nssl_key = <{other.key}\n" + PASSDB)
    assert len(found["errors"]) == 1
    assert found["errors"][0].startswith("2: ")
    assert "key" in found["errors"][0]


def test_a_wrong_key_among_very_many_names(check: Check, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    good, other = authority.issue("good", days=60), authority.issue("other", days=60)
    found = check(f"ssl_cert = <{good.certificate}\nssl_key = <{good.key}\n" + PASSDB + "".join(
        f"local_name n{number} {{\nssl_key = <{other.key if number == 290 else good.key}\n}}\n"
        for number in range(300)))
    assert [line.partition(":")[2] for line in found["errors"]] == [
        " local_name n290: Can't load SSL private key (ssl_key setting): Key is for a different cert than ssl_cert"]


def test_age_of_certificates(tmp_path: Path) -> None:
    pair = Authority(tmp_path).issue("mail", days=60)
    path = tmp_path / "x.conf"
    path.write_text(f"ssl_cert = <{pair.certificate}\nssl_ca = <{pair.certificate}\n")
    conf, _ = examine(str(path))
    assert conf is not None
    for days, expected in ((0, (0, 0)), (29, (0, 0)), (31, (0, 2)), (59, (0, 2)), (61, (1, 1)), (-400, (2, 0))):
        findings = Findings()
        certificates.look(conf, findings, datetime.now(UTC) + timedelta(days=days))
        assert (len(findings.errors), len(findings.warnings)) == expected, days


def test_limits(check: Check) -> None:
    tail = PASSDB + "ssl = no\n"
    found = check("service imap-login {\nservice_count = 0\nclient_limit = 1000000\n}\n" + tail)["warnings"]
    assert any(line.startswith("0: fd limit (ulimit -n) is lower than required under max. load (") for line in found)
    assert any(line.startswith("1: service(imap-login): client_limit=1000000 sessions need 2000032 descriptors")
               for line in found)
    assert check("service imap-login {\nclient_limit = 500\n}\n" + tail)["warnings"] == [
        "2: service(imap-login): client_limit has no effect while service_count is 1: 100 sessions at most"
        " (process_limit)"]


@pytest.mark.parametrize("text", ["", "}\n", "\0\1\2\n", "passdb {\n", "ssl_cert = <\n", "a" * 70000 + "\n",
                                  "listen =\n", "passdb {\ndriver = sql\nargs = /dev/null\n}\n", "protocols =\n",
                                  "passdb {\ndriver = passwd-file\nargs =\n}\n", "default_internal_user = nosuch\n",
                                  "base_dir = <x\n", "service imap-login {\nuser = nosuch\n}\n",
                                  "passdb {\ndriver = passwd-file\nargs = /\n}\n", "ssl_cert = </dev/null\n"])
def test_broken_ones_end_in_errors(check: Check, text: str) -> None:
    found = check(text, head="")
    assert found["code"] == ["89"]
    assert found["errors"]


def test_for_people(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "x.conf"
    path.write_text("foo = 1\n")
    assert cli.main(["check", "-c", str(path)]) == 89
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["Errors:", f"  {path}:1: Unknown setting: foo"] or f"  {path}:1: Unknown setting: foo" in lines
    assert lines[-1].startswith(f"{path}: ")
    assert cli.main(["check", "-c", str(tmp_path / "none")]) == 89
    assert f"open({tmp_path}/none) failed: No such file or directory" in capsys.readouterr().out
    assert cli.main(["-c", str(path), "check", "--bogus"]) == 89
    assert cli.main(["-c", str(path), "check", "now"]) == 89
