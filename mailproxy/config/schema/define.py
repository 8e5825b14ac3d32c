"""How settings are declared: a typed class attribute where mailproxy reads the setting, a table row where it does not.

`yes_no`, `number`, … are the right-hand sides in the view classes of this package; `settings_of` turns such a class
into rows.  A row knows name, kind, default and, for enums, the words allowed.
"""
from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from typing import Any

from mailproxy.config import units

#: Naming of sections: a name again means the same section / every section is a new one / any key, no inner sections.
MERGE, APPEND, FREE = range(3)


class Setting:
    """One known setting.  `value` is the default, already converted."""

    __slots__ = ("choices", "default", "kind", "name", "value")

    def __init__(self, name: str, kind: int, default: str, choices: tuple[str, ...] = ()) -> None:
        self.name = name
        self.kind = kind
        self.default = default
        self.choices = choices
        self.value: Any = units.parse(kind, default, choices)


@dataclass(frozen=True, slots=True)
class SectionType:
    """A kind of section: its settings, the sections inside and how names work."""

    name: str
    naming: int
    settings: dict[str, Setting]
    children: dict[str, SectionType] = field(default_factory=dict)
    #: The setting that repeats the section's name ("path" of a unix_listener); "": none.
    title: str = ""


def table(rows: Iterable[tuple[Any, ...]]) -> dict[str, Setting]:
    """Rows of (name, kind, default[, choices])."""
    return {row[0]: Setting(*row) for row in rows}


def settings_of(cls: type) -> tuple[Setting, ...]:
    """The rows of a view class, in the order of its attributes."""
    return tuple(Setting(item.name.rstrip("_"), *item.metadata["setting"]) for item in fields(cls))


def _declare(kind: int, default: str, choices: tuple[str, ...] = (), secret: bool = False) -> Any:
    return field(metadata={"setting": (kind, default, choices)}, repr=not secret)


def yes_no(default: str) -> Any:
    return _declare(units.BOOL, default)


def number(default: str) -> Any:
    return _declare(units.UINT, default)


def mode(default: str) -> Any:
    return _declare(units.OCTAL, default)


def seconds(default: str) -> Any:
    """A time of whole seconds."""
    return _declare(units.TIME, default)


def millis(default: str) -> Any:
    """A time with millisecond resolution; its value is float seconds too."""
    return _declare(units.TIME_MS, default)


def size(default: str) -> Any:
    return _declare(units.SIZE, default)


def port(default: str) -> Any:
    return _declare(units.PORT, default)


def choice(default: str, *choices: str) -> Any:
    return _declare(units.ENUM, default, choices)


def text(default: str = "") -> Any:
    return _declare(units.TEXT, default)


def hidden_text(default: str = "") -> Any:
    """A str that may contain passwords: never part of a repr."""
    return _declare(units.TEXT, default, secret=True)


def words(default: str = "") -> Any:
    """A list separated by blanks or commas."""
    return _declare(units.WORDS, default)


def secret(default: str = "") -> Any:
    return _declare(units.SECRET, default, secret=True)
