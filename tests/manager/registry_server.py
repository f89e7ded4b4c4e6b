"""Two registries on one port, scripted: Hugging Face's list of models and Ollama's search page."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

CARD = """
<li x-test-model class="flex">
  <a href="{href}" class="group w-full">
    <div title="{name}"><h2><span x-test-search-response-title>{name}</span></h2>
      <p class="max-w-lg">A model that <b>hums</b> &amp; walks.</p></div>
    <div><span x-test-capability class="c">tools</span><span x-test-size>1b</span><span x-test-size>3b</span></div>
    <p><span><svg><path d="M0"/></svg><span x-test-pull-count>11.3M</span><span>&nbsp;Pulls</span></span>
       <span x-test-tag-count>63</span><span x-test-updated>1 week ago</span></p>
  </a>
</li>"""


def search_page(*hrefs: str) -> str:
    cards = "".join(CARD.format(href=href, name=href.rpartition("/")[2]) for href in hrefs)
    return f"<!doctype html><html><body><nav><a href='/library'>All</a></nav><ul>{cards}</ul></body></html>"


@dataclass(slots=True)
class RegistryServer:
    """What it will answer, and what it was asked."""

    url: str = ""
    asked: list[str] = field(default_factory=list)
    models: object = field(
        default_factory=lambda: [
            {
                "_id": "1", "id": "bartowski/Llama-3.2-1B-Instruct-GGUF", "likes": 120, "trendingScore": 7,
                "downloads": 250_000, "tags": ["gguf", "text-generation", "license:llama3.2"],
                "createdAt": "2024-09-25T18:21:00.000Z", "lastModified": "2024-10-08T18:21:00.000Z", "private": False,
            },
            {"id": "someone/quiet-7b-GGUF"},
        ]
    )  # fmt: skip
    page: str = field(default_factory=lambda: search_page("/library/llama3.2", "/mario/llama-tuned"))
    status: int = 200

    async def list_models(self, request: web.Request) -> web.Response:
        self.asked.append(f"huggingface {request.query['search']}")
        return web.json_response(self.models, status=self.status)

    async def search(self, request: web.Request) -> web.Response:
        self.asked.append(f"ollama {request.query['q']}")
        return web.Response(text=self.page, content_type="text/html", status=self.status)


@asynccontextmanager
async def registry_server() -> AsyncIterator[RegistryServer]:
    server = RegistryServer()
    app = web.Application()
    app.router.add_get("/api/models", server.list_models)
    app.router.add_get("/search", server.search)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield server
    finally:
        await runner.cleanup()
