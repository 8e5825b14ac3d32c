"""What a dict driver's settings file says, and what it makes of a store's values.

In: the file's path.  Out: a Source for each side (passdb, userdb), which turns the variables of a request into fields.
Keys that no field needs are not looked up; those without a default come first, since a missing one ends the lookup.
"""
from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from mailproxy.auth.dicts.store import SHARED, Store
from mailproxy.auth.dicts.table import make
from mailproxy.auth.jsonobject import as_text
from mailproxy.auth.passdb import settings_file
from mailproxy.auth.passdb.driver import ArgsInvalid, Pairs
from mailproxy.auth.variables import template
from mailproxy.errors import MailproxyError
from mailproxy.variables import Template, Values

_TOP = {"uri": "", "default_pass_scheme": "MD5", "iterate_prefix": "userdb/", "iterate_disable": "no",
        "passdb_objects": "", "userdb_objects": "", "password_key": "", "user_key": "", "value_format": "json"}
_KEY = {"key": "", "format": "value", "default_value": None}
_FORMATS = ("value", "json")
_BLOCKS = ("key", "passdb_fields", "userdb_fields")


class Missing(MailproxyError):
    """A key without a default is not there: no such user."""


class Broken(MailproxyError):
    """A value is not what the settings say; the text is for the log."""


class Key:
    """One `key` section."""

    __slots__ = ("default", "json", "name", "template")

    def __init__(self, name: str, key: str, form: str, default: str | None) -> None:
        if form not in _FORMATS:
            raise ArgsInvalid(f"dict: Unknown value format '{form}' in key {name}")
        if not key:
            raise ArgsInvalid(f"dict: key {name}: key is not set")
        self.name = name
        self.template = template(key)
        self.json = form == "json"
        self.default = default


class Source:
    """One side's fields.  `variables`: everything of the request that they depend on."""

    __slots__ = ("_fields", "_keys", "_objects", "_store", "variables")

    def __init__(self, store: Store, keys: dict[str, Key], objects: list[str], fields: dict[str, str]) -> None:
        self._store = store
        self._fields = [(name, template(text, tables=("dict",))) for name, text in fields.items()]
        for name in objects:
            if name not in keys:
                raise ArgsInvalid(f"dict: Unknown key in objects: {name}")
            if not keys[name].json:
                raise ArgsInvalid(f"dict: key {name} in objects must have format=json")
        self._objects = [keys[name] for name in objects]
        wanted = {key.name: key for key in self._objects}
        for _, text in self._fields:
            for used in _dict_names(text):
                if used not in keys:
                    raise ArgsInvalid(f"dict: %{{dict:{used}}} refers to an unknown key")
                wanted[used] = keys[used]
        self._keys = sorted(wanted.values(), key=lambda key: key.default is not None)
        inputs = [name for key in self._keys for name in key.template.key_variables]
        inputs += [name for _, text in self._fields for name in text.key_variables if not name.startswith("dict:")]
        self.variables = tuple(dict.fromkeys(inputs))

    def fields(self, values: Values) -> Pairs:
        """Missing, Broken, ExpandError, and the store's StoreFailed."""
        found: dict[str, str | Pairs] = {}
        for key in self._keys:
            text = self._store.get(SHARED + key.template.expand(values))
            if text is None:
                if key.default is None:
                    raise Missing
                text = key.default
            found[key.name] = _members(text, key.name) if key.json else text
        view = _View(values, found)
        pairs = [(name, text.expand(view)) for name, text in self._fields]
        for key in self._objects:
            pairs += found[key.name]        # type: ignore[arg-type]     # objects are json: their constructor saw to it
        return pairs


def _dict_names(text: Template) -> Iterator[str]:
    for name in text.key_variables:
        if name.startswith("dict:"):
            yield name[5:].partition(".")[0]


class _View:
    """The request's variables, and %{dict:key} and %{dict:key.member}."""

    __slots__ = ("_found", "_values")

    def __init__(self, values: Values, found: dict[str, str | Pairs]) -> None:
        self._values = values
        self._found = found

    def __getitem__(self, key: str) -> str:
        if not key.startswith("dict:"):
            return self._values[key]
        name, _, member = key[5:].partition(".")
        value = self._found[name]
        if isinstance(value, str):
            return value
        return next((text for each, text in value if each == member), "")


def _members(text: str, name: str) -> Pairs:
    """The members of a JSON object, in its order; null is like a missing one."""
    if not text.lstrip().startswith("{"):
        raise Broken(f"dict: {name}: Object doesn't begin with '{{'")
    try:
        rows = json.loads(text, object_pairs_hook=list, parse_int=str, parse_float=str, parse_constant=str)
    except (ValueError, RecursionError) as error:
        raise Broken(f"dict: {name}: {error}") from None
    return [(as_text(key), _text(value, name)) for key, value in rows if value is not None]


def _text(value: Any, name: str) -> str:
    if isinstance(value, list):
        raise Broken(f"dict: {name}: Nested objects not supported")
    if isinstance(value, bool):
        return "true" if value else "false"
    return as_text(value)


class Settings:
    """`passdb`, `userdb`: the Source of each side, None if the file has nothing for it."""

    __slots__ = ("default_scheme", "iterate_prefix", "passdb", "store", "userdb")

    def __init__(self, path: str) -> None:
        if not path:
            raise ArgsInvalid("dict: the args must name a settings file")
        top, keys, fields = _parse(path)
        if not top["uri"]:
            raise ArgsInvalid(f"dict {path}: Empty uri setting")
        self.store = make(top["uri"])
        self.default_scheme = top["default_pass_scheme"].upper()
        self.iterate_prefix = "" if top["iterate_disable"].lower() == "yes" else top["iterate_prefix"]
        objects = {side: top[f"{side}_objects"].split() for side in ("passdb", "userdb")}
        for side, old in (("passdb", "password_key"), ("userdb", "user_key")):
            if top[old]:
                keys.setdefault(side, Key(side, top[old], top["value_format"], None))
                objects[side] = objects[side] or [side]
        self.passdb, self.userdb = (
            Source(self.store, keys, objects[side], fields[side]) if objects[side] or fields[side] else None
            for side in ("passdb", "userdb"))


def _parse(path: str) -> tuple[dict[str, str], dict[str, Key], dict[str, dict[str, str]]]:
    top = dict(_TOP)
    keys: dict[str, Key] = {}
    fields: dict[str, dict[str, str]] = {"passdb": {}, "userdb": {}}
    block: dict[str, Any] | None = None
    name = ""
    for number, line in settings_file.lines_of(path):
        if not line:
            continue
        place = f"Error in configuration file {path} line {number}"
        if line.endswith("{") and "=" not in line:
            kind, _, name = line[:-1].strip().partition(" ")
            name = name.strip()
            if block is not None or kind not in _BLOCKS or bool(name) != (kind == "key"):
                raise ArgsInvalid(f"{place}: Unknown section: {line}")
            block = dict(_KEY) if kind == "key" else fields[kind.removesuffix("_fields")]
        elif line == "}":
            if block is None:
                raise ArgsInvalid(f"{place}: Unexpected '}}'")
            if name:
                keys[name] = Key(name, block["key"], block["format"], block["default_value"])
            block, name = None, ""
        else:
            setting, equals, value = (part.strip() for part in line.partition("="))
            if not equals:
                raise ArgsInvalid(f"{place}: Expecting '='")
            if setting not in (top if block is None else _KEY if name else (setting,)):
                raise ArgsInvalid(f"{place}: Unknown setting: {setting}")
            (top if block is None else block)[setting] = settings_file.unquoted(value)
    if block is not None:
        raise ArgsInvalid(f"Error in configuration file {path}: Missing '}}'")
    return top, keys, fields
