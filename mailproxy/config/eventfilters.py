"""Is a text an event filter (`log_debug`, a metric's `filter`)?  The grammar alone; nobody matches events here.

    filter     nothing, or a condition
    condition  key op value | ( condition ) | not condition | condition and condition | condition or condition

In: the text.  Out: what is wrong with it in the words that administrators know from Dovecot, or "".
"""
from __future__ import annotations

import re
from collections.abc import Iterator

#: Open brackets: the count is kept, nothing recurses.
_TOKEN = re.compile(r'[ \t\r\n]*(?:(?P<word>[A-Za-z0-9:.*?_-]+)|(?P<string>"(?:[^"\\]|\\.)*")|(?P<sign>[()=<>])|'
                    r'(?P<end>"|\Z)|(?P<odd>.))', re.DOTALL)
_WORD, _STRING, _END, _ODD = "TOKEN", "STRING", "$end", "$undefined"
_KEYWORDS = ("AND", "OR", "NOT")
_VALUES = (_WORD, _STRING, *_KEYWORDS)
#: What may follow: the beginning; behind `and`, `or`, `not`, `(`; behind a key, its sign, `<` or `>`, a condition.
_FIRST, _CONDITION, _SIGN, _VALUE, _COMPARED, _JOINT = range(6)
_EXPECTED = {_FIRST: "$end", _CONDITION: "TOKEN or STRING or NOT or '('", _SIGN: "'=' or '>' or '<'", _JOINT: "$end"}


def _tokens(text: str) -> Iterator[str]:
    """The kind of each token; a sign stands for itself.  An open quote swallows the rest."""
    for found in _TOKEN.finditer(text):
        if found["word"]:
            upper = found["word"].upper()
            yield upper if upper in _KEYWORDS else _WORD
        elif found["sign"]:
            yield found["sign"]
        else:
            yield _STRING if found["string"] else _ODD if found["odd"] else _END


def syntax_error(text: str) -> str:
    """Why `text` is no event filter; "" if it is one."""
    state, depth = _FIRST, 0
    for token in _tokens(text):
        if token == _END and (state == _FIRST or (state == _JOINT and not depth)):
            return ""
        following = _after(state, token, depth)
        if following < 0:
            return _complaint(state, token, depth)
        depth += (token == "(") - (token == ")")
        state = following
    return ""


def _after(state: int, token: str, depth: int) -> int:
    """The next state, -1: `token` may not stand here."""
    if state in (_FIRST, _CONDITION):
        return _SIGN if token in (_WORD, _STRING) else _CONDITION if token in ("(", "NOT") else -1
    if state == _SIGN:
        return _VALUE if token == "=" else _COMPARED if token in ("<", ">") else -1
    if state == _COMPARED and token == "=":
        return _VALUE
    if state in (_VALUE, _COMPARED):
        return _JOINT if token in _VALUES else -1
    if token == ")" and depth:
        return _JOINT
    return _CONDITION if token in ("AND", "OR") else -1


def _complaint(state: int, token: str, depth: int) -> str:
    expected = "AND or OR or ')'" if state == _JOINT and depth else _EXPECTED.get(state, "")
    shown = token if len(token) > 1 else f"'{token}'"
    return f"event filter: syntax error, unexpected {shown}" + (f", expecting {expected}" if expected else "")
