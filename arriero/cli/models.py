"""`arriero models`: what is installed, loaded and used on the model servers, and changes to it, through the manager."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer
from rich.markup import escape

from arriero.cli import model_tables
from arriero.cli.daemons import Daemon
from arriero.cli.failures import EXIT_DEGRADED, CommandFailed
from arriero.cli.following import failure, follow, title
from arriero.cli.output import Json, Yes, confirm, console, print_json
from shared.model_names import same
from shared.plurals import counted

app = typer.Typer(help="Models on the model servers, through the model manager.", no_args_is_help=True)

Url = Annotated[
    str, typer.Option("--url", help="Manager's address; default: ARRIERO_MANAGER_URL, else the running `arriero up`.")
]
Model = Annotated[str, typer.Argument(metavar="MODEL", help="A model's name, such as llama3.2 or qwen2.5:7b.")]
Host = Annotated[str, typer.Option("--host", help="One model server, host:port; default: all of them.")]
Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Stay until it is done, or print its id and go.")]
OperationId = Annotated[str, typer.Argument(metavar="OPERATION", help="An operation's id.")]


@app.command("list")
def list_(as_json: Json = False, url: Url = "") -> None:
    """All models: where they are installed and loaded, how much they are used, how well they serve."""
    with Daemon("manager", url) as manager:
        answer = manager.get("/models")
    if as_json:
        print_json(answer)
    else:
        model_tables.print_models(answer["models"], answer["hosts"])
    if any(host["error"] for host in answer["hosts"]):
        raise typer.Exit(EXIT_DEGRADED)


@app.command()
def show(name: Model, as_json: Json = False, url: Url = "") -> None:
    """One model: what it is, its places, its use by host and operation, and the parts of its score.

    Of one that is not installed, what an earlier `models search` found.
    """
    with Daemon("manager", url) as manager:
        found = [model for model in manager.get("/models")["models"] if same(model["name"]) == same(name)]
        about = manager.get("/models/about", name=name)
        if not found and about["found"]:
            print_json(about) if as_json else model_tables.print_found(about["found"])
            return
        if not found:
            raise CommandFailed(
                f"no host has {name}: `arriero models list` shows what there is, `models search` what there could be, "
                "`models pull` gets it"
            )
        usage = [entry for entry in manager.get("/models/usage")["models"] if same(entry["model"]) == same(name)]
        scores = [score for score in manager.get("/models/scores")["scores"] if same(score["model"]) == same(name)]
    score = scores[0] if scores else None
    if as_json:
        print_json({**found[0], **about, "usage": usage, "score_parts": score["parts"] if score else []})
    else:
        record = about["installed"][0] if about["installed"] else None
        model_tables.print_model(found[0], record, usage, score["parts"] if score else [])


@app.command()
def search(
    text: Annotated[str, typer.Argument(metavar="TEXT", help="Part of a name, such as qwen or embed.")],
    registry: Annotated[str, typer.Option("--registry", help="ollama or huggingface; default: both.")] = "",
    limit: Annotated[int, typer.Option("--limit", min=1, max=50, help="Most models of each registry.")] = 20,
    as_json: Json = False,
    url: Url = "",
) -> None:
    """Search Ollama's library and Hugging Face for models. Not in airgap mode."""
    wanted = {"registry": registry} if registry else {}
    with Daemon("manager", url) as manager:
        answer = manager.get("/models/search", text=text, limit=str(limit), **wanted)
    if as_json:
        print_json(answer)
    else:
        model_tables.print_search(answer)
    if answer["errors"]:
        raise typer.Exit(EXIT_DEGRADED)


@app.command()
def pull(name: Model, host: Host = "", wait: Wait = True, as_json: Json = False, url: Url = "") -> None:
    """Download a model, or bring it up to date, and show how far it is."""
    _order("pull", name, host, wait=wait, as_json=as_json, url=url)


@app.command("import")
def import_(
    name: Model,
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="A GGUF file, as its path below the manager's MODEL_IMPORT_DIR.")
    ],
    host: Host = "",
    wait: Wait = True,
    as_json: Json = False,
    url: Url = "",
) -> None:
    """Make a model of a weights file."""
    _order("import", name, host, file=file, wait=wait, as_json=as_json, url=url)


@app.command()
def load(name: Model, host: Host = "", wait: Wait = True, as_json: Json = False, url: Url = "") -> None:
    """Load an installed model into memory."""
    _order("load", name, host, wait=wait, as_json=as_json, url=url)


@app.command()
def unload(name: Model, host: Host = "", wait: Wait = True, as_json: Json = False, url: Url = "") -> None:
    """Take a model from memory. One that is pinned, or has jobs, stays."""
    _order("unload", name, host, wait=wait, as_json=as_json, url=url)


@app.command()
def preload(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[MODEL]...", help="Default: MODEL_PRELOAD_LIST.", show_default=False)
    ] = None,
    wait: Wait = True,
    as_json: Json = False,
    url: Url = "",
) -> None:
    """Load the preload list, or these models, on every host that has them installed."""
    with Daemon("manager", url) as manager:
        answer = manager.post("/models/preload", {"models": names} if names else {})
        done = follow(manager, answer["operations"]) if wait else answer["operations"]
    if as_json:
        print_json({"operations": done, "not_installed": answer["not_installed"]})
    else:
        for operation in done:
            model_tables.print_end(operation)
        for name in answer["not_installed"]:
            console().print(f"{escape(name)} is installed nowhere: arriero models pull {escape(name)}")
        if not done and not answer["not_installed"]:
            console().print("nothing to load: all are loaded, or MODEL_PRELOAD_LIST is empty")
    _fail_for(done)
    if answer["not_installed"]:
        raise typer.Exit(1)


@app.command()
def pin(name: Model, as_json: Json = False, url: Url = "") -> None:
    """Keep a model: it is neither unloaded nor cleaned up."""
    _pin(name, True, as_json, url)


@app.command()
def unpin(name: Model, as_json: Json = False, url: Url = "") -> None:
    """Let a pinned model go when nobody uses it."""
    _pin(name, False, as_json, url)


@app.command()
def cleanup(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be deleted, and why.")] = False,
    yes: Yes = False,
    as_json: Json = False,
    url: Url = "",
) -> None:
    """Delete installed models that nobody has used for MODEL_CLEANUP_AFTER. Shows the plan, then asks."""
    with Daemon("manager", url) as manager:
        plan = manager.post("/models/cleanup", {"dry_run": True})
        if not as_json:
            model_tables.print_plan(plan)
        if dry_run or not plan["remove"]:
            if as_json:
                print_json(plan)
            return
        confirm(f"Delete {counted(len(plan['remove']), 'model')} from disk?", yes)
        # The plan is made anew, so a model that came into use meanwhile stays.
        done = manager.post("/models/cleanup", {"dry_run": False})
        ended = follow(manager, [manager.get(f"/models/operations/{one}") for one in done["operations"]])
    if as_json:
        print_json({**done, "operations": ended})
    else:
        for operation in ended:
            model_tables.print_end(operation)
    _fail_for(ended)


@app.command()
def operations(as_json: Json = False, url: Url = "") -> None:
    """The latest operations on models, newest first."""
    with Daemon("manager", url) as manager:
        answer = manager.get("/models/operations")
    if as_json:
        print_json(answer)
        return
    model_tables.print_operations(answer["operations"])


@app.command()
def cancel(operation_id: OperationId, as_json: Json = False, url: Url = "") -> None:
    """Stop an operation. What a pull has downloaded is kept, and the next pull goes on from there."""
    with Daemon("manager", url) as manager:
        operation = manager.delete(f"/models/operations/{operation_id}")
    if as_json:
        print_json(operation)
    else:
        console().print(f"{escape(title(operation))}: {operation['status']}")


def _order(op: str, name: str, host: str, *, wait: bool, as_json: bool, url: str, file: str = "") -> None:
    order = {"model": name, "host": host, "file": file}
    with Daemon("manager", url) as manager:
        operation: Mapping[str, Any] = manager.post(
            f"/models/{op}", {field: value for field, value in order.items() if value}
        )
        if wait:
            (operation,) = follow(manager, [operation])
    if as_json:
        print_json(operation)
    else:
        model_tables.print_end(operation)
    _fail_for([operation])


def _pin(name: str, pinned: bool, as_json: bool, url: str) -> None:
    with Daemon("manager", url) as manager:
        answer = manager.post("/models/pin", {"model": name, "pinned": pinned})
    if as_json:
        print_json(answer)
    else:
        console().print(f"{escape(answer['model'])} is {'pinned' if answer['pinned'] else 'not pinned'}")


def _fail_for(operations: Sequence[Mapping[str, Any]]) -> None:
    """One that was only ordered has not failed."""
    if any(operation["finished_at"] and failure(operation) for operation in operations):
        raise typer.Exit(1)
