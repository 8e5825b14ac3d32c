"""MD4, and MD5 that can be begun and continued: what old mechanisms and schemes need and hashlib does not offer.

`hmac_md5_contexts(key)` is what CRAM-MD5 stores instead of a password: the state of MD5 after the outer and after the
inner key block; `hmac_md5_resume` finishes the sum from there.  Bytes in, bytes out; messages are short.
"""
from __future__ import annotations

import hashlib
import math
import struct

_BLOCK = 64
_START = (0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476)
_MASK = 0xFFFFFFFF
_STATE = struct.Struct("<4I")
_WORDS = struct.Struct("<16I")
_LENGTH = struct.Struct("<Q")

#: Per step of MD5: which word, how far to turn, what to add.
_MD5_STEPS = tuple(
    ((step, 5 * step + 1, 3 * step + 5, 7 * step)[step // 16] % 16,
     ((7, 12, 17, 22), (5, 9, 14, 20), (4, 11, 16, 23), (6, 10, 15, 21))[step // 16][step % 4],
     int(abs(math.sin(step + 1)) * 2 ** 32))
    for step in range(64))
#: The same for MD4.
_MD4_STEPS = tuple(
    ((step % 16, step % 4 * 4 + step % 16 // 4,
      (0, 8, 4, 12, 2, 10, 6, 14, 1, 9, 5, 13, 3, 11, 7, 15)[step % 16])[step // 16],
     ((3, 7, 11, 19), (3, 5, 9, 13), (3, 9, 11, 15))[step // 16][step % 4],
     (0, 0x5A827999, 0x6ED9EBA1)[step // 16])
    for step in range(48))

State = tuple[int, int, int, int]


def _turn(value: int, bits: int) -> int:
    return (value << bits | value >> 32 - bits) & _MASK


def _md5_block(state: State, block: bytes) -> State:
    words = _WORDS.unpack(block)
    a, b, c, d = state
    for step, (index, bits, constant) in enumerate(_MD5_STEPS):
        if step < 16:
            mixed = b & c | ~b & d
        elif step < 32:
            mixed = d & b | ~d & c
        elif step < 48:
            mixed = b ^ c ^ d
        else:
            mixed = c ^ (b | ~d & _MASK)
        a, b, c, d = d, (b + _turn((a + mixed + words[index] + constant) & _MASK, bits)) & _MASK, b, c
    return _sum(state, (a, b, c, d))


def _md4_block(state: State, block: bytes) -> State:
    words = _WORDS.unpack(block)
    a, b, c, d = state
    for step, (index, bits, constant) in enumerate(_MD4_STEPS):
        if step < 16:
            mixed = b & c | ~b & d
        elif step < 32:
            mixed = b & c | b & d | c & d
        else:
            mixed = b ^ c ^ d
        a, b, c, d = d, _turn((a + mixed + words[index] + constant) & _MASK, bits), b, c
    return _sum(state, (a, b, c, d))


def _sum(old: State, new: State) -> State:
    return ((old[0] + new[0]) & _MASK, (old[1] + new[1]) & _MASK, (old[2] + new[2]) & _MASK, (old[3] + new[3]) & _MASK)


def _padded(data: bytes, before: int = 0) -> bytes:
    """`data` up to whole blocks, with the length of all that was hashed at its end."""
    total = before + len(data)
    return data + b"\x80" + bytes(-(total + 9) % _BLOCK) + _LENGTH.pack(total * 8)


def _blocks(data: bytes) -> range:
    return range(0, len(data), _BLOCK)


def md4(data: bytes) -> bytes:
    state: State = _START
    data = _padded(data)
    for start in _blocks(data):
        state = _md4_block(state, data[start:start + _BLOCK])
    return _STATE.pack(*state)


def _md5_from(state: State, data: bytes) -> bytes:
    """MD5 of one block, of which only the state is known, and then `data`."""
    data = _padded(data, _BLOCK)
    for start in _blocks(data):
        state = _md5_block(state, data[start:start + _BLOCK])
    return _STATE.pack(*state)


def hmac_md5_contexts(key: bytes) -> bytes:
    if len(key) > _BLOCK:
        key = hashlib.md5(key, usedforsecurity=False).digest()
    key = key.ljust(_BLOCK, b"\0")
    outer = _md5_block(_START, bytes(byte ^ 0x5C for byte in key))
    inner = _md5_block(_START, bytes(byte ^ 0x36 for byte in key))
    return _STATE.pack(*outer) + _STATE.pack(*inner)


def hmac_md5_resume(contexts: bytes, message: bytes) -> bytes:
    outer: State = _STATE.unpack(contexts[:16])
    inner: State = _STATE.unpack(contexts[16:])
    return _md5_from(outer, _md5_from(inner, message))
