"""Tables and settings files for the tests with SQL servers, the same for all kinds of databases."""
from __future__ import annotations

from tests.component.auth.scenario import Passdb, Scenario
from tests.sql_servers import MariaDb, Postgres

ACCOUNT, PASSWORD = "dovecot", "se(cret-1"
TABLES = """
CREATE TABLE users (username varchar(100), domain varchar(100), password varchar(200), home varchar(100), uid integer,
                    gid integer, note varchar(100), allow_nets varchar(50));
INSERT INTO users VALUES
 ('joe', 'ex.com', '{PLAIN}pw', '/h/joe', 1000, 1001, 'x', NULL), ('joe', '', '{PLAIN}pw', NULL, NULL, NULL, '', NULL),
 ('md5', 'ex.com', '8fe4c11451281c094a6578e6ddbf5eed', '/h/md5', 7, 8, NULL, NULL),
 ('null', 'ex.com', NULL, '/h/null', 7, 8, 'n', NULL), ('twice', 'ex.com', '{PLAIN}a', '/1', 1, 1, '1', NULL),
 ('twice', 'ex.com', '{PLAIN}b', '/2', 2, 2, '2', NULL), ('o''brien', 'ex.com', '{PLAIN}p''w', '/h/o', 1, 1, 'q', NULL),
 ('äöü', 'ex.com', '{PLAIN}pä', '/h/ä', 1, 1, 'ß', NULL), ('net', 'ex.com', '{PLAIN}pw', '/h', 1, 1, 'b', '10.0.0.0/8'),
 ('tab', 'ex.com', '{PLAIN}pw', '/h', 1, 1, 'a	b', NULL),
 ('back\\slash', 'ex.com', '{PLAIN}pw', '/h', 1, 1, 'b', NULL);
"""
QUERIES = {
    "password": "password_query = SELECT username, domain, password, note, allow_nets FROM users \\\n"
                "  WHERE username = '%n' AND domain = '%d'\n",
    "prefetch": "password_query = SELECT password, home AS userdb_home, uid AS userdb_uid, gid AS userdb_gid, \\\n"
                "  note AS userdb_x FROM users WHERE username = '%n' AND domain = '%d'\n",
    "nopassword": "password_query = SELECT NULL AS password, 'Y' as nopassword, username AS user, 'Y' AS proxy, \\\n"
                  "  '10.0.0.1' AS host FROM users WHERE username = '%n' AND domain = '%d' AND note = '%w'\n",
    "number": "default_pass_scheme = plain\npassword_query = SELECT 12345 AS password, uid AS a, NULL AS b, \\\n"
              "  'x y' AS c FROM users \\\n"
              "  WHERE username = '%n' AND domain = '%d'\n",
    "scheme": "default_pass_scheme = PLAIN\npassword_query = SELECT password AS password_noscheme FROM users \\\n"
              "  WHERE username = '%n' AND domain = '%d'\n",
    "without": "password_query = SELECT username FROM users WHERE username = '%n' AND domain = '%d'\n",
    "broken": "password_query = SELECT password FROM nowhere WHERE username = '%u'\n",
    "variable": "password_query = SELECT password FROM users WHERE username = '%{nosuch}'\n",
    "builtin": "default_pass_scheme = PLAIN\n",
}
USER_QUERY = "user_query = SELECT home, uid, gid, note FROM users WHERE username = '%n' AND domain = '%d'\n" \
             "iterate_query = SELECT username, domain FROM users\n"
PROXY_TABLE = """CREATE TABLE proxy (
  user varchar(255) NOT NULL,
  host varchar(16) default NULL,
  destuser varchar(255) NOT NULL default '',
  PRIMARY KEY  (user)
);
"""
PROXY_CONF = """driver = mysql
connect = host=sqlhost1 host=sqlhost2 dbname=mail user=dovecot password=secret
password_query = SELECT NULL AS password, 'Y' as nopassword, host, destuser, 'Y' AS proxy FROM proxy WHERE user = '%u'
"""
MAYBE_TABLE = """CREATE TABLE users (
  user varchar(255) NOT NULL,
  domain varchar(255) NOT NULL,
  password varchar(100) NOT NULL,
  host varchar(16) NOT NULL,
  home varchar(100) NOT NULL,
  PRIMARY KEY (user)
);
"""
MAYBE_CONF = """driver = mysql

password_query = \\
  SELECT concat(user, '@', domain) AS user, password, host, 'Y' AS proxy_maybe \\
  FROM users WHERE user = '%n' AND domain = '%d'

user_query = SELECT user AS username, domain, home \\
  FROM users WHERE user = '%n' AND domain = '%d'
"""
LOGINS: list[tuple[str, ...]] = [
    ("joe@ex.com", "pw"), ("joe@ex.com", "bad"), ("joe@ex.com", "x"), ("joe@ex.com", "12345"), ("JOE@ex.com", "pw"),
    ("joe", "pw"), ("md5@ex.com", "pw"), ("null@ex.com", "x"), ("null@ex.com", "n"), ("twice@ex.com", "a"),
    ("o'brien@ex.com", "p'w"), ("äöü@ex.com", "pä"), ("net@ex.com", "pw"), ("net@ex.com", "pw", "rip=10.1.1.1"),
    ("tab@ex.com", "pw"), ("back\\slash@ex.com", "pw"), ("nobody@ex.com", "x"), ("' OR '1'='1", "x"),
    ("joe@ex.com' -- ", "x"), ("joe@ex.com\\' OR 1=1 -- ", "pw"), ("\\@' OR 1=1 -- ", "pw"), ('"@"', '"'),
    ("%u@%d", "%w"),
    ("joe@ex.com", "' OR '1'='1"), ("joe@ex.com", "\\' OR 1=1 -- "), ("joe@ex.com\x1a", "pw"), ("", "x"),
    ("joe@ex.com", "{PLAIN}pw"),
]


def fill(server: MariaDb | Postgres) -> None:
    if isinstance(server, Postgres):
        server.run(f"CREATE USER {ACCOUNT} PASSWORD '{PASSWORD}'; {TABLES} GRANT ALL ON users TO {ACCOUNT};")
        return
    grants = f"CREATE USER {ACCOUNT} IDENTIFIED BY '{PASSWORD}'; GRANT ALL ON mail.* TO {ACCOUNT};"
    server.run("CREATE DATABASE mail CHARACTER SET utf8mb4 COLLATE utf8mb4_bin; " + grants
               + " USE mail; " + TABLES.replace("\\", "\\\\"))


def reach(server: MariaDb | Postgres, hosts: str = "", more: str = "") -> str:
    """The lines driver and connect."""
    kind, name = ("mysql", "mail") if isinstance(server, MariaDb) else ("pgsql", "postgres")
    hosts = hosts or "host=127.0.0.1"
    return f"driver = {kind}\nconnect = \"{hosts} port={server.port} dbname={name} user={ACCOUNT} " \
           f"password={PASSWORD} {more}\"\n"


def scenario(conf: str, *userdbs: str, **settings: object) -> Scenario:
    sections = [Passdb(driver, "@DIR@/sql.conf" if driver == "sql" else "") for driver in userdbs]
    return Scenario([Passdb("sql", "@DIR@/sql.conf")], {"auth_username_chars": "", **settings}, {"sql.conf": conf},
                    userdbs=sections)
