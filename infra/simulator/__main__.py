"""Command line: `python -m infra.simulator`."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import sys

from infra.simulator.app import listening
from infra.simulator.durations import parse_go_duration_s
from infra.simulator.settings import SimulatorSettings

DEFAULTS = SimulatorSettings()

EPILOG = """\
prompts
  [tokens=500]                        anywhere in a prompt: the answer has that many tokens (40 to 60 otherwise)
  a tool's name in the prompt         a tool call, when the request offers that tool; a word of its description will do

admin face
  GET, DELETE /_sim/calls             what reached the server: calls, loads, unloads
                                      (?event= ?path= ?model= ?request_id= narrow it)
  POST, GET, DELETE /_sim/faults      {"kind": "status", "status": 503, "count": 3, "match": {"path": "/api/chat"}}
  POST /_sim/reset                    empty log, no faults, nothing loaded, the models it started with

faults (also for one request alone, by the header  x-sim-fault: {"kind": "cut", "after_tokens": 5})
  kind            status, refuse (reset without a byte), hang, drip (slow pieces), cut (broken off in mid-line),
                  garbage, no_done (ends cleanly without done:true)
  probability     0 to 1;  count: hits until it is gone, null for ever
  match           model; path: wildcards allowed, none is every inference call, "*" everything,
                  "load" the loading of a model
  status, body, retry_after           of a status answer
  after_tokens    where in an answer it strikes; status and hang strike before the first byte unless it is set
  delay_seconds   how long a hang lasts, the gap of a drip, or a delay before any other kind
  variant         of garbage: truncated_json, html, nul, huge_line (size_bytes), error_line, split_utf8, duplicate_done,
                  embedding_count, embedding_dimension, embedding_nan

models
  What a model can do follows from its name: nomic-embed-text embeds, llava sees, qwen3 thinks, llama2 knows no tools.
"""


def parse(argv: list[str]) -> SimulatorSettings:
    """Settings from arguments; ends the process, as argparse does, when they are wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m infra.simulator",
        description="A stand-in for Ollama. It computes nothing and says so; times and errors are like the real one's.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_arguments(parser)
    values = vars(parser.parse_args(argv))
    values["keep_alive_seconds"] = values.pop("keep_alive")
    values["load_owner_aborts"] = values["load_owner_aborts"] == "on"
    try:
        return SimulatorSettings(**values)
    except ValueError as exc:
        parser.error(str(exc))


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    d = DEFAULTS
    add = parser.add_argument
    add("--host", default=d.host, help="address to listen on (%(default)s)")
    add("--port", type=int, default=d.port, help="port; 0 for any free one (%(default)s)")
    add("--models", type=_names, default=d.models, help=f"installed models, comma-separated ({','.join(d.models)})")
    add("--registry", type=_names, default=(), help="more names that can be pulled, besides well-known ones and slow-*")
    add("--load-seconds", type=float, default=d.load_seconds, help="to load a model, in whole poll steps (%(default)s)")
    add("--ready-poll-seconds", type=float, default=d.ready_poll_seconds, help="poll step of a load (%(default)s)")
    add(
        "--tokens-per-second", type=float, default=d.tokens_per_second, help="per stream; 0 for unlimited (%(default)s)"
    )
    add("--first-token-seconds", type=float, default=d.first_token_seconds, help="to read the prompt (%(default)s)")
    add("--embedding-seconds", type=float, default=None, help="per input (a tenth of --first-token-seconds)")
    add("--jitter", type=float, default=d.jitter, help="of the gaps between tokens, 0 to 1 (%(default)s)")
    add(
        "--slowdown",
        type=float,
        default=d.slowdown,
        help="k busy slots: speed / (1 + slowdown * (k - 1)) (%(default)s)",
    )
    add("--parallel", type=int, default=d.parallel, help="slots per model; embedding models have 1 (%(default)s)")
    add("--max-loaded-models", type=int, default=d.max_loaded_models, help="models in memory (%(default)s)")
    add("--max-queue", type=int, default=d.max_queue, help="requests that may wait for a load (%(default)s)")
    add(
        "--keep-alive",
        type=_keep_alive,
        default=d.keep_alive_seconds,
        help="idle time before an unload, as 5m or 300 (5m)",
    )
    add("--context-length", type=int, default=d.context_length, help="num_ctx when a request names none (%(default)s)")
    add("--embedding-dimensions", type=int, default=0, help="0 for what each model is known for (%(default)s)")
    add(
        "--pull-seconds",
        type=float,
        default=d.pull_seconds,
        help="for a download; ten times that for slow-* (%(default)s)",
    )
    add("--tool-call-placement", choices=["chunk", "final", "by-model"], default=d.tool_call_placement,
        help="tool calls in a chunk of their own or in the last; by-model: last for mistral (%(default)s)")  # fmt: skip
    add("--load-owner-aborts", choices=["on", "off"], default="on",
        help="a load dies, for all, with the connection that began it (%(default)s)")  # fmt: skip
    add("--call-log-size", type=int, default=d.call_log_size, help="lines kept for /_sim/calls (%(default)s)")
    add("--seed", type=int, default=d.seed, help="of texts and of the faults' dice (%(default)s)")


def _names(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _keep_alive(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        try:
            return parse_go_duration_s(text)
        except ValueError as exc:
            raise argparse.ArgumentTypeError(str(exc)) from None


async def serve(settings: SimulatorSettings) -> None:
    """Until SIGINT or SIGTERM."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    async with listening(settings) as simulator:
        print(f"simulator listening on {simulator.url}", flush=True)
        await stopped.wait()


def main() -> int:
    settings = parse(sys.argv[1:])
    try:
        with contextlib.suppress(KeyboardInterrupt):
            _run(settings)
    except OSError as exc:
        print(
            f"cannot listen on {settings.host}:{settings.port}: {exc.strerror or exc}. Try --port 0.", file=sys.stderr
        )
        return 1
    return 0


def _run(settings: SimulatorSettings) -> None:
    try:
        import uvloop
    except ImportError:
        asyncio.run(serve(settings))
    else:
        uvloop.run(serve(settings))


if __name__ == "__main__":
    sys.exit(main())
