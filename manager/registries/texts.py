"""Texts of strangers, fit to be stored and shown. Pure."""

from __future__ import annotations

import re

MAX_CHARS = 300
MAX_TAGS = 40
_COUNT = re.compile(r"(\d+(?:\.\d+)?)\s*([KMB])?", re.IGNORECASE)
_THOUSANDS = {"": 1, "K": 1e3, "M": 1e6, "B": 1e9}


def one_line(text: str) -> str:
    """In one line, without control characters, not at length."""
    return " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())[:MAX_CHARS]


def count(text: str) -> int:
    """`11.3M` and `1,204` as numbers; -1 for none."""
    found = _COUNT.fullmatch(text.strip().replace(",", ""))
    return round(float(found[1]) * _THOUSANDS[(found[2] or "").upper()]) if found else -1
