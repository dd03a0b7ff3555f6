"""Which worker a key belongs to: the same one each time, in each process, whoever is restarted."""

from __future__ import annotations

import functools
import hashlib
import struct
from typing import Any

MASK = (1 << 64) - 1
KEPT = 8192


def stable_hash(key: Any) -> int:
    """A hash of 64 bits that is the same in all processes; equal keys have the same.

    Raises TypeError for what is not made of str, bytes, int, float, bool, None and tuples.
    """
    return int.from_bytes(hashlib.blake2b(_encoded(key), digest_size=8).digest(), "little")


def _encoded(key: Any) -> bytes:
    """A key as bytes, such that different keys have different bytes."""
    kind = type(key)
    if kind is str:
        body = b"s" + key.encode("utf-8", "surrogatepass")
    elif kind is bytes:
        body = b"b" + key
    elif kind is int or kind is bool:
        body = b"i%d" % key
    elif kind is float:
        body = b"i%d" % int(key) if key.is_integer() else b"f" + struct.pack("<d", key)
    elif key is None:
        body = b"n"
    elif kind is tuple:
        body = b"t" + b"".join(map(_encoded, key))
    else:
        raise TypeError(
            f"a key is made of str, bytes, int, float, bool, None and tuples, not {kind.__qualname__}:"
            " only these are the same in every process"
        )
    return b"%d:%b" % (len(body), body)


@functools.lru_cache(KEPT, typed=True)
def owner(key: Any, count: int) -> int:
    """Which of `count` workers the key belongs to: the one whose number, hashed with it, ranks highest.

    With another count only as many keys change owners as must.
    """
    hashed = stable_hash(key)
    return max(range(count), key=lambda index: _mixed(hashed ^ _mixed(index + 1)))


def _mixed(x: int) -> int:
    """The finalizer of splitmix64."""
    x = (x + 0x9E3779B97F4A7C15) & MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
    return x ^ (x >> 31)
