"""The names in a PromQL expression. Enough of its grammar for that; a real Prometheus checks the rest."""

from __future__ import annotations

import re

_WORDS = frozenset({"and", "or", "unless", "bool", "offset"})
_GROUPING = re.compile(r"\b(by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_SELECTOR = re.compile(r"\{([^}]*)\}")
_RANGE = re.compile(r"\[[^\]]*\]")
_NAME = re.compile(r"(?<![\w.$])[A-Za-z_:][\w:]*(?!\s*\()(?![\w:])")
_MATCHER = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)")


def metric_names(expression: str) -> set[str]:
    """Metrics and recorded series that it reads."""
    bare = _RANGE.sub("", _GROUPING.sub("", _SELECTOR.sub("", _STRING.sub("", expression))))
    return {name for name in _NAME.findall(bare) if name not in _WORDS}


def label_names(expression: str) -> set[str]:
    """Labels that it selects or groups by."""
    bare = _STRING.sub('""', expression)
    grouped = {name.strip() for _, names in _GROUPING.findall(bare) for name in names.split(",")}
    return {name for inside in _SELECTOR.findall(bare) for name in _MATCHER.findall(inside)} | grouped - {""}
