"""`arriero embed`: vectors for texts."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from arriero.cli.connection import Url, client, embedding_model
from arriero.cli.output import Json, print_json, print_table


def embed(
    texts: Annotated[list[str], typer.Argument(help="Texts; a single - reads one a line from standard input.")],
    model: Annotated[str, typer.Option("--model", "-m", help="Default: the first embedding model installed.")] = "",
    as_json: Json = False,
    url: Url = "",
) -> None:
    """Turn texts into vectors, through the queue. --json prints them whole."""
    inputs = [line.rstrip("\n") for line in sys.stdin if line.strip()] if texts == ["-"] else texts
    if not inputs:
        raise typer.BadParameter("there is no text", param_hint="TEXTS")
    with client(url) as connected:
        job = connected.embed(inputs, embedding_model(connected, model))
    if as_json:
        print_json(job.result)
        return
    rows = [
        (
            text if len(text) <= 40 else text[:39] + "…",
            str(len(vector)),
            " ".join(f"{x:+.4f}" for x in vector[:5]) + " ...",
        )
        for text, vector in zip(inputs, job.vectors, strict=True)
    ]
    print_table(("text", "dimensions", "vector"), rows, title=job.model)
