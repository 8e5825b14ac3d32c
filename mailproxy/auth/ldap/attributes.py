"""Attribute lists: which attributes to fetch, and what fields to make of them.

    attr=field          attr=field=text with %$        attr=field=prefix       =field=text with %{ldap:attr:default}
    attr                !attr (fetched for templates)  attr=@name, @name=text: a DN whose entry is read as well, its
                                                       attributes are attr@name

In: such a text; an entry.  Out: the names to fetch; fields in the order of the text.  An attribute that the entry does
not have makes no field.  Of several values the first counts, but a gid may have several.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from mailproxy.auth.passdb.driver import ArgsInvalid, Pairs
from mailproxy.auth.variables import template
from mailproxy.variables import Template, Values

#: lower-case attribute name -> its values.
Entry = Mapping[str, Sequence[bytes]]
#: (DN, attribute names) -> the entry there, {} if there is none.
Fetch = Callable[[str, list[str]], Entry]
_PLAIN_BYTES = frozenset(range(0x21, 0x7f)) - frozenset(b'*,\\#+<>;"()= ')
_MANY = frozenset(("gid", "userdb_gid"))


def escape(value: str) -> str:
    """A value made safe for a filter and for a DN."""
    if value.isascii() and value.isalnum():
        return value
    return "".join(chr(byte) if byte in _PLAIN_BYTES else f"\\{byte:02X}"
                   for byte in value.encode("utf-8", "surrogateescape"))


def attribute_template(text: str) -> Template:
    return template(text, tables=("ldap", "ldap_ptr"), names=("$", "ldap_dn"))


class _Field:
    """`attribute`: "" for one that does not hang on a single attribute."""

    __slots__ = ("attribute", "name", "template")

    def __init__(self, attribute: str, name: str, text: Template) -> None:
        self.attribute = attribute
        self.name = name
        self.template = text


class Attributes:
    """`names`: what to ask the server for (empty: everything).  `variables`: of the request, used in templates."""

    __slots__ = ("_fields", "_linked", "_pointers", "names", "variables")

    def __init__(self, text: str, without: frozenset[str] = frozenset()) -> None:
        """`without`: fields that are not wanted."""
        self._fields: list[_Field] = []
        self._pointers: list[tuple[str, str, Template]] = []            # (name, attribute or "", DN)
        wanted: dict[str, None] = {}
        for word in _split(text):
            self._add(word, wanted, without)
        templates = [each.template for each in self._fields] + [each[2] for each in self._pointers]
        for each in templates:
            wanted.update(dict.fromkeys(_named(each)))
        self._linked = {name: [each.rpartition("@")[0] for each in wanted if each.rpartition("@")[2] == name]
                        for name, _, _ in self._pointers}
        self.names = [name for name in wanted if name.rpartition("@")[0] == "" or name.rpartition("@")[2]
                      not in self._linked]
        self.variables = tuple(dict.fromkeys(
            name for each in templates for name in each.key_variables
            if name not in ("$", "ldap_dn") and not name.startswith(("ldap:", "ldap_ptr:"))))

    def _add(self, word: str, wanted: dict[str, None], without: frozenset[str]) -> None:
        attribute, equals, rest = word.partition("=")
        if attribute.startswith("!"):
            if equals or len(attribute) == 1:
                raise ArgsInvalid(f"Invalid attrs entry: {word}")
            wanted[attribute[1:]] = None
            return
        if not equals:
            name, text = attribute, "%$"
        else:
            name, more, text = rest.partition("=")
            if not more:
                text = "%$"
            elif attribute and "%" not in text:
                text += "%$"
        if attribute.startswith("@") and equals:
            self._pointers.append((attribute[1:], "", attribute_template(rest)))
            return
        if not name:
            raise ArgsInvalid(f"Invalid attrs entry: {word}")
        if name.startswith("@"):
            self._pointers.append((name[1:], attribute, attribute_template(text)))
        elif name not in without:
            self._fields.append(_Field(attribute, name, attribute_template(text)))
        else:
            return
        if attribute:
            wanted[attribute] = None

    def fields(self, values: Values, dn: str, entry: Entry, fetch: Fetch, warn: Callable[[str], None]) -> Pairs:
        """ExpandError."""
        view = _View(values, dn, dict(entry), warn)
        for name, attribute, text in self._pointers:
            if attribute and not view.take(attribute):
                continue
            target = text.expand(view)
            if target and self._linked[name]:
                for key, found in fetch(target, self._linked[name]).items():
                    view.entry[f"{key}@{name}".lower()] = found
        return [(each.name, each.template.expand(view)) for each in self._fields
                if not each.attribute or view.take(each.attribute, each.name in _MANY)]


def _split(text: str) -> Iterator[str]:
    """At commas outside of braces."""
    depth = begin = 0
    for at, char in enumerate(text + ","):
        depth += (char == "{") - (char == "}")
        if (char == "," and depth <= 0) or at == len(text):
            word = text[begin:at].strip()
            begin, depth = at + 1, 0
            if word:
                yield word


def _named(text: Template) -> Iterator[str]:
    for name in text.key_variables:
        table, _, rest = name.partition(":")
        if table in ("ldap", "ldap_ptr"):
            yield rest.partition(":")[0]


class _View:
    """The request's variables and the entry's attributes.  `take`: the attribute that %$ is from now on."""

    __slots__ = ("_current", "_dn", "_values", "_warn", "entry")

    def __init__(self, values: Values, dn: str, entry: dict[str, Sequence[bytes]], warn: Callable[[str], None]) -> None:
        self._values = values
        self._dn = dn
        self._warn = warn
        self._current = ""
        self.entry = {key.lower(): value for key, value in entry.items()}

    def take(self, attribute: str, many: bool = False) -> bool:
        found = self.entry.get(attribute.lower())
        if not found:
            return False
        self._current = ",".join(map(_text, found)) if many else self._first(attribute, found)
        return True

    def _first(self, attribute: str, found: Sequence[bytes]) -> str:
        if len(found) > 1:
            self._warn(f"Multiple values found for '{attribute}', using value '{_text(found[0])}'")
        return _text(found[0])

    def __getitem__(self, key: str) -> str:
        if key == "$":
            return self._current
        if key == "ldap_dn":
            return self._dn
        table, _, rest = key.partition(":")
        if table not in ("ldap", "ldap_ptr"):
            return self._values[key]
        attribute, _, default = rest.partition(":")
        found = self.entry.get(attribute.lower())
        if found and table == "ldap_ptr":
            attribute = _text(found[0])
            found = self.entry.get(attribute.lower())
        return self._first(attribute, found) if found else default


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")
