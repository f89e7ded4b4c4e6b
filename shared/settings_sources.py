"""Where settings stand: the environment, before `.env`, before a YAML file; each place is one `Layer` of raw values.

The YAML file is the one that ARRIERO_CONFIG names, else `config.yaml` here if there is one. Sections only group: a
setting stands in them under its whole name or without the section's, so `redis: {url: ...}`, `redis: {redis_url: ...}`
and a plain `redis_url: ...` are one and the same, and `llm:` may hold whatever concerns models.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from dotenv import dotenv_values
from pydantic import AliasChoices
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, DotEnvSettingsSource, PydanticBaseSettingsSource

CONFIG_VARIABLE = "ARRIERO_CONFIG"
CONFIG_FILE = "config.yaml"
ENVIRONMENT = "environment"
ONE_SETTING = frozenset({"prompt_templates", "services"})
"""Mappings in the YAML file that are one setting's value: what stands in them is no setting by itself."""
LIKENESS = 0.9
"""From this share of common letters on (difflib's ratio) an unknown name is taken for a misspelt one."""


class UnreadableConfig(Exception):
    """The YAML file cannot be read. Says which, where and why, in one sentence."""


@dataclass(frozen=True, slots=True)
class Given:
    """One value as somebody wrote it down: `names` it may be found by, `written` as it stands there."""

    origin: str
    names: tuple[str, ...]
    written: str
    value: Any

    @property
    def is_section(self) -> bool:
        return isinstance(self.value, dict)


class Layer:
    """All values of one place, in their order."""

    def __init__(self, origin: str, given: Iterable[Given]) -> None:
        self.origin = origin
        self.given = list(given)
        self._by_name: dict[str, Given] = {}
        for one in self.given:
            for name in one.names:
                self._by_name.setdefault(name, one)

    @classmethod
    def flat(cls, origin: str, values: Mapping[str, str | None]) -> Layer:
        """Of variables; one without a value is left out."""
        return cls(
            origin, (Given(origin, (name.lower(),), name, value) for name, value in values.items() if value is not None)
        )

    def find(self, names: Iterable[str]) -> Given | None:
        """The value under the first of `names` that has one here; an empty one only if no other has any."""
        present = [self._by_name[name] for name in names if name in self._by_name]
        return next((one for one in present if one.value != ""), present[0] if present else None)

    def all(self, names: Collection[str]) -> list[Given]:
        """Everything that is not empty under any of `names`."""
        return [one for one in self.given if one.value != "" and not set(one.names).isdisjoint(names)]

    def unknown(self, known: Collection[str]) -> Iterator[Given]:
        """Every value that is under none of the `known` names, nor inside one that is."""
        inside = tuple(f"{one.written}." for one in self.given if not set(one.names).isdisjoint(known))
        for one in self.given:
            if set(one.names).isdisjoint(known) and not one.is_section and not one.written.startswith(inside):
                yield one


def names_of(name: str, field: FieldInfo) -> tuple[str, ...]:
    """Every name under which a settings field is read, in lower case; the documented one comes first."""
    alias = field.validation_alias
    choices = [str(choice) for choice in alias.choices] if isinstance(alias, AliasChoices) else [str(alias or name)]
    return tuple(choice.lower() for choice in choices)


def known_names(settings_classes: Iterable[type[BaseSettings]]) -> set[str]:
    """Every name that any of these classes reads."""
    fields = [item for settings in settings_classes for item in settings.model_fields.items()]
    return {name for field_name, field in fields for name in names_of(field_name, field)}


def read_layers(env_file: str | os.PathLike[str] | None = ".env") -> list[Layer]:
    """The three places, the strongest first. Raises UnreadableConfig."""
    layers = [Layer.flat(ENVIRONMENT, os.environ)]
    if env_file is not None and Path(env_file).is_file():
        layers.append(Layer.flat(str(env_file), dotenv_values(env_file, encoding="utf-8")))
    return [*layers, *_yaml_layers()]


def variable(name: str) -> str:
    """The value of a variable that a setting names, from the environment, else from `.env`; empty if there is none."""
    return os.environ.get(name) or dotenv_values(".env", encoding="utf-8").get(name) or ""


def find(names: Sequence[str], layers: Iterable[Layer]) -> Given | None:
    """What counts for a setting of these names; None: its default."""
    return next((one for layer in layers if (one := layer.find(names)) is not None), None)


def contradictions(settings: type[BaseSettings], layers: Sequence[Layer]) -> Iterator[str]:
    """A sentence for each setting that one place gives two different values, under two of its names."""
    for name, field in settings.model_fields.items():
        names = names_of(name, field)
        for layer in layers:
            found = layer.all(names)
            for other in found[1:]:
                if _parts(other.value) != _parts(found[0].value):
                    yield (
                        f"{found[0].written} and {other.written} ({layer.origin}): they are one setting and have "
                        f"different values. Keep {names[0].upper()} only."
                    )


def misspelt(known: Collection[str], layers: Iterable[Layer]) -> Iterator[tuple[Given, str]]:
    """Values under a name that is not among `known` but looks like one of them, with that one."""
    for layer in layers:
        for one in layer.unknown(known):
            for name in one.names:
                if close := difflib.get_close_matches(name, known, n=1, cutoff=LIKENESS):
                    yield one, close[0].upper()
                    break


class LayeredSource(PydanticBaseSettingsSource):
    """The layers as pydantic-settings wants them: raw values by field name."""

    def __init__(self, settings_cls: type[BaseSettings], dotenv: PydanticBaseSettingsSource) -> None:
        super().__init__(settings_cls)
        # `_env_file=None` of a test must keep out whatever lies in its directory.
        env_file = dotenv.env_file if isinstance(dotenv, DotEnvSettingsSource) else None
        self._env_file = env_file if isinstance(env_file, str | os.PathLike) else None

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        found = find(names_of(field_name, field), self._layers)
        return (None if found is None else found.value), field_name, False

    def __call__(self) -> dict[str, Any]:
        values = {name: self.get_field_value(field, name)[0] for name, field in self.settings_cls.model_fields.items()}
        return {name: value for name, value in values.items() if value is not None}

    @cached_property
    def _layers(self) -> list[Layer]:
        return read_layers(self._env_file)


def _yaml_layers() -> Iterator[Layer]:
    chosen = os.environ.get(CONFIG_VARIABLE, "")
    path = Path(chosen or CONFIG_FILE)
    if not chosen and not path.is_file():
        return
    # Only now: most processes have no such file, and the parser takes 20 ms to import.
    import yaml

    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as exc:
        named = f" ({CONFIG_VARIABLE} names it)" if chosen else ""
        raise UnreadableConfig(f"{path}: cannot be read{named}: {exc.strerror}.") from exc
    except (yaml.YAMLError, UnicodeDecodeError) as exc:
        raise UnreadableConfig(f"{path}: is not YAML: {' '.join(str(exc).split())}.") from exc
    if document is None:
        return
    if not isinstance(document, dict):
        raise UnreadableConfig(f"{path}: expected settings as `name: value`, in sections or not.")
    yield Layer(str(path), _walk(document, (), str(path)))


def _walk(node: Mapping[Any, Any], above: tuple[str, ...], origin: str) -> Iterator[Given]:
    """Sections and values. `a: {b: {c: 1}}` may be meant as A_B_C, B_C or C."""
    for key, value in node.items():
        path = (*above, str(key))
        if value is not None:
            names = tuple("_".join(path[start:]).lower() for start in range(len(path)))
            yield Given(origin, names, ".".join(path), _text(value))
        if isinstance(value, dict) and key not in ONE_SETTING:
            yield from _walk(value, path, origin)


def _text(value: Any) -> Any:
    """As it would stand in the environment, so that the same rules read it: 300000 is as much milliseconds there."""
    match value:
        case bool():
            return str(value).lower()
        case list():
            return [_text(item) for item in value]
        case dict():
            return {str(key): _text(item) for key, item in value.items()}
        case None:
            return ""
        case _:
            return str(value)


def _parts(value: Any) -> list[str]:
    """For telling whether two values say the same: a list and its comma-separated text do, so do `x` and `x/`."""
    text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    return [part.strip().rstrip("/") for part in text.split(",")]
