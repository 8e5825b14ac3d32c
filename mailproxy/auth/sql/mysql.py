"""MySQL and MariaDB, through PyMySQL.

In: the words of a connect string.  Values are escaped as the server's own library does it, by the connection's
character set: in those where a quote or backslash can be the second half of a letter, the text is taken apart into
letters first, and one that is none in that character set is refused.
"""
from __future__ import annotations

import os
import ssl
from typing import Any

from mailproxy.auth.sql.database import (
    SURPLUS,
    Connection,
    ConnectionLost,
    Rows,
    SqlError,
    Unsayable,
    to_bytes,
    to_text,
)
from mailproxy.errors import DriverMissing

#: Where servers of distributions listen when the host is "localhost" (the library's own meaning of that name).
_SOCKETS = ("/run/mysqld/mysqld.sock", "/var/lib/mysql/mysql.sock", "/tmp/mysql.sock")
#: Server and client error numbers from which on a connection is of no use.
_GONE = frozenset((0, 1053, 1152, 1153, 1154, 1155, 1156, 1157, 1158, 1159, 1160, 1161, 1184, 1927, 3169))
_CLIENT_ERRORS = range(2000, 3000)
#: Character sets with letters whose second byte can be that of an ASCII character -> Python's name.
_OVERLAPPING = {"gbk": "gbk", "big5": "big5", "sjis": "shift_jis", "cp932": "cp932", "gb18030": "gb18030"}
_ESCAPES = str.maketrans({"\0": "\\0", "\n": "\\n", "\r": "\\r", "\\": "\\\\", "'": "\\'", '"': '\\"', "\x1a": "\\Z"})
_QUOTE = str.maketrans({"'": "''"})
_NO_BACKSLASHES = 0x200         # server status bit: backslashes mean themselves
_NUMBERS = ("port", "client_flags", "connect_timeout", "read_timeout", "write_timeout")
_TEXTS = ("host", "hostaddr", "user", "password", "dbname", "ssl_cert", "ssl_key", "ssl_ca", "ssl_ca_path",
          "ssl_cipher", "ssl_verify_server_cert", "option_file", "option_group")


def load() -> Any:
    try:
        import pymysql
        import pymysql.cursors
    except ImportError:
        raise DriverMissing("sql: driver mysql needs the package python3-pymysql (pip: mailproxy[mysql])") from None
    return pymysql


class MysqlHost:
    __slots__ = ("_options", "_read_timeout", "name")

    def __init__(self, words: list[tuple[str, str]]) -> None:
        """SqlError for a word that is wrong."""
        load()
        given = _checked(words)
        host = given.get("host", "")
        if not host and "option_file" not in given:
            raise SqlError("No hosts given in connect string")
        self.name = host
        self._read_timeout = int(given.get("read_timeout", "30"))
        connect_timeout = int(given.get("connect_timeout", "5"))
        self._options: dict[str, Any] = {
            "user": given.get("user") or None, "password": given.get("password", ""),
            "database": given.get("dbname") or None, "port": int(given.get("port", "0")),
            "client_flag": int(given.get("client_flags", "0")), "connect_timeout": connect_timeout,
            # of the greeting as well, where a server that hangs is first noticed
            "read_timeout": connect_timeout, "write_timeout": int(given.get("write_timeout", "30")),
            "use_unicode": False, "conv": {}, "autocommit": None}
        if host.startswith("/"):
            self._options["unix_socket"] = host
        elif host:
            self._options["host"] = host
        if "option_file" in given:
            self._options["read_default_file"] = given["option_file"]
            self._options["read_default_group"] = given.get("option_group", "client")
            self._options["charset"] = _charset(given["option_file"], given.get("option_group", "client"))
        if "ssl_ca" in given or "ssl_ca_path" in given:
            self._options["ssl"] = _tls(given)
        else:                           # newer versions of the library would take what they get, unverified
            self._options["ssl_disabled"] = True

    def connect(self) -> Connection:
        mysql = load()
        options = self._options
        if options.get("host") == "localhost" and not options["port"]:
            socket = next(filter(os.path.exists, _SOCKETS), "")
            if socket:
                options = {**options, "unix_socket": socket}
        try:
            connection = mysql.connect(**options)
            connection._read_timeout = self._read_timeout
        except Exception as error:          # whatever the library makes of a server that sends nonsense
            raise SqlError(f" to database ({options['database'] or ''}): {_reason(error)}") from None
        return MysqlConnection(connection, mysql)


def _checked(words: list[tuple[str, str]]) -> dict[str, str]:
    given = {}
    for key, value in words:
        if key in _NUMBERS:
            if not (value.isascii() and value.isdigit() and len(value) < 10) or (key == "port" and int(value) > 65535):
                raise SqlError(f"Invalid {key}: {value}")
        elif key not in _TEXTS:
            raise SqlError(f"Unknown connect string: {key}")
        elif key == "ssl_verify_server_cert" and value not in ("yes", "no"):
            raise SqlError(f"Invalid boolean: {value}")
        given["host" if key == "hostaddr" else key] = value
    return given


def _charset(path: str, group: str) -> str:
    """default-character-set of an option file: the library would not look for it under this name in every version."""
    import configparser
    parser = configparser.RawConfigParser(allow_no_value=True, strict=False)
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            parser.read_string("".join(line for line in file if not line.lstrip().startswith("!")))
        return (parser.get(group, "default-character-set", fallback="") or "utf8mb4").strip("'\"")
    except (OSError, configparser.Error) as error:
        raise SqlError(f"option_file {path} cannot be read: {error}") from None


def _tls(given: dict[str, str]) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=given.get("ssl_ca"), capath=given.get("ssl_ca_path"))
        if given.get("ssl_verify_server_cert", "yes") == "no":
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        context.set_ciphers(given.get("ssl_cipher") or "HIGH")
        if given.get("ssl_cert"):
            context.load_cert_chain(given["ssl_cert"], given.get("ssl_key") or None)
    except (OSError, ValueError) as error:      # ssl.SSLError is an OSError
        raise SqlError(f"TLS settings of the connect string cannot be used: {error}") from None
    return context


class MysqlConnection:
    __slots__ = ("_codec", "_connection", "_mysql")

    def __init__(self, connection: Any, mysql: Any) -> None:
        self._connection = connection
        self._mysql = mysql
        self._codec = _OVERLAPPING.get(connection.charset, "latin-1")

    @property
    def usable(self) -> bool:
        return bool(self._connection.open)

    def escape(self, value: str) -> str:
        """In bytes, which is what a client sends and the server reads."""
        table = _QUOTE if self._connection.server_status & _NO_BACKSLASHES else _ESCAPES
        try:
            letters = to_bytes(value).decode(self._codec)
            return to_text(letters.translate(table).encode(self._codec))
        except UnicodeError:
            raise Unsayable("unknown user: the name or password is no text in the connection's character set "
                            f"{self._connection.charset}") from None

    def ask(self, query: str, most: int) -> Rows:
        cursor = self._connection.cursor(self._mysql.cursors.SSCursor)
        try:
            changed = cursor.execute(to_bytes(query))
            names = [column[0] for column in cursor.description or ()]
            rows: list[Any] = [] if not names else list(cursor.fetchmany(most)) if most else list(cursor.fetchall())
            if most and len(rows) == most and len(cursor.fetchmany(SURPLUS)) == SURPLUS:
                self._abandon(cursor)
            else:
                cursor.close()
        except Exception as error:
            number = error.args[0] if error.args else 0
            if isinstance(error, self._mysql.err.MySQLError) and number not in _GONE and number not in _CLIENT_ERRORS:
                raise SqlError(_reason(error)) from None
            self._abandon(cursor)
            raise ConnectionLost(_reason(error)) from None
        return Rows(names, [[None if cell is None else to_text(cell) for cell in row] for row in rows], changed)

    def _abandon(self, cursor: Any) -> None:
        """Close, and keep the library from reading the rest of an answer when it tidies up."""
        self.close()
        cursor.connection = None
        if cursor._result is not None:
            cursor._result.unbuffered_active = False

    def close(self) -> None:
        self._connection._force_close()


def _reason(error: Exception) -> str:
    """The library's errors are (number, text); nonsense from a server ends in any exception.
    What follows "near" is a part of the query, in which a password may be."""
    if len(error.args) > 1 and isinstance(error.args[1], str):
        return error.args[1].partition(" near '")[0]
    return str(error) or type(error).__name__
