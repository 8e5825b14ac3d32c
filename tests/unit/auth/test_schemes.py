"""Known hashes of every scheme, both ways, and what broken data does."""
from __future__ import annotations

import pytest

from mailproxy.auth import schemes

_USER = "user@example.com"
_PASSWORDS = ("secret", "Pa55 wörd,=x")
_VECTORS = {
    "ARGON2I": ("$argon2i$v=19$m=32768,t=4,p=1$cBV2piPgXQHG7X0uA9BcUA$U02LLlDkWhUwqfsIGY2t2LAonac6gCuC0SGUGIzQMQI",
                "$argon2i$v=19$m=32768,t=4,p=1$+crA1FKBqATA3V3GlnmPHw$IRQO3QSTmCtoP9nlXAxE8iELSArdMeeDBdk9jYIpG5M"),
    "ARGON2ID": ("$argon2id$v=19$m=65536,t=3,p=1$3+/Qk/bQsi5zCqyr4RhX0g$ck6VgIDY5/pII4qaC3mP4TU25FPgYK5Q4Imp2pIiOok",
                 "$argon2id$v=19$m=65536,t=3,p=1$WaGxVyjknTDp+KEo49YdXA$Z77uRlGayd4U+8v7pR6VxjV5i4WTLvPy8z5cdDrLdps"),
    "BLF-CRYPT": ("$2y$05$f73Q5aOUBl9Ra4NHSoXO5ueWixrZoV9oNPkjpftaV7vt7kVDFkllW",
                  "$2y$05$rOlPEdbGF9VU7TAeZY0Ep.e6Rr.r0uzJUWyJT6E1WuSYy7BIHGOtq"),
    "CRYPT": ("$2y$05$7PGywBsATcBo0JH.Ig6qmuJ2ffLSJ4g1PEv/R3jS455f4LBnyN8HK",
              "$2y$05$ircNsG5EslcVy7t0k8FOtO9.tEtd8Z8yZLA.KtoyZIVmrLId9qmHy"),
    "DES-CRYPT": ("V./tJINl.bCCg", "0UoDUtYDAwhTI"),
    "DIGEST-MD5": ("30969131580e626606ce70ceaab77719", "29024194fb09185f031ff6b1f656a60f"),
    "LDAP-MD5": ("Xr4ilOzQ4PCOq3aQ0qbuaQ==", "xivF2UG8tPUNSkAzSiSTog=="),
    "MD5": ("$1$qB.w96rx$asus7glHc.voOY03NoLfJ.", "$1$i9.KqFCr$UV8azSL0QRUsVvsk4CMrU1"),
    "MD5-CRYPT": ("$1$BhyZy3y0$0u8.eh7HOmDpDsg64g5Dv.", "$1$7Cd0bh8I$xnS4u3YsKHDND49TaLcNu/"),
    "PBKDF2": ("$1$Op/SOs1z/pJ8XELj$5000$49b1e2afe73b5be9e2b3a9759b8b514bc9e1b746",
               "$1$BJMfd.YpNJw6oQUK$5000$1ee62817f504fb1ddbfcf80d6eb1ffede5abae81"),
    "PLAIN": _PASSWORDS, "CLEAR": _PASSWORDS, "CLEARTEXT": _PASSWORDS,
    "PLAIN-MD5": ("5ebe2294ecd0e0f08eab7690d2a6ee69", "c62bc5d941bcb4f50d4a40334a2493a2"),
    "SCRAM-SHA-1": ("4096,k74kJvtMF/NQn1XIZuwpbg==,j9rK1XDMioSEs2mtZHbOEPudBV0=,wEkQ9DPdXE7aOdvIgkvwuys3zlU=",
                    "4096,SKAQaYlPWKJ1XLdgNjopfQ==,COPJGILUDkPKbiyEfknNywA98tI=,meWFnXn/IZJW9Zx5CmHAl1u41Jg="),
    "SCRAM-SHA-256": ("4096,d60Ehmh6y8kWUHm49K+2Cg==,udOynJ4WdMr/oL326FLcN0eJdjGJW5TZNwKedGUFrDE=,"
                      "xxFaIsIWw89TIf8ZCRdKKre0sgrXJVug3F6H1avHs3I=",
                      "4096,OEjB0KDXioOuEq8OZbXA+Q==,yONGoMPRpsrDofhrZxYwsHSFAhh6T06HUNxKspXxbDk=,"
                      "5M1HJ9ZFNNoO4HGpYl4IwBwTKSvUYdrpKMLGi5w0LRs="),
    "SHA": ("5en6G6MezRroT3XKqkdPOmY/BfQ=", "qGLSmzXIrxn4CjZEACIIxkQ6HtM="),
    "SHA1": ("5en6G6MezRroT3XKqkdPOmY/BfQ=", "qGLSmzXIrxn4CjZEACIIxkQ6HtM="),
    "SHA256": ("K7gNU3sdo+OL0wNhqoVWhr3g6s1xYv72ol/pe/Unols=", "mKQrn4b2zhwaPV7kCG36/zNRM0sNh+2hPydhg4z0Hkw="),
    "SHA512": ("vSsar3708Jvp9Szi2NWZZ02Bqp1qRCFpbcTZPdBhnWgs5WtNZKnvCXdhztmeD2cmW192CF5bDufKRpayrW/isg==",
               "5ks4UinhY72Akl7NS+3086dccKtSBwrRTS6J//+1Dy/ebeNtVSUUYYK449e2rjNnPkPX9s5acqHJNnz8aEjwZA=="),
    "SHA256-CRYPT": ("$5$Z95X0foL1/IjjsRK$sL6qsOIzOTLnB0FKdM9Q4DfcPxJFPcmGt1LFA2IoKj1",
                     "$5$W9eyTgqDxaCQnqQT$EyqFu8EWEQh0/CS66n//eyhbUMFYhsfwgerqnaarx/5"),
    "SHA512-CRYPT": ("$6$07/0v0FDuy3s584R$IPtuSLWqY4caywBso1lItzchVVIWqGPBpZX9KprTr81OLRQpUWkFD31INQ2jUaK."
                     "5pamu6fvFuakxxNJy2sjb/",
                     "$6$ff8mErVbqAgzHYsl$R8xeYWMX2OUJLnsKU4/E7z.20ym4SWaDM/eI1kWWE.mdBN5rQ/BmKq3jFCd6x8o5qFpKtljra"
                     "SI0Ilge19dd4."),
    "SMD5": ("XoRTMG8QRNrPyE2GsE902GsNKBE=", "IEVotkcMBAEqMhFeHOrk6pWGkO4="),
    "SSHA": ("YixwsuWZrW9ornwPuDMSyNq4QgkwAIoV", "uowWYdtrQWMdayZ3ClRIhJxQOJTYdDPc"),
    "SSHA256": ("wsqqoi4uuZm1dPGwVjbot/rCMadyZOLvV2XxT798VUAzARIR", "0dVxnY/QMAWAsfcSglJWpJQqGeDuYWZPXw3NfmQvAuVcnSzG"),
    "SSHA512": ("ZSlrcDR3q8VHX0lLi6VV3vnGSs+QfYDbHsXwagBSFyaYhHmeSUgnrHBnlbGxA3MqdJmxoODT/BGnwlTb55JkP5Qouz4=",
                "flkgyO6FOzwfUwd80DCiYrGNb395tt6bLQvi+o4+bxN7+EkSYF2uZ+Q3vZsUBd82yzra9vGjE14Qr58g//lX2DQrVwk="),
}


@pytest.mark.parametrize("scheme", _VECTORS)
def test_known_hashes(scheme: str) -> None:
    for password, data in zip(_PASSWORDS, _VECTORS[scheme], strict=True):
        stored = "{" + scheme + "}" + data
        assert schemes.verify(stored, password, _USER)
        assert not schemes.verify(stored, "x" + password, _USER)
        assert not schemes.verify(stored, "", _USER)


@pytest.mark.parametrize("scheme", schemes.names())
def test_generated_hashes_verify(scheme: str) -> None:
    for suffix in ("", ".b64", ".HEX"):
        stored = schemes.generate(scheme + suffix, "Pa55 wörd", 0, _USER)
        assert stored.startswith("{" + (scheme + suffix).upper() + "}")
        assert schemes.verify(stored, "Pa55 wörd", _USER)
        assert not schemes.verify(stored, "pa55 wörd", _USER)
        if scheme.startswith("ARGON2"):
            break


@pytest.mark.parametrize(("stored", "password"), [
    ("{SHA256.HEX}2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b", "secret"),
    ("{SHA256}2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b", "secret"),
    ("{PLAIN.B64}c2VjcmV0", "secret"), ("{plain.hex}736563726574", "secret"),
    ("{PLAIN-MD5}Xr4ilOzQ4PCOq3aQ0qbuaQ==", "secret"), ("{PLAIN-TRUNC}3-abc", "abcdef"),
    ("{PLAIN-TRUNC}5-abc", "abc"), ("{MD5-CRYPT}$1$wmyrgRuV$kImF6.9MAFQNHe23kq5vI/", "test"),
    ("{CRYPT}JBOZ0DgmtucwE", "08/15!test~4711"),
])
def test_encodings_and_other_known_hashes(stored: str, password: str) -> None:
    assert schemes.verify(stored, password)


@pytest.mark.parametrize(("stored", "text"), [
    ("{NOSUCH}x", "Unknown scheme NOSUCH"), ("{SHA.ROT13}x", "Unknown scheme SHA.ROT13"),
    ("{SHA1}!", "Password data is not valid for scheme SHA1: Input isn't valid base64 encoded data"),
    ("{PBKDF2}x", "Password data is not valid for scheme PBKDF2"),
    ("{SCRAM-SHA-1}1,x,y,z", "Password data is not valid for scheme SCRAM-SHA-1"),
    ("{SSHA}AAAA", "Password data is not valid for scheme SSHA"),
])
def test_unusable_data_says_so(stored: str, text: str) -> None:
    with pytest.raises(schemes.SchemeError, match=text.replace(".", r"\.")):
        schemes.verify(stored, "secret")


def test_raw_values_are_recognised() -> None:
    assert schemes.detect("{SHA}x", "CRYPT") == "{SHA}x"
    assert schemes.detect("$1$s$kImF6.9MAFQNHe23kq5vI/junk", "PLAIN") == "{MD5-CRYPT}$1$s$kImF6.9MAFQNHe23kq5vI/"
    assert schemes.detect("x", "CRYPT") == "{CRYPT}x"
    assert not schemes.verify("{CRYPT}", "")
