"""`arriero bench model`: how fast models load and answer, through the queue or straight at their hosts."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Annotated

import typer
from rich.markup import escape

from arriero.benchmark import Figures, Spread, figures
from arriero.cli.bench_targets import GatewayTarget, HostTarget, Target
from arriero.cli.connection import Url, gateway_url
from arriero.cli.output import Json, counting, print_json, print_table
from arriero.settings import StackSettings
from shared.services.settings import NO_OLLAMA
from shared.settings import BaseServiceSettings

PROMPT = "Tell me about mule trains in the Andes, in five paragraphs."

app = typer.Typer(help="Measure.", no_args_is_help=True)


# Without it `bench` would be the command itself, as long as it has only one.
@app.callback()
def bench() -> None:
    pass


@app.command()
def model(
    names: Annotated[list[str], typer.Argument(metavar="MODEL...", help="Which models.")],
    direct: Annotated[bool, typer.Option("--direct", help="Not through the queue: straight at the hosts.")] = False,
    host: Annotated[
        list[str] | None, typer.Option(help="A host's address, with --direct. Default: those of OLLAMA_BASE_URLS.")
    ] = None,
    runs: Annotated[int, typer.Option(min=1, help="Calls after a first one, which loads the model.")] = 5,
    tokens: Annotated[int, typer.Option(min=2, help="Longest answer in tokens.")] = 128,
    prompt: Annotated[str, typer.Option(help="What to ask.")] = PROMPT,
    cold: Annotated[bool, typer.Option("--cold", help="Take each model out of memory first.")] = False,
    as_json: Json = False,
    url: Url = "",
) -> None:
    """Load time, time to the first token and tokens a second of models, by host: medians, in brackets least and most.

    "load" is of the first call: a few hundredths of a second mean that the model was in memory already.
    """
    if host and not direct:
        raise typer.BadParameter("a worker chooses the host; with --direct you do", param_hint="--host")
    settings = StackSettings()
    targets: list[Target] = []
    if direct:
        hosts = host or BaseServiceSettings().ollama_hosts
        if not hosts:
            raise typer.BadParameter(f"{NO_OLLAMA}; name one", param_hint="--host")
        targets += [HostTarget(one) for one in hosts]
    else:
        targets.append(GatewayTarget(gateway_url(settings, url), settings.arriero_api_key.get_secret_value()))
    with contextlib.ExitStack() as ending, counting("asking") as progress:
        for target in targets:
            ending.callback(target.close)
        found = _measure(targets, names, runs + 1, tokens, prompt, cold, progress)
    if as_json:
        print_json({"through": "direct" if direct else "gateway", "results": [asdict(one) for one in found]})
    else:
        _print(found)


def _measure(
    targets: Sequence[Target],
    names: Sequence[str],
    calls: int,
    tokens: int,
    prompt: str,
    cold: bool,
    progress: Callable[[int, int], None],
) -> list[Figures]:
    found: list[Figures] = []
    done, total = 0, len(targets) * len(names) * calls
    for target in targets:
        for name in names:
            if cold:
                target.unload(name)
            samples = []
            for _ in range(calls):
                # No two prompts begin alike: a server that has read the beginning before would be done sooner.
                samples.append(target.ask(name, f"({time.time_ns()}) {prompt}", tokens))
                progress(done := done + 1, total)
            found += figures(name, samples)
    return found


def _print(found: Sequence[Figures]) -> None:
    rows = [
        (
            escape(one.model),
            escape(one.host),
            str(one.calls),
            f"{one.load_s:.2f} s",
            _spread(one.first_token_s, "{:.3f} s"),
            _spread(one.tokens_per_s, "{:.1f}"),
            _spread(one.prompt_tokens_per_s, "{:.0f}"),
            _spread(one.queue_s, "{:.3f} s"),
        )
        for one in found
    ]
    print_table(("model", "host", "calls", "load", "first token", "tokens/s", "prompt tokens/s", "waited"), rows)


def _spread(spread: Spread | None, form: str) -> str:
    if spread is None:
        return "-"
    median, least, most = (form.format(value) for value in (spread.median, spread.least, spread.most))
    return f"{median} ({least.removesuffix(' s')}..{most.removesuffix(' s')})"
