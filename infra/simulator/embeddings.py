"""Vectors in which similar texts are near: a hashed bag of words and letter triples, of length one.

After Weinberger et al., "Feature Hashing for Large Scale Multitask Learning", ICML 2009.
"""

from __future__ import annotations

import math
import re
from array import array
from zlib import crc32

_WORD = re.compile(r"\w+")
WORD_WEIGHT, TRIPLE_WEIGHT, CONSTANT_WEIGHT = 1.0, 0.35, 0.1
MOST_CHARACTERS = 20_000
"""Of a text that count; longer ones are cut, as a model's context would."""


def embed(text: str, *, model_salt: int, dimensions: int) -> list[float]:
    """`dimensions` numbers of float32 precision. `model_salt` keeps the spaces of two models apart."""
    vector = [0.0] * dimensions
    # Present in every text, so that one without any word still has a direction.
    _add(vector, b"\0", model_salt, CONSTANT_WEIGHT)
    for word in _WORD.findall(text[:MOST_CHARACTERS].lower()):
        encoded = word.encode("utf-8", "replace")
        _add(vector, encoded, model_salt, WORD_WEIGHT)
        padded = b"<" + encoded[:24] + b">"
        for at in range(len(padded) - 2):
            _add(vector, padded[at : at + 3], model_salt, TRIPLE_WEIGHT)
    return normalised(vector)


def _add(vector: list[float], feature: bytes, salt: int, weight: float) -> None:
    code = crc32(feature, salt)
    vector[(code >> 1) % len(vector)] += weight if code & 1 else -weight


def normalised(vector: list[float]) -> list[float]:
    """Scaled to length one; features that cancel each other out leave the first axis."""
    length = math.sqrt(sum(value * value for value in vector))
    if not length:
        return [1.0] + [0.0] * (len(vector) - 1)
    return array("f", [value / length for value in vector]).tolist()


def shortened(vector: list[float], dimensions: int | None) -> list[float]:
    """Cut to fewer dimensions and scaled again; a number that is not smaller changes nothing."""
    if dimensions is None or dimensions <= 0 or dimensions >= len(vector):
        return vector
    return normalised(vector[:dimensions])
