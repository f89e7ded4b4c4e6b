"""What is written from the table of settings: .env.example and docs/configuration.md; and whether a file still fits."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from infra.setup.settings_table import Setting, settings

WRAP_AT = 116
EXIT_DRIFT = 1

HEADER = """\
# Settings of Arriero. Copy this file to .env and take the # off the lines you want to change; each value shown is the
# default. Environment variables win over .env, and .env over config.yaml (docs/configuration.md). Durations: 300s, 5m,
# 300000ms, or a bare number (seconds below 1000, milliseconds from there on). Generated from the settings classes:
# `arriero config env-example > .env.example`.
"""


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


CONFIGURATION = """\
# Configuration

Written from the settings classes: `arriero config reference > docs/configuration.md`; do not edit.

## Where settings come from
The first of these that has a setting decides:

1. the environment,
2. `.env` in the directory where the service starts ([.env.example](../.env.example) lists all of them),
3. a YAML file: the one that `ARRIERO_CONFIG` names, else `config.yaml` in that directory,
4. the default.

Names are not case-sensitive. In the YAML file, sections only group: a setting stands in one under its whole name, or
without the section's. These say the same:

```yaml
redis_url: redis://cache:6379/0
---
redis:
  url: redis://cache:6379/0
---
llm:
  redis_url: redis://cache:6379/0
```

One file serves all services; each takes what it knows.

## How values are written
- **Durations**: `300s`, `5m`, `24h`, `300000ms`. A bare number is seconds below 1000 and milliseconds from there
  on, which the service then says in its log.
- **Shares**: `0.8`, `80` and `80%` are the same.
- **Lists**: comma-separated; in YAML also as lists.
- **Secrets** may come in files where there is a setting that ends in `_FILE`, as Docker and Kubernetes hand them out.

## What is refused
A service whose settings are wrong says all that is wrong with them, in one list, and ends with status 78. That includes
two names of one setting with different values, a preload or fallback model that `ALLOWED_MODELS` shuts out, and
values that cannot hold together. A name that looks like a misspelt one is warned of in the log.

- `arriero config check` looks at the settings of all services at once and starts nothing.
- `arriero config show` lists what is in effect and where it comes from; secrets are masked.

## All settings
"""


def configuration() -> str:
    """docs/configuration.md, whole."""
    lines = [CONFIGURATION.rstrip("\n")]
    for setting, is_first in _grouped():
        if is_first:
            lines += ["", f"### {setting.group}", "", "| variable | default | meaning |", "|---|---|---|"]
        default = f"`{setting.default}`" if setting.default else ""
        lines.append(f"| `{setting.names[0]}` | {default} | {setting.description.replace('|', chr(92) + '|')} |")
    return "\n".join(lines) + "\n"


def drift(path: Path) -> list[str]:
    """What tells a file from the page that it ought to be; empty if nothing does. Raises OSError."""
    found, wanted = path.read_text(encoding="utf-8"), configuration() if path.suffix == ".md" else env_example()
    if found == wanted:
        return []
    wanted_lines, found_lines = set(wanted.splitlines()), set(found.splitlines())
    differing = [f"  + {line}" for line in sorted(wanted_lines - found_lines)][:5]
    return differing + [f"  - {line}" for line in sorted(found_lines - wanted_lines)][:5]


def check(path: Path) -> int:
    """The exit status; says on standard error what to do."""
    remedy = f"make it anew: `arriero config {'reference' if path.suffix == '.md' else 'env-example'} > {path}`"
    try:
        differing = drift(path)
    except OSError as exc:
        print(f"{path}: {exc.strerror}; {remedy}", file=sys.stderr)
        return EXIT_DRIFT
    if not differing:
        return 0
    print(f"{path} is not what the settings classes say:", *differing, remedy, sep="\n", file=sys.stderr)
    return EXIT_DRIFT


def _grouped() -> Iterator[tuple[Setting, bool]]:
    """Each setting, and whether it is its group's first."""
    group = ""
    for setting in settings():
        yield setting, setting.group != group
        group = setting.group


def _wrapped(text: str) -> list[str]:
    lines, line = [], ""
    for word in text.split():
        if line and len(line) + 1 + len(word) > WRAP_AT:
            lines.append(line)
            line = word
        else:
            line = f"{line} {word}".lstrip()
    return [*lines, line] if line else lines
