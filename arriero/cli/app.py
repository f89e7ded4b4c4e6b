"""All commands, put together."""

from __future__ import annotations

import typer

from arriero.cli import (
    bench,
    chat,
    circuits,
    config,
    dlq,
    doctor,
    embed,
    health,
    jobs,
    keys,
    mcp,
    models,
    monitor,
    queue,
    route,
    top,
    up,
    version,
)

app = typer.Typer(
    name="arriero",
    help="A durable queue between your services and the machines that run their language models.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("up")(up.up)
app.command("chat")(chat.chat)
app.command("embed")(embed.embed)
app.command("route")(route.route)
app.add_typer(jobs.app, name="jobs")
app.add_typer(queue.app, name="queue")
app.add_typer(circuits.app, name="circuits")
app.add_typer(dlq.app, name="dlq")
app.add_typer(models.app, name="models")
app.add_typer(monitor.app, name="monitor")
app.add_typer(bench.app, name="bench")
app.command("top")(top.top)
app.command("health")(health.health)
app.command("doctor")(doctor.doctor)
app.add_typer(config.app, name="config")
app.add_typer(keys.app, name="keys")
app.command("mcp")(mcp.mcp)
app.command("version")(version.version)
