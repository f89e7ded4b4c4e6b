"""`arriero keys`: API keys, straight in Redis, so that the first one can be made before the gateway runs."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from arriero.cli.failures import CommandFailed
from arriero.cli.output import Json, Yes, clock, confirm, console, print_json, print_table

if TYPE_CHECKING:
    from shared.api_keys import ApiKey

ROLES = ("inference", "operator", "admin")
app = typer.Typer(help="API keys. A key belongs to a tenant and has a role.", no_args_is_help=True)


@app.command()
def create(
    tenant: Annotated[str, typer.Option(help="Whose jobs the key makes and sees.")],
    role: Annotated[str, typer.Option(help="inference, operator or admin.")] = "inference",
    name: Annotated[str, typer.Option(help="What the key is for.")] = "",
    expires_in_days: Annotated[float, typer.Option(min=0, help="0: never.")] = 0.0,
    as_json: Json = False,
) -> None:
    """Make a key and show it, once."""
    _check_role(role)
    from arriero.cli import redis_access
    from shared.api_keys import Role, as_key_store, create_key

    expires_in_s = expires_in_days * 86400 if expires_in_days else None

    async def make() -> tuple[str, ApiKey]:
        async with redis_access.queue() as queue:
            return await create_key(
                as_key_store(queue.redis),
                queue.keys.shard,
                tenant=tenant,
                role=Role(role),
                name=name,
                expires_in_s=expires_in_s,
            )

    try:
        text, key = asyncio.run(make())
    except ValueError as exc:
        raise typer.BadParameter(str(exc)) from exc
    if as_json:
        print_json({"key": text, **_public(key)})
        return
    console().print(
        f"{text}\n\nKey {key.id} of tenant {key.tenant}, role {key.role}. It is shown only now: keep it safe."
    )
    console().print("Use it: export ARRIERO_API_KEY=<key>   or the header   Authorization: Bearer <key>")


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, readable=True, help="Holds the key's text.")],
    tenant: Annotated[str, typer.Option(help="Whose jobs the key makes and sees.")],
    role: Annotated[str, typer.Option(help="inference, operator or admin.")] = "inference",
    name: Annotated[str, typer.Option(help="What the key is for.")] = "",
    as_json: Json = False,
) -> None:
    """Store a key that was made elsewhere, such as in a secret file. Again: no other outcome."""
    _check_role(role)
    from arriero.cli import redis_access
    from shared.api_keys import Role, as_key_store, import_key

    text = file.read_text(encoding="utf-8").strip()

    async def store() -> ApiKey:
        async with redis_access.queue() as queue:
            return await import_key(
                as_key_store(queue.redis), queue.keys.shard, text, tenant=tenant, role=Role(role), name=name
            )

    try:
        key = asyncio.run(store())
    except ValueError as exc:
        raise typer.BadParameter(str(exc)) from exc
    if as_json:
        print_json(_public(key))
        return
    console().print(f"key {key.id} of tenant {key.tenant}, role {key.role}, is stored")


@app.command("list")
def list_(as_json: Json = False) -> None:
    """All keys, without their secrets."""
    from arriero.cli import redis_access
    from shared.api_keys import as_key_store, list_keys

    async def read() -> list[ApiKey]:
        async with redis_access.queue() as queue:
            return await list_keys(as_key_store(queue.redis), queue.keys.shard)

    keys = asyncio.run(read())
    if as_json:
        print_json([_public(key) for key in keys])
        return
    rows = [
        (key.id, escape(key.tenant), key.role, escape(key.name), clock(key.created_at), clock(key.expires_at or 0))
        for key in keys
    ]
    print_table(("key", "tenant", "role", "name", "created", "expires"), rows)
    if not keys:
        console().print("no keys: the gateway serves this machine only, as one tenant")


@app.command()
def revoke(key_id: Annotated[str, typer.Argument(metavar="KEY", help="The key's id.")], yes: Yes = False) -> None:
    """Remove a key. Gateways refuse it within 2 seconds."""
    from arriero.cli import redis_access
    from shared.api_keys import as_key_store, revoke_key

    confirm(f"Revoke key {key_id}? Who uses it is locked out.", yes)

    async def remove() -> bool:
        async with redis_access.queue() as queue:
            return await revoke_key(as_key_store(queue.redis), queue.keys.shard, key_id)

    if not asyncio.run(remove()):
        raise CommandFailed(f"there is no key {key_id}: `arriero keys list` shows them")
    console().print(f"key {key_id} is revoked")


def _check_role(role: str) -> None:
    if role not in ROLES:
        raise typer.BadParameter("expected inference, operator or admin", param_hint="--role")


def _public(key: ApiKey) -> dict[str, object]:
    return {
        "id": key.id,
        "tenant": key.tenant,
        "role": str(key.role),
        "name": key.name,
        "created_at": key.created_at,
        "expires_at": key.expires_at,
    }
