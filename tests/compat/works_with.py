"""The table in docs/works-with.md: which client does what through Arriero, each cell by the test that shows it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from tests.chaos.document import commit
from tests.compat.environment import LOCK as CLIENTS_LOCK
from tests.compat.node import OLLAMA_JS, OPENAI_NODE
from tests.house.requirements import ROOT

PAGE = ROOT / "docs" / "works-with.md"
TESTS_LOCK = ROOT / "tests" / "requirements.lock"
COLUMNS = ("chat", "stream", "embed", "tools", "error")
NOT_RUN = "not run"
WORDS = {"passed": "yes", "failed": "**no**", "skipped": NOT_RUN}
INTRODUCTION = """\
# Works with

Written by `make compat`, from tests that run these clients, with nothing changed but the address, against a real
gateway, worker and Redis before the simulated Ollama; do not edit. *error*: an unknown model arrives as the client's
own exception, with Arriero's words in it.

- Date: {date}
- Commit: {commit}

"""
NOTES = """
- **langchain-openai**: `OpenAIEmbeddings` needs `check_embedding_ctx_length=False`. Else it sends the numbers of
  tokens, which only OpenAI's own models understand; Arriero answers 400 and says so.
- **LiteLLM** imports the package `mcp` as soon as tools are passed, so that must be installed too.
  `LITELLM_LOCAL_MODEL_COST_MAP=True` keeps it from asking the internet for prices when it is imported.
- **llm** finds models in its file `extra-openai-models.yaml` (`api_base: http://localhost:8000/v1`,
  `supports_tools: true`); `OPENAI_API_KEY` must hold something. It embeds with OpenAI's own models or plugins only.
- **anthropic**: the API has no embeddings.
- What the Ollama clients' users should know besides: [the Ollama face](ollama-face.md).
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One client. `shown_by`: column -> the test in tests/compat that shows it; a column left out does not apply."""

    client: str
    version: str
    api: str
    shown_by: Mapping[str, str]


def locked(lock: Path, package: str) -> str:
    """The version of a package in a lock file. Raises ValueError when it is not there."""
    found = re.search(rf"^{re.escape(package)}==(\S+)", lock.read_text(encoding="utf-8"), re.MULTILINE)
    if found is None:
        raise ValueError(f"{lock.name} has no {package}: run `make lock`")
    return found[1]


def program(client: str, package: str, api: str, name: str, columns: tuple[str, ...] = COLUMNS) -> Row:
    """A client of tests/compat/clients; `name` is its name in test_python_clients.py."""
    tests = {column: f"test_python_clients.py::test_a_client[{name}-{column}]" for column in columns}
    return Row(client=client, version=locked(CLIENTS_LOCK, package), api=api, shown_by=tests)


def rows() -> list[Row]:
    return [
        Row(
            client="openai (Python)",
            version=locked(TESTS_LOCK, "openai"),
            api="OpenAI",
            shown_by={
                "chat": "test_openai_python.py::test_a_chat",
                "stream": "test_openai_python.py::test_a_streamed_chat_is_the_same_text_in_pieces",
                "embed": "test_openai_python.py::test_embeddings_are_the_same_numbers_in_both_encodings",
                "tools": "test_openai_python.py::test_a_tool_is_called_and_its_result_used",
                "error": "test_openai_python_errors.py::test_404_for_an_unknown_model_with_the_way_out",
            },
        ),
        Row(
            client="openai (JavaScript)",
            version=OPENAI_NODE,
            api="OpenAI",
            shown_by={
                "chat": "test_openai_node.py::test_openai_node[chat]",
                "stream": "test_openai_node.py::test_openai_node[stream]",
                "embed": "test_openai_node.py::test_openai_node[embeddings]",
                "tools": "test_openai_node.py::test_openai_node[tools]",
                "error": "test_openai_node.py::test_openai_node[errors]",
            },
        ),
        Row(
            client="ollama (Python)",
            version=locked(TESTS_LOCK, "ollama"),
            api="Ollama",
            shown_by={
                "chat": "test_ollama_python.py::test_a_chat",
                "stream": "test_ollama_python.py::test_a_streamed_chat_is_the_same_text_in_pieces",
                "embed": "test_ollama_python.py::test_embeddings",
                "tools": "test_ollama_python.py::test_a_tool_is_called_and_its_result_used[False]",
                "error": "test_ollama_python.py::test_refusals_arrive_as_the_library_s_own_error",
            },
        ),
        Row(
            client="ollama (JavaScript)",
            version=OLLAMA_JS,
            api="Ollama",
            shown_by={
                "chat": "test_ollama_node.py::test_ollama_js[chat]",
                "stream": "test_ollama_node.py::test_ollama_js[stream]",
                "embed": "test_ollama_node.py::test_ollama_js[embed]",
                "tools": "test_ollama_node.py::test_ollama_js[tools]",
                "error": "test_ollama_node.py::test_ollama_js[errors]",
            },
        ),
        Row(
            client="anthropic (Python)",
            version=locked(TESTS_LOCK, "anthropic"),
            api="Anthropic",
            shown_by={
                "chat": "test_anthropic_sdk.py::test_a_chat",
                "stream": "test_anthropic_sdk.py::test_a_stream",
                "tools": "test_anthropic_sdk.py::test_a_tool_is_called_and_its_result_used[False]",
                "error": "test_anthropic_sdk.py::test_refusals_arrive_as_the_librarys_own_errors",
            },
        ),
        program("langchain-openai", "langchain-openai", "OpenAI", "langchain-openai"),
        program("langchain-ollama", "langchain-ollama", "Ollama", "langchain-ollama"),
        program("LiteLLM, `openai/...`", "litellm", "OpenAI", "litellm-openai"),
        program("LiteLLM, `ollama_chat/...`", "litellm", "Ollama", "litellm-ollama"),
        program("llm (command)", "llm", "OpenAI", "llm", ("chat", "stream", "tools", "error")),
    ]


def table(outcomes: Mapping[str, str]) -> list[str]:
    """The table's lines. `outcomes`: how tests ended, by their id below tests/compat."""
    lines = [f"| client | version | API | {' | '.join(COLUMNS)} |", "|---|---|---|" + "---|" * len(COLUMNS)]
    for row in rows():
        ended = (
            outcomes.get(row.shown_by[column], "skipped") if column in row.shown_by else None for column in COLUMNS
        )
        cells = " | ".join("-" if outcome is None else WORDS[outcome] for outcome in ended)
        lines.append(f"| {row.client} | {row.version} | {row.api} | {cells} |")
    return lines


def page(outcomes: Mapping[str, str]) -> str:
    head = INTRODUCTION.format(date=datetime.now(UTC).strftime("%Y-%m-%d"), commit=commit())
    return head + "\n".join(table(outcomes)) + "\n" + NOTES
