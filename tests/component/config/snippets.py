"""Configurations for the comparison with the real doveconf, one a name.

GOOD: both accept them and must show the same settings.  BAD: both refuse them, and the real error is our first one.
WHOLE: both refuse them for a condition over several settings; the real error is among ours.
"""
from __future__ import annotations


def _bad_values(key: str, *values: str) -> dict[str, str]:
    return {f"{key}={value}": f"{key} = {value}\n" for value in values}


def _metric(group_by: str) -> str:
    return f"metric x {{\nfilter = event=a\ngroup_by = {group_by}\n}}\n"


def _service(name: str, body: str) -> str:
    return f"protocols = imap\nservice {name} {{\n{body}\n}}\n"


GOOD: dict[str, str] = {
    "empty": "",
    "comments": "# one\n\n   # two\n\t\nssl = no # three\n",
    "blanks around equals": "ssl=no\nlogin_greeting   =    hello   there  \nmail_home\t=\tx\n",
    "crlf": "ssl = no\r\nlogin_greeting = a\r\n",
    "no newline at the end": "ssl = no",
    "hash in quotes": 'login_greeting = "a # b" # c\n',
    "hash glued": "login_greeting = a#b\n",
    "apostrophe": "login_greeting = it's # not a comment\n",
    "quotes inside": 'login_greeting = a "b # c" # d\n',
    "escapes": 'login_log_format_elements = "foo\\"bar\\\\\\x "\n',
    "half quoted": 'mail_home = "a\nmail_uid = \'a"\nmail_gid = "x" y\n',
    "single quotes": "mail_gid = 'a b '\n",
    "empty quotes": 'mail_gid = ""\n',
    "continuation": "login_greeting = a \\\n   b\\\nc\n",
    "continuation with comment": "login_greeting = a \\ # comment\n b\n",
    "last wins": "ssl = no\nssl = required\n",
    "file": "ssl_cert = <  cert.pem\nssl_key = </abs/key.pem\n",
    "quoted file is text": 'login_greeting = "<x"\n',
    "self append": "mail_plugins = a\nmail_plugins = $mail_plugins b\n",
    "self append to default": "login_greeting = $login_log_format x\nlogin_log_format = $login_log_format y\n",
    "foreign variable": "login_greeting = a $mail_location   b\n",
    "environment variable": "login_greeting = $ENV:HOME b\n",
    "quoted variable": 'login_greeting = "$nothing b"\n',
    "dollar inside a word": "login_greeting = a$base_dir %$\n",
    "bool words": "auth_verbose = Y\nauth_debug = 1\nverbose_ssl = yEs\nauth_debug_passwords = NO\n",
    "times": "auth_failure_delay = 5seco\nauth_cache_ttl = 90 M\nauth_cache_negative_ttl = 1h\nhaproxy_timeout = 2d\n"
             "default_idle_kill = 14 days\nlogin_proxy_timeout = 1500 ms\nlogin_proxy_max_disconnect_delay = 0\n",
    "millisecond words": "login_proxy_timeout = 70 millis\nauth_failure_delay = 3000msecs\n",
    "sizes": "auth_cache_size = 5kiB\nimap_max_line_length = 1536k\ndefault_vsz_limit = 1T\n"
             "config_cache_size = 1025\n",
    "numbers": "protocols = imap\ndefault_client_limit = 0500\ndoveadm_port = 065\n",
    "cache size in megabytes": "auth_cache_size = 10\n",
    "mode": "service auth {\nunix_listener foo {\nmode = 0660\n}\n}\n",
    "mode zero": "service anvil {\nunix_listener anvil-auth-penalty {\nmode = 0\n}\n}\n",
    "merge into a service": "service imap-login {\nprocess_limit = 5\n}\nservice imap-login {\nclient_limit = 6\n"
                            "inet_listener imap {\nport = 1143\n}\n}\n",
    "defaults written in a section": "service imap-login {\nservice_count = 1\ninet_listener imap {\n"
                                     "port = 143\n}\n}\n",
    "new service": "service foo {\nexecutable = /bin/true\nunix_listener a/b {\nuser = x\n}\n}\n",
    "quoted names": 'service "foo bar" {\nexecutable = /bin/true\nunix_listener "a b" {\nmode = 0666\n}\n}\n',
    "path keys": "service/imap-login/service_count = 0\nservice/imap-login/inet_listener/imap/port = 1143\n"
                 "plugin/quota = x\n",
    "escaped path key": "service/auth/unix_listener/login\\slogin/mode = 0600\n",
    "section named by a setting": "service imap-login {\ninet_listener b {\naddress = 127.0.0.1, ::1\n}\n}\n",
    "unchecked disabled service": "protocols = imap\nservice pop3-login {\nprocess_min_avail = 500\n}\n",
    "service order": "protocols = imap\nservice auth-worker {\nuser = x\n}\nservice auth {\nuser = y\n}\n",
    "plugin": "plugin {\nb = 1\na = $mail_plugins\n}\nplugin ignored {\nb = 2\nc = x y\n}\n",
    "dict": "dict {\na = mysql:/x\n}\n",
    "passdb order": "passdb {\ndriver = static\nargs = a\n}\npassdb x {\ndriver = pam\n}\npassdb {\ndriver = static\n"
                    "args = b\n}\nuserdb {\ndriver = passwd\n}\n",
    "equal passdbs": "passdb {\ndriver = pam\n}\npassdb {\ndriver = pam\nmaster = yes\n}\n",
    "passdb settings": "passdb {\ndriver = static\nmechanisms = plain, login\nusername_filter = !a *@b\n"
                       "skip = authenticated\n"
                       "result_success = continue-ok\ndeny = yes\nauth_verbose = yes\npass = yes\n}\n".replace(
                           "result_success = continue-ok\n", ""),
    "hidden parts": "passdb {\ndriver = static\nargs = pass=%w proxy=y nopassword=y secret=x hash_key=z\n"
                    "override_fields = userdb_pass=x pass=foo,password=z\n}\n",
    "hidden secrets": "ssl_key = x\nssl_dh = y\nssl_key_password = z\ndoveadm_password = a\n"
                      "auth_policy_hash_nonce = n\n",
    "namespaces": "namespace inbox {\ninbox = yes\nmailbox Sent {\nauto = no\n}\nmailbox \"Sent Messages\" {\n"
                  "special_use = \\Sent\n}\n}\nnamespace {\nprefix = x\n}\n",
    "metric": "event_exporter log {\nformat = json\nformat_args = time-rfc3339\ntransport = log\n}\nmetric m {\n"
              "filter = event=a and category=b\n"
              "exporter = log\n}\n",
    "protocol filter": "protocol imap {\nmail_max_userip_connections = 20\nmail_plugins = $mail_plugins x\n}\n",
    "negated protocol": "protocol !pop3 {\nmail_fsync = never\n}\n",
    "unknown protocol in a filter": "protocol whatever {\nssl = no\n}\n",
    "address filters": "local 10.0.0.0/8 {\nssl = no\n}\nremote 2001:db8::/32 {\nssl = required\n}\n"
                       "remote 127.0.0.1 {\n"
                       "login_greeting = x\n}\n",
    "nested filters": "local 10.0.0.0/8 {\nlogin_greeting = a\nlocal 10.1.0.0/16 {\n"
                      "login_greeting = $login_greeting b\n"
                      "remote 1.2.3.4 {\nssl = no\nprotocol imap {\nlogin_greeting = c\n}\n}\n}\n}\n",
    "same filter twice": "protocol imap {\nssl = no\n}\nprotocol imap {\nlogin_greeting = x\n}\n",
    "server name": "local_name mail.example.org {\nssl_cert = <a.pem\nplugin {\na = z\n}\n}\n",
    "passdb in a protocol": "passdb {\ndriver = pam\n}\nprotocol imap {\nservice imap-login {\n"
                            "process_limit = 6\n}\n}\n",
    "global after filter": "protocol imap {\nssl = no\n}\nprotocol pop3 {\nssl = no\n}\nssl = required\n",
    "tls off": "protocols = imap\nssl = no\nprotocol imap {\nssl = yes\n}\n",
    "big process limit": "protocols = imap\nservice imap-login {\nprocess_limit = 1000\n}\n",
    "base_dir prefix": "protocols = imap\nbase_dir = /run/x\nservice imap-login {\nunix_listener /run/x/login/y {\n"
                       "mode = 0600\n}\n}\n",
    "protocol of a new service": "protocols = foo\nservice foo {\nexecutable = x\nprotocol = foo\n}\n",
    "no protocols": "protocols = none\n",
    "storage settings": "mail_location = maildir:~/Maildir\nmbox_md5 = all\nmdbox_rotate_size = 1G\n"
                        "imapc_ssl = starttls\n",
    "include": "!include inc/a.conf\n",
    "include with braces": "!include inc/{c,a}.conf\n",
    "include with a star": "!include inc/*.conf\n",
    "include_try without a file": "!include_try nothing\nssl = no\n",
    "include in a section": "service imap-login {\n!include inc/limit.inc\n}\n",
    "include twice": "!include inc/a.conf\n!include inc/a.conf\n",
    "workarounds": "imap_client_workarounds = delay-newmail tb-extra-mailbox-sep\n"
                   "submission_client_workarounds = implicit-auth-external\n",
    "ssl_protocols": "ssl_protocols = !SSLv3 !TLSv1\n",
    "ssl_protocols unknown": "ssl_protocols = !SSLv2\n",
    "ssl_disable": "ssl_disable = yes\n",
    "old certificates": "ssl_cert_file = /a\nssl_key_file = /b\nssl_ca_file = /c\n",
    "no longer needed": "ssl_parameters_regenerate = 1 weeks\nssl_dh_parameters_length = 2048\nlogin_dir = x\n",
    "old login settings": "login_process_per_connection = no\nlogin_processes_count = 5\n"
                          "login_max_processes_count = 7\n"
                          "login_max_connections = 9\nlogin_process_size = 64\nlogin_user = root\n"
                          "login_chroot = no\n",
    "old mail settings": "max_mail_processes = 5\nfsync_disable = yes\nmail_cache_compress_min_size = 5k\n",
    "old auth block": "auth default {\nmechanisms = plain login\nverbose = yes\nuser = root\npassdb pam {\n"
                      "args = x\n}\n"
                      "userdb passwd {\n}\n}\n",
    "old sockets": "auth default {\nsocket listen {\nmaster {\npath = /var/run/auth-master\nmode = 0600\n}\n"
                   "client {\npath = /var/spool/postfix/private/auth\nmode = 0660\nuser = postfix\n}\n}\n}\n",
    "old workarounds": "imap_client_workarounds = delay-newmail outlook-idle\n",
    "old plugin setting": "plugin {\nimap_zlib_compress_level = 3\n}\n",
    "old protocols": "protocols = imap pop3s managesieve\n",
    "old listen": "protocols = imap\nprotocol imap {\nlisten = *:10143\nssl_listen = *:10993\n}\n",
    "old names": "protocol managesieve {\nssl = no\n}\nservice dns_client {\nuser = root\n}\n",
    "path key of a database": "passdb foo {\ndriver = pam\n}\npassdb {\ndriver = pam\n"
                              "}\npassdb/0/args = x\npassdb/foo/args = y\n",
    "path variable": "service/imap-login/service_count = 3\n"
                     "service/imap-login/service_count = $service/imap-login/service_count\n",
    "include_try nothing": "!include_try\nssl = no\n",
    "old name of mail_location": "mail = x\n",
    "empty values in sections": "plugin {\na =\n}\nservice auth {\nuser =\nunix_listener x {\n"
                                "group =\n}\n}\npassdb {\ndriver = pam\nargs =\nskip = never\n}\n",
    "sieve moved": "sieve = ~/.dovecot.sieve\n",
}

BAD: dict[str, str] = {
    "unknown setting": "ssl = no\nfoo = 1\n",
    "unknown in a section": "service imap-login {\nssl = no\n}\n",
    "unknown in a listener": "service imap-login {\ninet_listener x {\nfoo = 1\n}\n}\n",
    "unknown section": "foobar x {\n}\n",
    "unknown section in a section": "passdb {\ninner {\n}\n}\n",
    "unknown in a filter": "protocol imap {\nfoo = 1\n}\n",
    "unknown by path": "service/imap-login/foo = 0\n",
    "path of a new section": "service/foo/executable = x\n",
    "byte order mark": "\ufefflogin_greeting = a\n",
    "continued line": "foo = a \\\n b\n",
    "word alone": "ssl\n",
    "two words": "foo bar\n",
    "brace on the next line": "service foo\n{\n}\n",
    "brace glued": "passdb{\n}\n",
    "key with a quote": '"foo bar" = x\n',
    "bang": "!foo bar\n",
    "no blank after include": "!includeinc/a.conf\n",
    "text behind a brace": "service imap-login { client_limit = 5 }\n",
    "empty braces": "service imap-login {}\n",
    "list of protocols": "protocol imap pop3 {\n}\n",
    "single quoted name": "service 'x y' {\n}\n",
    "open quote in a name": 'service "x {\n}\n',
    "text after closing brace": "service imap-login {\n} x\n}\n",
    "stray brace": "}\n",
    "no key": "= value\n",
    "missing brace": "passdb {\n driver = static\n",
    "missing inner brace": "service imap-login {\n inet_listener imap {\n",
    "section in plugin": "plugin {\nfoo {\n}\n}\n",
    "a later list": "mail_plugins {\n sieve = yes\n}\n",
    "include nothing": "!include\n",
    "include no match": "!include nope\n",
    "include quoted": '!include "inc/a.conf"\n',
    "include two": "!include inc/a.conf inc/c.conf\n",
    "include itself": "!include snippet.conf\n",
    "error in an include": "!include inc/broken.inc\n",
    "unknown variable": "login_greeting = $nothing\n",
    "variable in a path": "login_greeting = $base_dir/foo\n",
    "named passdb twice": "passdb foo {\ndriver = static\n}\npassdb foo {\ndriver = static\n}\n",
    "protocol in protocol": "protocol imap {\nprotocol pop3 {\n}\n}\n",
    "local in protocol": "protocol imap {\nlocal 1.2.3.4 {\n}\n}\n",
    "remote in protocol": "protocol imap {\nremote 1.2.3.4 {\n}\n}\n",
    "name in protocol": "protocol imap {\nlocal_name x {\n}\n}\n",
    "local in remote": "remote 1.1.1.1 {\nlocal 1.2.3.4 {\n}\n}\n",
    "name in remote": "remote 1.1.1.1 {\nlocal_name x {\n}\n}\n",
    "local in name": "local_name x {\nlocal 1.2.3.4 {\n}\n}\n",
    "nets apart": "local 10.0.0.0/8 {\nlocal 11.0.0.0/8 {\n}\n}\n",
    "bad mask": "local 1.2.3.0/40 {\n}\n",
    "empty mask": "remote 1.2.3.0/ {\n}\n",
    "auth in local": "local 10.0.0.0/8 {\nauth_mechanisms = plain\n}\n",
    "auth in name": "local_name x {\nauth_verbose = yes\n}\n",
    "passdb in local": "remote 10.0.0.0/8 {\npassdb {\ndriver = static\n}\n}\n",
    "enum": "ssl = maybe\n",
    "rule": "passdb {\ndriver = static\nresult_success = maybe\n}\n",
    "octal": "service auth {\nunix_listener foo {\nmode = 08\n}\n}\n",
    "port": "service imap-login {\ninet_listener x {\nport = 100000\n}\n}\n",
    "idle_kill": "service imap-login {\nidle_kill = infinite\n}\n",
    **_bad_values("auth_verbose", "n", "0", "true", "on", ""),
    **_bad_values("auth_failure_delay", "5", "1.5s", "5secsx", "10ms", "-1s", "x", "", "4294967296s", "1000000000w"),
    **_bad_values("login_proxy_timeout", "300000000s", "5 x"),
    **_bad_values("auth_cache_size", "1.5M", "-1", "5x", "5kbx", "", "20000000T", "999999999999999999999"),
    **_bad_values("default_client_limit", "-1", "+1", "99999999999", "5x", "", "0x5"),
    **_bad_values("doveadm_port", "-1", "65536", "5x", ""),
}

WHOLE: dict[str, str] = {
    "unknown protocol": "protocols = imap xyz\n",
    "negated protocol": "protocols = imap !pop3\n",
    "min above limit": _service("imap-login", "process_min_avail = 200"),
    "vsz too low": _service("imap-login", "vsz_limit = 500k"),
    "priv with chroot": _service("imap-login", "drop_priv_before_exec = yes"),
    "service type": _service("foo", "type = foo"),
    "path empty": _service("imap-login", "unix_listener {\n}"),
    "fifo path empty": _service("imap-login", "fifo_listener {\n}"),
    "same port": _service("imap-login", "inet_listener x {\nport = 143\n}"),
    "same port and address": _service("imap-login", "inet_listener x {\nport = 993\naddress = *\n}\n"
                                                    "inet_listener y {\nport = 993\naddress = *\n}"),
    "same service name": _service("imap-login", "name = auth"),
    **{f"one {name}": f"service {name} {{\nprocess_limit = 2\n}}\n"
       for name in ("auth", "anvil", "log", "director", "ipc", "indexer", "replicator", "old-stats")},
    "no driver": "passdb {\nargs = x\n}\n",
    "named without driver": "passdb static {\n}\n",
    "userdb without driver": "userdb {\n}\n",
    "pass mixed": "passdb {\ndriver = pam\npass = yes\nresult_success = continue\n}\n",
    "verify without ca": "ssl_verify_client_cert = yes\n",
    "ssl option": "ssl_options = no_ticket foo\n",
    "login user": "default_login_user = nosuch\n",
    "internal user": "default_internal_user =\n",
    "listen empty": "listen =\n",
    "log filter": "log_debug = foo\n",
    "facility": "syslog_facility = LOCAL0\n",
    "no workers": "auth_worker_max_count = 0\n",
    "tiny cache": "auth_cache_size = 5B\n",
    "policy nonce": "auth_policy_server_url = http://x\n",
    "verbose passwords": "auth_verbose_passwords = foo\n",
    "verbose passwords cut": "auth_verbose_passwords = sha1:x\n",
    "workaround": "submission_client_workarounds = foo\n",
    "metric filter": "metric x {\n}\n",
    "metric exporter": "event_exporter a {\nformat = none\ntransport = log\n}\n"
                       "metric x {\nfilter = event=a\nexporter = nope\n}\n",
    "metric name": "metric {\nfilter = event=a\n}\n",
    "exporter format": "event_exporter a {\nformat = foo\ntransport = log\n}\n",
    "exporter time": "event_exporter a {\nformat = json\ntransport = log\n}\n",
    "exporter time format": "event_exporter a {\nformat = json\nformat_args = time-foo\ntransport = log\n}\n",
    "group by what": _metric("a:foo:1"),
    "group by words": _metric("a b:linear:1:x:2"),
    "group by too few": _metric("a:exponential:1:2"),
    "group by too many": _metric("a:discrete:1"),
    "group by base": _metric("a:exponential:1:2:3"),
    "group by range": _metric("a:linear:5:2:3"),
    "group by step": _metric("a:linear:1:2:3"),
    "group by negative": _metric("a:linear:-1:2:3"),
    "namespace separator": "namespace {\nseparator = //\n}\n",
    "namespace of nobody": "namespace a {\nprefix = a/\nalias_for = b/\n}\n",
    "namespace chain": "namespace a {\nprefix = a/\nalias_for = b/\n}\nnamespace b {\nprefix = b/\nalias_for = c/\n}\n"
                       "namespace c {\nprefix = c/\n}\n",
    "special use": "namespace {\nmailbox x {\nspecial_use = \\Sent \\foo\n}\n}\n",
    "uidl variable": "pop3_uidl_format = %z\n",
    "uidl no variable": "protocol pop3 {\npop3_uidl_format = %%\n}\n",
    "hash brace": "mail_attachment_hash = %{sha1\n",
    "hash bits": "mail_attachment_hash = %{sha1:81}\n",
    "hash too many bits": "mail_attachment_hash = %{sha1:300}\n",
    "hash name": "mail_attachment_hash = %{foo}\n",
    "nfs fsync": "mail_nfs_index = yes\nmmap_disable = yes\n",
    "throttle": "imapc_features = throttle:1:2\n",
    "flag": "pop3_delete_type = flag\n",
    "idle": "mailbox_idle_check_interval = 0\n",
    "purge": "mail_cache_purge_delete_percentage = 101\n",
    "cache size": "mail_cache_max_size = 2G\n",
    "gids": "first_valid_gid = 10\nlast_valid_gid = 5\n",
    "policy hash": "auth_policy_server_url = http://x\nauth_policy_hash_nonce = a\nauth_policy_hash_mech = foo\n",
    "verbose passwords nothing cut": "auth_verbose_passwords = sha1:0\n",
    "old socket path": "auth default {\nsocket listen {\nclient {\nmode = 0660\n}\n}\n}\n",
    "old socket name": "auth default {\nsocket listen {\nmaster {\npath = /a\n}\n}\n}\n",
    **{f"event filter {text}": f"log_debug = {text}\n" for text in (
        "a=b c=d", "a b", "a=", "=a", "(a=b", "a=b)", "a=b OR", "a==b", "a!=b", "AND", "()", "a<", "a=%u", "not",
        "(a=b c", "a=b (c=d)", "a=not b")},
    "exporter transport": "event_exporter a {\nformat = json\n}\n",
}
