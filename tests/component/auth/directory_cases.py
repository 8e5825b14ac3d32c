"""Scenarios of the ldap, dict, checkpassword, pam, passwd and shadow drivers whose answers must be Dovecot's.

@LDAP@, @LDAPS@, @CA@, @REDIS@, @REDISSOCKET@ stand for the servers of the test, @PAM@ for its PAM service.
"""
from __future__ import annotations

from dataclasses import dataclass, field

from tests.component.auth.scenario import Passdb, Scenario

Login = tuple[str, ...]


@dataclass(frozen=True)
class Case:
    """`logins`: (user, password, parameters …); `names`: for PASS, USER and LIST."""

    scenario: Scenario
    logins: list[Login]
    names: list[str] = field(default_factory=list)
    lists: bool = False


_PEOPLE: list[Login] = [
    ("joe", "joepw"), ("joe", "bad"), ("joe", ""), ("JOE", "joepw"), ("ann", "secret"), ("ann", "x"), ("nopw", "x"),
    ("twice", "pw"), ("nobody", "x"), ("*", "x"), ("j*", "joepw"), ("o,dd(x)", "oddpw"), ("joe)(uid=*", "joepw"),
    ("jöe", "x"), ("a\\2a", "x"), ("joe ", "joepw"), (" joe", "x"), ("joe#", "x")]
_NAMES = ["joe", "ann", "nopw", "twice", "nobody", "o,dd(x)", "*"]
_SERVICE = "uris = @LDAP@\ndn = cn=admin,dc=x\ndnpass = adminpw\nbase = dc=x\n"
_LDAP = [Passdb("ldap", "@DIR@/ldap.conf")]
_USERDB = [Passdb("ldap", "@DIR@/ldap.conf")]
_ANY = {"auth_username_chars": "", "auth_username_format": ""}


def _ldap(text: str, logins: list[Login] = _PEOPLE, names: list[str] = _NAMES, *, service: str = _SERVICE,
          passdb: Passdb = _LDAP[0], lists: bool = False) -> Case:
    return Case(Scenario([passdb], dict(_ANY), {"ldap.conf": service + text}, userdbs=_USERDB), logins, names, lists)


_FORMS = r"""
pass_attrs = uid=user, userPassword=password, destinationIndicator=host, =proxy=%{if;1;==;1;y}, \
  =destuser=%u-%{ldap:employeeNumber}, employeeNumber=q=pre-%$-post, employeeNumber=q2=pfx, title, \
  =ns3=%{ldap:nosuch3:dflt}, =dn=%{ldap_dn}, homeDirectory=userdb_home, nosuch=ns, nosuch=ns2=x%$, !cn, \
  =c=%{ldap:CN}, \
  mail=m, =m2=%{ldap:mail}, =upper=%U{ldap:sn}, =p=%{ldap_ptr:roomNumber}, =q3=%{ldap:employeenumber:no}, \
  uidNumber=u:x
user_attrs = homeDirectory=home,uidNumber=uid,gidNumber=gid, mail=gid2, mail=gid, =x=%{ldap:title}
"""
_POINTER = """pass_attrs = uid=user,userPassword=password,secretary=@grp,description@grp=gn,\
=g2=%{ldap:description@grp},=g3=%{ldap:none@grp:dd}
user_attrs = =uid=%{ldap:uidNumber}, =gid=%{ldap:gidNumber}, @who=%{ldap:secretary}, =home=/h/%{ldap:cn@who:none}
"""
_STATIC_POINTER = "pass_attrs = uid=user,userPassword=password,secretary=@grp,description@grp=gn,=proxy=y\n"
_BIND = "auth_bind = yes\npass_attrs = uid=user, userPassword=password, mail=m, title=t\n"
_PLAIN_SCHEME = "default_pass_scheme = PLAIN\n"

_DICT = """uri = %s
default_pass_scheme = PLAIN
iterate_disable = yes
key passdb {
  key = passdb/%%u
  format = json
}
key extra {
  key = passdb/val
  format = value
  default_value = dflt
}
key missing {
  key = passdb/missing
  default_value = fallback
}
key userdb {
  key = userdb/%%u
  format = json
}
passdb_objects = passdb
passdb_fields {
  x1 = %%{dict:extra}
  x2 = pre-%%{dict:passdb.host}-%%{dict:missing}
}
userdb_objects = userdb
userdb_fields {
  note = %%{dict:userdb.home}/x
}
"""
#: Key -> value, for every store.
VALUES = {
    "passdb/joe": '{"password":"dpw","proxy":"y","host":"1.2.3.4","num":5,"b":true,"n":null,"f":1.50,"neg":-1}',
    "passdb/ann": '{"password":"{SHA1}5en6G6MezRroT3XKqkdPOmY/BfQ=","c":false}',
    "passdb/nested": '{"password":"x","a":{"b":1}}', "passdb/array": '{"password":"x","a":[1]}',
    "passdb/broken": '{"password":', "passdb/text": "hello", "passdb/none": "{}", "passdb/empty": "",
    "passdb/val": "plainval", "passdb/nopass": '{"nopassword":"y"}', "passdb/esc": '{"password":"a\\u00e4\\"b"}',
    "userdb/joe": '{"uid":1000,"gid":1001,"home":"/h/joe"}', "userdb/ann": '{"uid":"1002","gid":"5"}',
    "userdb/text": "[]",
}
_DICT_LOGINS: list[Login] = [
    ("joe", "dpw"), ("joe", "x"), ("ann", "secret"), ("ann", "x"), ("nested", "x"), ("array", "x"), ("broken", "x"),
    ("text", "x"), ("none", "x"), ("empty", "x"), ("nobody", "x"), ("nopass", "any"), ("esc", "aä\"b"),
    ("../passdb/joe", "dpw"), ("./joe", "dpw"), ("joe/", "dpw"), ("", "x"), ("val", "x")]
_DICT_NAMES = ["joe", "ann", "text", "nobody", "nested"]


def _dict(uri: str) -> Case:
    return Case(Scenario([Passdb("dict", "@DIR@/dict.conf")], dict(_ANY), {"dict.conf": _DICT % uri},
                         userdbs=[Passdb("dict", "@DIR@/dict.conf")]), _DICT_LOGINS, _DICT_NAMES)


_OLD_DICT = "uri = redis:host=127.0.0.1:port=@REDIS@\npassword_key = passdb/%u\nuser_key = userdb/%u\n" \
    "iterate_disable = yes\ndefault_pass_scheme = PLAIN\n"

_CHECK = r"""#!/usr/bin/perl
open(my $in, "<&=3") or exit 111; local $/; my $data = <$in>; close $in;
my ($user, $password) = split(/\0/, $data);
if (($ENV{AUTHORIZED} || "") eq "1") {
  exit 3 if $user eq "nobody"; exit 1 if $user eq "one"; exit 0 if $user eq "zero"; exit 111 if $user eq "temp";
  $ENV{AUTHORIZED} = 2 unless $user eq "unauthorized";
  $ENV{password} = "{PLAIN}" . ($user eq "joe" ? "joepw" : "pw"); $extra = " password";
} else {
  exit 1 if $password eq "bad"; exit 2 if $password eq "two"; exit 3 if $password eq "three";
  exit 111 if $password eq "temp"; exit 5 if $password eq "five"; exit 0 if $password eq "silent";
  kill 9, $$ if $password eq "kill";
}
$ENV{USER} = $user eq "ren" ? "renamed" : $user; $ENV{HOME} = "/h/$user";
delete $ENV{HOME} if $user eq "homeless";
$ENV{EXTRA} = "userdb_uid userdb_gid userdb_quota foo BIG nosuch args" . $extra;
$ENV{userdb_uid} = 1000; $ENV{userdb_gid} = 1001; $ENV{userdb_quota} = 5; $ENV{foo} = "bar baz"; $ENV{BIG} = "1";
$ENV{args} = join(",", @ARGV[0 .. $#ARGV - 1]);
if ($user eq "tab") { $ENV{foo} = "a\tb"; }
if ($user eq "lf") { $ENV{foo} = "a\nb"; }
if ($user eq "env") { my @k = grep { !/^(AUTH_(SESSION_)?PID|EXTRA|AUTH_[A-Z_]*PORT)$/
  && /^(AUTH_|SERVICE$|PROTO|TCP|LOCAL_IP|REMOTE_IP|MASTER)/ } sort keys %ENV;
  $ENV{foo} = join(";", map { "$_=$ENV{$_}" } @k); }
if ($user eq "direct") { open(my $out, ">&=4"); print $out "user=d\tzz=1\t"; close $out; exit 0; }
exec $ARGV[-1]; exit 111;
"""
_PERL = "/usr/bin/perl @DIR@/check"
_CHECK_LOGINS: list[Login] = [
    ("joe", "pw"), ("joe", "bad"), ("joe", "two"), ("joe", "three"), ("joe", "temp"), ("joe", "five"),
    ("joe", "silent"), ("joe", "kill"), ("ren", "pw"), ("homeless", "pw"), ("lf", "pw"), ("direct", "pw"),
    ("env", "pw", "lip=127.0.0.1", "rip=10.0.0.9", "lport=143", "rport=5555", "secured=tls", "session=SESS",
     "local_name=sni"),
    ("joe", "x" * 502), ("joe", "x" * 506), ("joe", "x" * 507), ("joe", "x" * 600), ("joe", ""), ("j o;e", "pw")]
_CHECK_NAMES = ["joe", "nobody", "one", "zero", "temp", "unauthorized", "ren"]

_PAM: list[Login] = [("joe", "pw", "rip=10.0.0.1"), ("joe", "bad"), ("ann", "pw"), ("nobody", "pw"), ("joe", ""),
                     ("exp", "pw")]

_ACCOUNTS: list[Login] = [("root", "x"), ("daemon", "x"), ("nosuch", "x")]

CASES: dict[str, Case] = {
    "ldap-search": _ldap(_PLAIN_SCHEME, lists=True),
    "ldap-hosts": _ldap(_PLAIN_SCHEME, _PEOPLE[:4], ["joe"],
                        service=_SERVICE.replace("uris = @LDAP@", "hosts = 127.0.0.1:@LDAPPORT@")),
    "ldap-second-uri": _ldap(_PLAIN_SCHEME, _PEOPLE[:4], ["joe"],
                             service=_SERVICE.replace("@LDAP@", "ldap://127.0.0.1:1 @LDAP@")),
    "ldap-forms": _ldap(_PLAIN_SCHEME + _FORMS, [("joe", "joepw"), ("ann", "secret"), ("joe", "bad")]),
    "ldap-pointer": _ldap(_PLAIN_SCHEME + _POINTER, [("joe", "joepw"), ("ann", "secret")], ["joe", "ann"]),
    "ldap-static-pointer": _ldap(_PLAIN_SCHEME + _STATIC_POINTER, [("joe", "joepw")], []),
    "ldap-crypt": _ldap("", [("joe", "joepw"), ("ann", "secret")]),
    "ldap-bind": _ldap(_BIND),
    "ldap-bind-template": _ldap(_BIND + "auth_bind_userdn = uid=%u,ou=people,dc=x\n"),
    "ldap-domain-base": _ldap("base = ou=%d,dc=x\npass_filter = (uid=%n)\ndefault_pass_scheme = PLAIN\n",
                              [("joe@people", "joepw"), ("joe@nowhere", "x"), ("joe", "x"), ("joe@a,b=c", "x")],
                              ["joe@people", "joe@nowhere"]),
    "ldap-onelevel": _ldap(_PLAIN_SCHEME + "base = ou=people,dc=x\nscope = onelevel\n", _PEOPLE[:3], ["joe"]),
    "ldap-bad-filter": _ldap("pass_filter = (uid=%u\n", [("joe", "joepw")], []),
    "ldap-down": _ldap("uris = ldap://127.0.0.1:1\n", [("joe", "joepw")], []),
    "ldap-starttls": _ldap(_BIND + "tls = yes\ntls_ca_cert_file = @CA@\ntls_require_cert = demand\n", _PEOPLE[:4],
                           ["joe"]),
    "ldap-starttls-untrusted": _ldap(_BIND + "tls = yes\ntls_require_cert = demand\n", _PEOPLE[:2], []),
    "ldaps": _ldap(_BIND + "tls_ca_cert_file = @CA@\ntls_require_cert = demand\n", _PEOPLE[:4], ["joe"],
                   service=_SERVICE.replace("@LDAP@", "@LDAPS@")),
    "ldap-all-attributes": _ldap("pass_attrs =\ndefault_pass_scheme = PLAIN\n", [("joe", "joepw")], []),
    "dict-redis": _dict("redis:host=127.0.0.1:port=@REDIS@"),
    "dict-redis-prefix": _dict("redis:host=127.0.0.1:port=@REDIS@:prefix=pre/:db=1"),
    "dict-fs": _dict("fs:posix:prefix=@STORE@/"),
    "dict-file": _dict("file:@STORE@.file"),
    "dict-redis-down": _dict("redis:host=127.0.0.1:port=1:timeout_msecs=1000"),
    "dict-old": Case(Scenario([Passdb("dict", "@DIR@/dict.conf")], {}, {"dict.conf": _OLD_DICT},
                              userdbs=[Passdb("dict", "@DIR@/dict.conf")]), [("joe", "dpw"), ("nobody", "x")], ["joe"]),
    "checkpassword": Case(Scenario([Passdb("checkpassword", f"{_PERL} a %n")], dict(_ANY), {"check": _CHECK},
                                   userdbs=[Passdb("checkpassword", _PERL)]), _CHECK_LOGINS, _CHECK_NAMES),
    "checkpassword-missing": Case(Scenario([Passdb("checkpassword", "@DIR@/nosuch")]), [("joe", "pw")], ["joe"]),
    "passwd": Case(Scenario([Passdb("passwd")]), _ACCOUNTS, ["root", "nosuch"]),
    "shadow": Case(Scenario([Passdb("shadow")]), _ACCOUNTS, ["daemon", "nosuch"]),
    "pam": Case(Scenario([Passdb("pam", "@PAM@")]), _PAM, ["joe", "nobody"]),
    "pam-messages": Case(Scenario([Passdb("pam", "failure_show_msg=yes session=yes setcred=yes @PAM@")]), _PAM),
}
