"""`arriero mcp`: the queue as tools for an MCP client."""

from __future__ import annotations

from arriero.cli.connection import Url, gateway_url
from arriero.cli.failures import EXIT_CONFIG, CommandFailed
from arriero.cli.version import installed_version
from arriero.client import AsyncClient
from arriero.settings import StackSettings

MISSING = (
    "this command needs the MCP SDK: `pip install 'arriero[mcp]'`, in a checkout "
    "`.venv/bin/uv pip install --python .venv/bin/python --editable '.[mcp]'`"
)


def mcp(url: Url = "") -> None:
    """Serve chat, embed, jobs and models as MCP tools over standard input and output. The client starts this."""
    try:
        from arriero.mcp_server import build
    except ModuleNotFoundError as exc:
        if exc.name is None or exc.name.partition(".")[0] != "mcp":
            raise
        raise CommandFailed(MISSING, EXIT_CONFIG) from None
    settings = StackSettings()
    key = settings.arriero_api_key.get_secret_value()
    client = AsyncClient(gateway_url(settings, url), key or None, max_retries=1)
    build(client, version=installed_version("arriero"), default_model=settings.arriero_model).run("stdio")
