"""Prompts that the operator has named: filled in with a caller's words, strictly, and nothing in them is executed.

They are Python's string templates: `$name` or `${name}` is a variable, `$$` a dollar sign, and there is no more to the
language. A value is put in as it is; a `$` in it stays one.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping
from string import Template
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator
from pydantic_settings import NoDecode

from shared.errors import BadRequest

MOST_TEMPLATES = 1000
MOST_VARIABLES = 64
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
_NAME = re.compile(NAME_PATTERN)


def split_templates(value: Any) -> Any:
    """{name: text} from JSON text; a mapping stays as it is."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value) if value.strip() else {}
    except ValueError:
        raise ValueError('expected JSON such as {"summarise": "Sum up in $words words: $text"}') from None


def check_templates(templates: dict[str, str]) -> dict[str, str]:
    """The templates as they are. Raises ValueError, naming the template, for one that could never be filled in."""
    if len(templates) > MOST_TEMPLATES:
        raise ValueError(f"{len(templates)} templates; {MOST_TEMPLATES} are the most")
    for name, text in templates.items():
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name[:64]!r} is no name: use letters, digits, '.', '_' and '-'")
        if not Template(text).is_valid():
            raise ValueError(f"{name}: write $$ for a dollar sign, $name or ${{name}} for a variable")
        if len(variables_of(text)) > MOST_VARIABLES:
            raise ValueError(f"{name}: has more than {MOST_VARIABLES} variables")
    return templates


TemplateTable = Annotated[dict[str, str], NoDecode, BeforeValidator(split_templates), AfterValidator(check_templates)]
"""Template by name."""


def variables_of(text: str) -> list[str]:
    """The variables of a template, in the order in which they first appear."""
    return Template(text).get_identifiers()


def render(templates: Mapping[str, str], name: str, variables: Mapping[str, str]) -> str:
    """The filled-in template. Raises BadRequest for one that nobody knows, and for a variable too few or too many."""
    text = templates.get(name)
    if text is None:
        near = difflib.get_close_matches(name, templates, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise BadRequest(f"`template`: is not one of this server's; {hint}GET /templates lists them.", param="template")
    wanted = variables_of(text)
    for variable in wanted:
        if variable not in variables:
            raise BadRequest(
                f"`variables`: the template {name} needs `{variable}`; it has {', '.join(wanted)}.", param="variables"
            )
    if len(variables) > len(wanted):
        has = f"has only {', '.join(wanted)}" if wanted else "has none"
        raise BadRequest(f"`variables`: the template {name} {has}.", param="variables")
    return Template(text).substitute(variables)
