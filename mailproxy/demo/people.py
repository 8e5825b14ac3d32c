"""Who may log in to the demo: a table of users, each with the backend that holds the mail, and one master user.

In: the ports of the backends, by protocol.  Out: a SQLite database that the proxy's `sql` passdbs ask.
"""
from __future__ import annotations

import base64
import hashlib
import os
import sqlite3
from dataclasses import dataclass
from pathlib import Path

#: user -> name of the backend
USERS = {"alice": "A", "bob": "A", "carol": "B", "dave": "B"}
MASTER = "admin"
#: Between the user and the master user: "carol*admin".
SEPARATOR = "*"
#: Every demo password is the name with this behind it.
_SUFFIX = "-demo"


@dataclass(frozen=True, slots=True)
class Account:
    """What a backend's one account is called."""

    user: str
    password: str


#: The account that every demo backend knows.
BACKEND_ACCOUNT = Account("demouser", "demopass")

PASSWORD_QUERY = """
SELECT user, password, 'y' AS proxy, host, port, destuser, pass, '' AS master
  FROM users JOIN ports USING (backend) WHERE user = '%u' AND service = '%s'
"""
MASTER_QUERY = "SELECT user, password FROM masters WHERE user = '%u'"

_TABLES = """
CREATE TABLE users (user TEXT PRIMARY KEY, password TEXT NOT NULL, backend TEXT NOT NULL, host TEXT NOT NULL,
                    destuser TEXT NOT NULL, pass TEXT NOT NULL);
CREATE TABLE ports (backend TEXT NOT NULL, service TEXT NOT NULL, port INTEGER NOT NULL);
CREATE TABLE masters (user TEXT PRIMARY KEY, password TEXT NOT NULL);
"""


def password_of(user: str) -> str:
    return user + _SUFFIX


def hashed(password: str) -> str:
    """The password as the database holds it: salted SHA-256."""
    salt = os.urandom(8)
    digest = hashlib.sha256(password.encode() + salt).digest()
    return "{SSHA256}" + base64.b64encode(digest + salt).decode()


def write(database: Path, host: str, ports: dict[str, dict[str, int]]) -> None:
    """Make the database anew; `ports` by the backend's name and the protocol."""
    database.unlink(missing_ok=True)
    os.close(os.open(database, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    connection = sqlite3.connect(database)
    try:
        with connection:
            connection.executescript(_TABLES)
            connection.executemany(
                "INSERT INTO users VALUES (?, ?, ?, ?, ?, ?)",
                [(user, hashed(password_of(user)), backend, host, BACKEND_ACCOUNT.user, BACKEND_ACCOUNT.password)
                 for user, backend in USERS.items()])
            connection.executemany("INSERT INTO ports VALUES (?, ?, ?)", [
                (backend, service, port) for backend, row in ports.items() for service, port in row.items()])
            connection.execute("INSERT INTO masters VALUES (?, ?)", (MASTER, hashed(password_of(MASTER))))
    finally:
        connection.close()
