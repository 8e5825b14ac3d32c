"""Rows of strings as an admin wants to see them.

In: column titles and rows.  Out: text in one of the formats pager, table, tab, flow, json.
"""
from __future__ import annotations

import json
from collections.abc import Callable, Sequence

Row = Sequence[str]


def _pager(titles: Row, rows: Sequence[Row]) -> str:
    return "\f\n".join("".join(f"{title}: {value}\n" for title, value in zip(titles, row, strict=True)) for row in rows)


def _table(titles: Row, rows: Sequence[Row]) -> str:
    widths = [max(map(len, column)) for column in zip(titles, *rows, strict=True)]
    return "".join(" ".join(value.ljust(width) for value, width in zip(row, widths, strict=True)) + "\n"
                   for row in (titles, *rows))


def _tab(titles: Row, rows: Sequence[Row]) -> str:
    return "".join("\t".join(row) + "\n" for row in (titles, *rows))


def _flow(titles: Row, rows: Sequence[Row]) -> str:
    return "".join(" ".join(f"{title}={value}" for title, value in zip(titles, row, strict=True)) + "\n"
                   for row in rows)


def _json(titles: Row, rows: Sequence[Row]) -> str:
    return json.dumps([dict(zip(titles, row, strict=True)) for row in rows], separators=(",", ":"))


FORMATS: dict[str, Callable[[Row, Sequence[Row]], str]] = {
    "pager": _pager, "table": _table, "tab": _tab, "flow": _flow, "json": _json}
