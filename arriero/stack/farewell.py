"""What `arriero up` says once all runs: where things are, and what to try next. Pure."""

from __future__ import annotations

import json

from arriero.stack.runfile import RunFile


def lines(run: RunFile, model: str, command: str, total_s: float, *, needs_key: bool = False) -> list[str]:
    url = run.gateway_url
    body = json.dumps(
        {"model": model or "llama3.2", "stream": True, "messages": [{"role": "user", "content": "Hello"}]}
    )
    workers = {name: pid for name, pid in run.pids.items() if name.startswith("worker")}
    first = next(iter(workers.values()), 0)
    header = ' -H "authorization: Bearer $ARRIERO_API_KEY"' if needs_key else ""
    key = 'os.environ["ARRIERO_API_KEY"]' if needs_key else '"none-needed-here"'
    return [
        "",
        f"Arriero is up after {total_s:.1f} s. Gateway: {url}   API: {url}/docs",
        "  the same again:   "
        f"curl -N {url}/v1/chat/completions{header} -H 'content-type: application/json' -d '{body}'",
        f'  OpenAI client:    OpenAI(base_url="{url}/v1", api_key={key})',
        f'  other terminal:   {command} chat "Tell me a long story"   {command} queue stats   {command} jobs list',
        f"  lose a worker:    kill -9 {first} in the middle of an answer; the job goes on elsewhere   (workers: "
        + ", ".join(f"{name} pid {pid}" for name, pid in workers.items())
        + ")",
        "  stop:             Ctrl-C",
        "",
    ]
