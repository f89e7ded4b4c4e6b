"""`python -m infra.setup.routing_page` writes docs/routing.md from the routing table; `--check` says if it differs."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from gateway.routing import MEANINGS, ROLES
from gateway.routing_inputs import Place
from gateway.routing_settings import CODE_WORDS, COMPLEX_WORDS, PRIVACY_WORDS
from gateway.routing_table import PLACES, SECTIONS, Row, outcome

PAGE = Path(__file__).resolve().parents[2] / "docs" / "routing.md"

HEAD = """\
# Routing

Written from `gateway/routing_table.py`, whose rows a test decides anew: `make routing`; do not edit.

Every face (OpenAI, Ollama, Anthropic, jobs, direct) asks the same function where a request may go, before it becomes a
job: `gateway/routing.py`. The answer is a list of *candidates*, each a model at a service, in the order in which
workers try them. It is stored with the job's request, so that retries, batches and replays go by it. A replay does
not show it: its `route` is null, and its `model` is the candidate's bare name.

- The decision is in the header `x-arriero-route: <service>~<model>; reason=<word>`, in `route` of the job
  (GET /v1/jobs/{id}) and in the metric `arriero_routes_total{service, reason}`.
- POST /v1/route, or `arriero route MODEL --prompt TEXT`, says what would happen to a request, and does nothing.
- `model` in an answer is the name asked for, for `auto` that of the model chosen; with RESPONSE_MODEL_NAME=qualified it
  is `service~model`.
- Who has a model is known from the services' own lists. Before a request is refused they are read anew: ours if they
  are older than 5 s, the others' if older than 5 minutes. A silent service is not taken for one that has nothing.

## The examples' services
"""
PRIVACY = """\
A private request sees only services whose machines are ours (`local`), however often it is retried, replayed or handed
on, and ends in an error if none of them can serve it. What makes it private, any of:

- `x-arriero-private: true`, or `private: true` in the body. PRIVATE_BY_DEFAULT=true turns that round: then only
  `false` makes a request public.
- A word of PRIVACY_WORDS in any text of it: system prompt, turns, tools, their results, schemas, texts to embed. By
  default all requests are searched (PRIVACY_DETECTION=all), also while there is no service elsewhere: one may come
  while the job waits. A word says little, "patient" may be a virtue; but a refusal can be mended, and what has left
  cannot be called back. PRIVACY_DETECTION=auto searches only requests for the model `auto`, and takes a caller who
  names a model at its word. The search takes about 10 microseconds for a thousand characters.
- An earlier turn of the same conversation (`conversation_id`) that was private.

A request cannot say that its words are harmless: that is for the operator, by PRIVACY_WORDS. The words are a net with
wide meshes: images are not looked into, other languages and spellings are not known. Who must be sure says so in the
request, sets PRIVATE_BY_DEFAULT, or runs in airgap mode.
"""


def page() -> str:
    """The whole page."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield HEAD
    yield from _table(("service", "models", "default model"), (_service(place) for place in PLACES.values()))
    for title, rows in SECTIONS.items():
        yield f"\n## {title}\n"
        if title == "Privacy":
            yield PRIVACY
        yield from _table(("rule", "asked for", "goes to"), (_example(row) for row in rows))
    yield "\n## Reasons\n"
    yield from _table(("reason", "meaning"), ((f"`{reason}`", meaning) for reason, meaning in MEANINGS.items()))
    yield "\n## Who is asked for a task\n"
    yield from _table(("task", "models in order"), ((task, ", then ".join(roles)) for task, roles in ROLES.items()))
    yield "\nThe roles are OLLAMA_DEFAULT_MODEL, OLLAMA_FAST_MODEL, OLLAMA_CODE_MODEL, OLLAMA_TOOL_MODEL and"
    yield "OLLAMA_VISION_MODEL, looked for on machines of ours; `cloud` are the default models of the other services."
    yield "\n## Words\n\nWhole words, in any case; the settings replace them.\n"
    words = {"PRIVACY_WORDS": PRIVACY_WORDS, "CODE_WORDS": CODE_WORDS, "COMPLEX_WORDS": COMPLEX_WORDS}
    for setting, listed in words.items():
        yield f"- {setting}: {', '.join(f'`` {word} ``' if '`' in word else word for word in listed)}"


def _service(place: Place) -> tuple[str, ...]:
    where = "ours" if place.is_local else "elsewhere"
    models = ", ".join(sorted(model.removesuffix(":latest") for model in place.models))
    return f"{place.name} ({where})", models, place.default_model or "-"


def _example(row: Row) -> tuple[str, ...]:
    return row.rule, row.asks, outcome(row)


def _table(heads: Sequence[str], rows: Iterator[tuple[str, ...]]) -> Iterator[str]:
    yield f"| {' | '.join(heads)} |"
    yield "|" + "---|" * len(heads)
    for row in rows:
        yield f"| {' | '.join(row)} |"


def main(arguments: Sequence[str]) -> int:
    if "--check" in arguments:
        if PAGE.is_file() and PAGE.read_text(encoding="utf-8") == page():
            return 0
        print("docs/routing.md differs; `make routing` writes it anew", file=sys.stderr)
        return 1
    PAGE.write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
