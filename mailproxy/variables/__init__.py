"""%variables of the configuration: templates are compiled once and expanded per request.

`compile(text, names)` never fails: what cannot be expanded (an unknown variable) fails in `Template.expand`, with
ExpandError, because that is when it matters and because one bad template must not keep a server from starting.
A leaf package: knows nothing of auth or login.
"""
from mailproxy.variables.template import ExpandError, Template, Values, compile

__all__ = ["ExpandError", "Template", "Values", "compile"]
