"""A JSON object from a server that is not to be trusted with our memory or our stack, its values as texts.

Numbers stay as they were written, true and false are words.  What is inside of other objects never gets a name of its
own, so that it cannot pass for a member of the outer one.
"""
from __future__ import annotations

import json
from typing import Any

from mailproxy.errors import MailproxyError


class NotAnObject(MailproxyError):
    """The text is for the log, and holds nothing of what was sent."""


def parse(data: str | bytes) -> dict[str, Any]:
    """Values: str (also numbers), bool, None, list, dict.  NotAnObject."""
    text = data.decode("utf-8", "replace") if isinstance(data, bytes) else data
    if not text.lstrip(" \t\r\n").startswith("{"):
        raise NotAnObject("Object doesn't begin with '{'")
    try:
        value = json.loads(text, parse_int=str, parse_float=str, parse_constant=str)
    except ValueError as error:
        raise NotAnObject(f"not JSON: {error.msg}" if isinstance(error, json.JSONDecodeError) else "not JSON") from None
    except RecursionError:
        raise NotAnObject("nested too deep") from None
    if not isinstance(value, dict):
        raise NotAnObject("Object doesn't begin with '{'")
    return value


def as_text(value: Any) -> str:
    """One value: what is no text, number or truth is empty."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str):
        return ""
    # half of a surrogate pair (\ud800) is no character, and nothing can be sent that holds one
    return value if value.isprintable() else value.encode("utf-8", "surrogatepass").decode("utf-8", "replace")


def as_words(value: Any) -> list[str]:
    """The texts of a list; a text alone is one."""
    if isinstance(value, list):
        return [text for each in value if (text := as_text(each))]
    text = as_text(value)
    return [text] if text else []
