"""The command `llm`, told of the gateway by the file that its documentation names.

It embeds with OpenAI's own models or with plugins, so there is nothing to check.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.compat.clients import checks

LIMIT_S = 30.0
PROMPT = [sys.executable, "-m", "llm", "prompt", "-m"]
# Long enough that whoever reads the pipe sees it come in pieces, on a busy machine too.
LONG_QUESTION = f"{checks.QUESTION} [tokens=200]"
GET_WEATHER = f'''
def get_weather(city: str) -> str:
    """Current weather at a place"""
    return "{checks.WEATHER}"
'''
MODELS = [
    {
        "model_id": f"arriero-{model}",
        "model_name": model,
        "api_base": f"{checks.gateway_url()}/v1",
        "supports_tools": True,
    }
    for model in (checks.CHAT_MODEL, checks.UNKNOWN_MODEL)
]


class Command:
    """`llm prompt` with its configuration in a folder of our own."""

    def __init__(self, folder: Path) -> None:
        # JSON is YAML.
        (folder / "extra-openai-models.yaml").write_text(json.dumps(MODELS), encoding="utf-8")
        self._environment = {**os.environ, "LLM_USER_PATH": str(folder), "OPENAI_API_KEY": "none"}

    def says(self, question: str, *options: str, model: str = checks.CHAT_MODEL) -> str:
        """All that it prints. Raises RuntimeError with its complaint when it fails."""
        command = [*PROMPT, f"arriero-{model}", "--no-stream", *options, question]
        done = subprocess.run(command, env=self._environment, capture_output=True, text=True, timeout=LIMIT_S)
        if done.returncode != 0:
            raise RuntimeError(done.stderr.strip())
        return done.stdout

    def pieces(self, question: str) -> Iterator[str]:
        """What it prints, as it comes."""
        command = [*PROMPT, f"arriero-{checks.CHAT_MODEL}", question]
        with subprocess.Popen(command, env=self._environment, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            while piece := os.read(process.stdout.fileno(), 65536):
                yield piece.decode(errors="replace")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        llm = Command(Path(temporary))
        checks.run(
            {
                "chat": lambda: checks.answers_the_question(llm.says(checks.QUESTION)),
                "stream": lambda: checks.streamed(list(llm.pieces(LONG_QUESTION))),
                "tools": lambda: checks.used_the_weather(llm.says(checks.WEATHER_QUESTION, "--functions", GET_WEATHER)),
                "error": lambda: checks.refusal(lambda: llm.says(checks.QUESTION, model=checks.UNKNOWN_MODEL)),
            }
        )
