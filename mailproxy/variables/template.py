"""Compiling a text with %variables into a list of constants and getters.

In: the text, the names that it may use, functions of the caller, an escape for values.  Out: a Template.
Escaping happens after modifiers and cuts, so that a cut can never split an escape sequence; values are never
expanded again.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise

from mailproxy.variables import modifiers
from mailproxy.variables.functions import ExpandError, Getter, Values, condition, fact, failing, hashing

Escape = Callable[[str], str]
#: A caller's function: the text behind its colon -> getter.
Function = Callable[[str], Getter]
#: `if` within `if`: deeper is a mistake.
_MAX_DEPTH = 8


class Template:
    """A compiled text.  `constant`: the text when it has no variables, else None.
    `key_variables`: everything of the request that the result depends on, or None when that cannot be told."""

    __slots__ = ("_parts", "constant", "inputs", "source")

    def __init__(self, source: str, parts: list[str | Getter], inputs: dict[str, Getter]) -> None:
        self.source = source
        self._parts = parts
        self.inputs = inputs
        self.constant: str | None = "".join(part for part in parts if isinstance(part, str)) \
            if all(isinstance(part, str) for part in parts) else None

    @property
    def key_variables(self) -> tuple[str, ...]:
        return tuple(self.inputs)

    def expand(self, values: Values) -> str:
        """The text with its variables filled in.  ExpandError for an unknown one."""
        if self.constant is not None:
            return self.constant
        return "".join([part if part.__class__ is str else part(values)         # type: ignore[operator]
                        for part in self._parts])


class _Compiler:
    __slots__ = ("depth", "escape", "functions", "inputs", "names")

    def __init__(self, names: Mapping[str, str], functions: Mapping[str, Function], escape: Escape | None) -> None:
        self.names = names
        self.functions = functions
        self.escape = escape
        self.inputs: dict[str, Getter] = {}
        self.depth = 0

    def compile(self, text: str, escape: Escape | None) -> list[str | Getter]:
        parts: list[str | Getter] = []
        at = 0
        while True:
            percent = text.find("%", at)
            if percent < 0 or percent == len(text) - 1:
                parts.append(text[at:percent] if percent >= 0 else text[at:])
                return _joined(parts)
            parts.append(text[at:percent])
            getter, at = self.variable(text, percent + 1, escape)
            parts.append(getter)

    def variable(self, text: str, at: int, escape: Escape | None) -> tuple[str | Getter, int]:
        """One variable from behind its % on."""
        offset, width, zeros, at = _numbers(text, at)
        letters = ""
        while at < len(text) and len(letters) < modifiers.MAX_MODIFIERS \
                and (text[at] in modifiers.PLAIN or text[at] in modifiers.HASHING):
            letters += text[at]
            at += 1
        if at >= len(text):
            return "", at
        if text[at] == "%":
            return "%", at + 1
        changed = bool(letters or offset or width)
        if text[at] == "{":
            end = _closing(text, at)
            if end < 0:
                return failing("Unknown variable '%'"), len(text)
            name = text[at + 1:end]
            at = end + 1
            getter = self.named(name, None if changed else escape)
        else:
            name = text[at]
            at += 1
            getter = self.input(name)
        if changed:
            getter = _changing(getter, letters, offset, width, zeros)
        if escape is not None and (changed or not name.startswith("if;")):
            getter = _escaping(getter, escape)
        return getter, at

    def input(self, name: str) -> Getter:
        """A value of the request; letters stand without braces, longer names within."""
        key = self.names.get(name)
        if key is None:
            return self.inputs.setdefault(name, failing(f"Unknown variable '%{name}'"))

        def known(values: Values) -> str:
            return values[key]
        self.inputs.setdefault(key, known)
        return known

    def named(self, name: str, escape: Escape | None = None) -> Getter:
        if len(name) > 1 and name in self.names:
            return self.input(name)
        prefix, colon, rest = name.partition(":")
        function = self.functions.get(prefix) if colon else None
        if function is not None:
            return self.inputs.setdefault(name, function(rest))
        getter = fact(name)
        if getter is None and name.startswith("if;"):
            getter = self.conditional(name[3:], escape)
        if getter is None:
            getter = hashing(name, self.named)
        if getter is None:
            getter = self.inputs.setdefault(name, failing(f"Unknown variable '%{name}'"))
        return getter

    def conditional(self, text: str, escape: Escape | None) -> Getter:
        words = _split_arguments(text)
        if len(words) not in (4, 5):
            return failing(f"if: requires four or five parameters, got {len(words)}")
        if self.depth >= _MAX_DEPTH:
            return failing("if: nested too deep")
        self.depth += 1
        getters = [self.text(words[0], None), self.text(words[2], None), self.text(words[3], escape),
                   self.text(words[4] if len(words) == 5 else "", escape)]
        self.depth -= 1
        return condition(getters, words[1])

    def text(self, source: str, escape: Escape | None) -> Getter:
        return Template(source, self.compile(source, escape), {}).expand


def compile(text: str, names: Mapping[str, str], functions: Mapping[str, Function] | None = None,
            escape: Escape | None = None) -> Template:
    """`names`: spelled name (short letter or long) -> key to ask `values` for.  `functions`: name -> compiler of
    what stands behind the colon.  `escape` is applied to every value, never to the template's own text."""
    compiler = _Compiler(names, functions or {}, escape)
    return Template(text, compiler.compile(text, escape), compiler.inputs)


def _joined(parts: list[str | Getter]) -> list[str | Getter]:
    """Neighbouring constants as one, empty ones gone."""
    out: list[str | Getter] = []
    for part in parts:
        if isinstance(part, str):
            if not part:
                continue
            if out and isinstance(out[-1], str):
                out[-1] += part
                continue
        out.append(part)
    return out


def _digits(text: str, at: int) -> tuple[int, int]:
    start = at
    while at < len(text) and text[at] in "0123456789":
        at += 1
    return int(text[start:at][:9] or "0"), at


def _numbers(text: str, at: int) -> tuple[int, int, bool, int]:
    """`[offset.][width]` -> offset, width, pad with zeros, where the rest begins."""
    negative = text.startswith("-", at)
    at += negative
    zeros = text.startswith("0", at)
    number, at = _digits(text, at)
    if not text.startswith(".", at):
        return 0, number, zeros, at                     # a sign counts only in front of an offset
    offset = -number if negative else number
    at += 1
    negative = text.startswith("-", at)
    at += negative
    zeros = text.startswith("0", at)
    width, at = _digits(text, at)
    return offset, -width if negative else width, zeros, at


def _meant(text: str, at: int = 0) -> Iterator[tuple[int, str, int]]:
    """(index, character, braces open behind it) of what no backslash has taken the meaning from."""
    depth = 0
    escaped = False
    for index in range(at, len(text)):
        char = text[index]
        if escaped:
            escaped = False
        elif char == "\\":
            escaped = True
        else:
            depth += (char == "{") - (char == "}")
            yield index, char, depth


def _closing(text: str, at: int) -> int:
    """Index of the brace that closes the one at `at`, -1 without one."""
    return next((index for index, char, depth in _meant(text, at) if char == "}" and depth == 0), -1)


def _split_arguments(text: str) -> list[str]:
    """At `;` outside of braces; a backslash takes the meaning from the next character."""
    borders = [-1, *(index for index, char, depth in _meant(text) if char == ";" and depth == 0), len(text)]
    return [_unescaped(text[start + 1:end]) for start, end in pairwise(borders)]


def _unescaped(text: str) -> str:
    if "\\" not in text or "%" in text.replace("\\%", ""):
        return text                                     # nested variables unescape for themselves
    out = []
    chars = iter(text)
    for char in chars:
        if char == "\\":
            char = next(chars, "")
        out.append("%%" if char == "%" else char)
    return "".join(out)


def _changing(getter: Getter, letters: str, offset: int, width: int, zeros: bool) -> Getter:
    changes: list[Callable[[str], str]] = []
    for letter in letters:
        hashed = modifiers.HASHING.get(letter)
        if hashed is None:
            changes.append(modifiers.PLAIN[letter])
        else:
            changes.append(_bound(hashed, offset, width))
            offset = width = 0
    if len(changes) == 1 and not offset and not width:
        only = changes[0]
        return lambda values: only(getter(values))

    def change(values: Values) -> str:
        value = getter(values)
        for each in changes:
            value = each(value)
        return modifiers.cut(value, offset, width, zeros)
    return change


def _bound(hashed: Callable[[str, int, int], str], offset: int, width: int) -> Callable[[str], str]:
    return lambda value: hashed(value, offset, width)


def _escaping(getter: Getter, escape: Escape) -> Getter:
    return lambda values: escape(getter(values))


__all__ = ["Escape", "ExpandError", "Function", "Template", "Values", "compile"]
