"""All settings of all services: .env.example, docs/configuration.md, what is in effect here, and what is wrong.

python -m infra.setup.settings_report env-example            print .env.example
python -m infra.setup.settings_report reference              print docs/configuration.md
python -m infra.setup.settings_report check FILE             status 1 when FILE, one of these two, is another
python -m infra.setup.settings_report show                   what is in effect here, as JSON; secrets masked
python -m infra.setup.settings_report faults                 what is wrong here, as JSON; status 78 if anything is
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import ValidationError

from arriero.settings import StackSettings
from infra.setup import settings_pages
from infra.setup.settings_table import GROUPS, settings, text_of
from shared.lifecycle import ConfigFault, milliseconds, misspellings, read_settings, sentence
from shared.settings import BaseServiceSettings
from shared.settings_sources import ENVIRONMENT, Layer, UnreadableConfig, find, known_names, read_layers

SERVICE_PORTS = ("gateway_port", "worker_port", "manager_port", "monitor_port")
EXIT_CONFIG = 78


def in_effect(layers: Sequence[Layer]) -> list[dict[str, object]]:
    """Each setting with its present value and where that comes from. Raises ValidationError for a wrong value."""
    values = {group: model() for group, model in GROUPS}
    rows: list[dict[str, object]] = []
    for setting in settings():
        given = find([name.lower() for name in setting.names], layers)
        source = "default" if given is None else f"{given.origin} ({given.written})"
        value = text_of(getattr(values[setting.group], setting.field), mask=True) + setting.unit
        rows.append({**asdict(setting), "value": value, "source": source})
    return rows


@dataclass(frozen=True, slots=True)
class Check:
    """What keeps a service from starting here (`faults`), and what looks odd (`remarks`), a sentence each."""

    faults: list[str]
    remarks: list[str]


def examine(layers: Sequence[Layer]) -> Check:
    """All services' settings at once, as each would read them here."""
    faults: dict[str, None] = {}
    remarks: dict[str, None] = {}
    for _, model in GROUPS:
        remarks.update(dict.fromkeys(milliseconds(model, layers)))
        try:
            values = read_settings(model)
            if isinstance(values, BaseServiceSettings):
                remarks.update(dict.fromkeys(values.service_remarks()))
        except ConfigFault as fault:
            faults.update(dict.fromkeys(fault.args))
    with suppress(ValidationError):  # which the services told already
        faults.update(dict.fromkeys(_shared_ports(StackSettings())))
    models = [model for _, model in GROUPS]
    remarks.update(dict.fromkeys(misspellings(models, layers)))
    for layer in layers:
        # Environment and .env are other programs' as well; the YAML file is ours alone.
        for given in layer.unknown(known_names(models)) if layer.origin not in (ENVIRONMENT, ".env") else ():
            remark = f"{given.written} ({given.origin}) is not a setting and has no effect."
            if not any(told.startswith(remark) for told in remarks):
                remarks[remark] = None
    return Check(list(faults), list(remarks))


def _shared_ports(stack: StackSettings) -> Iterator[str]:
    ports: dict[int, str] = {}
    for name in SERVICE_PORTS:
        port = getattr(stack, name)
        if port and (other := ports.setdefault(port, name)) != name:
            yield f"{name.upper()}: {port} is {other.upper()} as well; give each service its own port."


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m infra.setup.settings_report", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("env-example", "reference", "show", "faults"):
        commands.add_parser(name)
    commands.add_parser("check").add_argument("file", type=Path)
    try:
        return _run(parser.parse_args())
    except UnreadableConfig as exc:
        print(exc, file=sys.stderr)
    except ValidationError as exc:
        for fault in exc.errors(include_url=False, include_input=False, include_context=False):
            print(sentence(fault["loc"], fault["msg"]), file=sys.stderr)
    return EXIT_CONFIG


def _run(arguments: argparse.Namespace) -> int:
    match arguments.command:
        case "check":
            return settings_pages.check(arguments.file)
        case "show":
            sys.stdout.write(json.dumps(in_effect(read_layers()), indent=2) + "\n")
        case "faults":
            found = examine(read_layers())
            sys.stdout.write(json.dumps(asdict(found), indent=2) + "\n")
            return EXIT_CONFIG if found.faults else 0
        case "reference":
            sys.stdout.write(settings_pages.configuration())
        case _:
            sys.stdout.write(settings_pages.env_example())
    return 0


if __name__ == "__main__":
    sys.exit(main())
