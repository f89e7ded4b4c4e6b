"""Every setting of every service, from the settings classes: .env.example, its check, and what is in effect here.

    python -m infra.setup.settings_report env-example            print .env.example
    python -m infra.setup.settings_report check .env.example     status 1 when the file is another
    python -m infra.setup.settings_report markdown               the README's table
    python -m infra.setup.settings_report show                   what is in effect here, as JSON; secrets masked

It stands apart from the services and from the `arriero` command, because it is the one place that has to know all of
them.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dotenv import dotenv_values
from pydantic import AliasChoices, BeforeValidator, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

from arriero.settings import CommandSettings
from gateway.settings import GatewaySettings
from manager.settings import ManagerSettings
from monitor.settings import MonitorSettings
from shared.settings import BaseServiceSettings, parse_duration_s
from worker.settings import WorkerSettings

GROUPS: Sequence[tuple[str, type[BaseSettings]]] = (
    ("Every service", BaseServiceSettings),
    ("Gateway", GatewaySettings),
    ("Worker", WorkerSettings),
    ("Model manager", ManagerSettings),
    ("System monitor", MonitorSettings),
    ("The arriero command", CommandSettings),
)
MASKED = "********"
EXIT_DRIFT, EXIT_CONFIG = 1, 78
WRAP_AT = 116

HEADER = """\
# Settings of Arriero. Copy this file to .env and take the # off the lines you want to change; each value shown is the
# default. Environment variables win over .env. Durations: 300s, 5m, 300000ms, or a bare number (seconds below 1000,
# milliseconds from there on). Generated from the settings classes: `arriero config env-example > .env.example`.
"""


@dataclass(frozen=True, slots=True)
class Setting:
    """One variable. `names`: the first is the documented one, the others are read too."""

    group: str
    field: str
    names: tuple[str, ...]
    default: str
    description: str
    secret: bool


def settings() -> Iterator[Setting]:
    """All of them, each once: a service's group leaves out what every service has."""
    shared = set(BaseServiceSettings.model_fields)
    for group, model in GROUPS:
        for name, field in model.model_fields.items():
            if model is not BaseServiceSettings and issubclass(model, BaseServiceSettings) and name in shared:
                continue
            default = field.get_default(call_default_factory=True, validated_data={})
            names = _names(name, field)
            text = _text(default) + ("s" if _is_duration(field) else "")
            yield Setting(group, name, names, text, field.description or "", isinstance(default, SecretStr))


def _is_duration(field: FieldInfo) -> bool:
    # Written with its unit: read back from a file, a bare 86400 would be taken for milliseconds.
    return any(isinstance(mark, BeforeValidator) and mark.func is parse_duration_s for mark in field.metadata)


def env_example() -> str:
    """The whole file."""
    lines = [HEADER.rstrip("\n")]
    group = ""
    for setting in settings():
        if setting.group != group:
            group = setting.group
            lines += ["", f"# --- {group} " + "-" * (70 - len(group))]
        lines += [
            "",
            *(f"# {line}" for line in _wrapped(setting.description)),
            f"#{setting.names[0]}={setting.default}",
        ]
    return "\n".join(lines) + "\n"


def markdown() -> str:
    lines: list[str] = []
    group = ""
    for setting in settings():
        if setting.group != group:
            group = setting.group
            lines += ["", f"**{group}**", "", "| variable | default | |", "|---|---|---|"]
        default = f"`{setting.default}`" if setting.default else ""
        description = setting.description.replace("|", "\\|")
        lines.append(f"| `{setting.names[0]}` | {default} | {description} |")
    return "\n".join(lines).lstrip("\n") + "\n"


def in_effect(environment: Mapping[str, str], dotenv: Mapping[str, str | None]) -> list[dict[str, object]]:
    """Each setting with its present value and where that comes from. Raises ValidationError for a wrong value."""
    values = {group: model() for group, model in GROUPS}
    in_environment = {name.lower(): name for name in environment}
    in_dotenv = {name.lower(): name for name in dotenv}
    rows: list[dict[str, object]] = []
    for setting in settings():
        source = "default"
        for name in setting.names:
            if name.lower() in in_environment:
                source = f"environment ({in_environment[name.lower()]})"
                break
            if source == "default" and name.lower() in in_dotenv:
                source = f".env ({in_dotenv[name.lower()]})"
        value = _text(getattr(values[setting.group], setting.field), mask=True)
        rows.append({**asdict(setting), "value": value, "source": source})
    return rows


def _names(name: str, field: FieldInfo) -> tuple[str, ...]:
    alias = field.validation_alias
    choices = [str(choice) for choice in alias.choices] if isinstance(alias, AliasChoices) else [str(alias or name)]
    return tuple(choice.upper() for choice in choices)


def _text(value: Any, *, mask: bool = False) -> str:
    """A value as it is written in .env."""
    if isinstance(value, SecretStr):
        return MASKED if mask and value.get_secret_value() else ""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return ",".join(_text(item, mask=mask) for item in value)
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return mask_url_password(str(value)) if mask else str(value)


def mask_url_password(text: str) -> str:
    """`redis://user:secret@host` without the secret."""
    return re.sub(r"(?<=://)([^:/@\s]*):[^@/\s]+(?=@)", rf"\1:{MASKED}", text)


def _wrapped(text: str) -> list[str]:
    lines, line = [], ""
    for word in text.split():
        if line and len(line) + 1 + len(word) > WRAP_AT:
            lines.append(line)
            line = word
        else:
            line = f"{line} {word}".lstrip()
    return [*lines, line] if line else lines


def _check(path: Path) -> int:
    try:
        found = path.read_text()
    except OSError as exc:
        print(f"{path}: {exc.strerror}; make it with `arriero config env-example > {path}`", file=sys.stderr)
        return EXIT_DRIFT
    if found == env_example():
        return 0
    wanted_lines, found_lines = set(env_example().splitlines()), set(found.splitlines())
    differing = [f"  + {line}" for line in sorted(wanted_lines - found_lines)][:5]
    differing += [f"  - {line}" for line in sorted(found_lines - wanted_lines)][:5]
    print(f"{path} is not what the settings classes say:", *differing, sep="\n", file=sys.stderr)
    print(f"make it anew: `arriero config env-example > {path}`", file=sys.stderr)
    return EXIT_DRIFT


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m infra.setup.settings_report", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("env-example")
    commands.add_parser("markdown")
    commands.add_parser("show")
    commands.add_parser("check").add_argument("file", type=Path)
    arguments = parser.parse_args()
    match arguments.command:
        case "check":
            return _check(arguments.file)
        case "show":
            try:
                rows = in_effect(os.environ, dotenv_values(".env"))
            except ValidationError as exc:
                for fault in exc.errors(include_url=False, include_input=False, include_context=False):
                    name = ".".join(str(part) for part in fault["loc"]).upper()
                    print(f"setting {name}: {fault['msg']}", file=sys.stderr)
                return EXIT_CONFIG
            sys.stdout.write(json.dumps(rows, indent=2) + "\n")
        case "markdown":
            sys.stdout.write(markdown())
        case _:
            sys.stdout.write(env_example())
    return 0


if __name__ == "__main__":
    sys.exit(main())
