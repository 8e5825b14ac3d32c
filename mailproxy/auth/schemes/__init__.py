"""Password schemes: `{SCHEME.ENC}data`, verifying and generating.

`verify(stored, plain)` is all that a login needs; `generate` is for the admin tool.  Blocking and CPU-bound by nature:
whoever calls it decides in which process.  Knows nothing of requests.
"""
from mailproxy.auth.schemes.base import SchemeError, UnknownScheme
from mailproxy.auth.schemes.registry import detect, fits, generate, held, known, made_slowly, names, slow, split, verify

__all__ = ["SchemeError", "UnknownScheme", "detect", "fits", "generate", "held", "known", "made_slowly", "names",
           "slow", "split", "verify"]
