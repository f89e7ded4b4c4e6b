"""What one aiohttp process does without Arriero: the yardsticks for the gateway's own cost.

Runs in the arq peer's environment.

    proxy   passes chats on to the upstream, streams included
    parse   parses `POST /v1/jobs` and accepts it, keeping nothing
    arq     parses `POST /v1/jobs` and enqueues it with stock arq
"""

from __future__ import annotations

import argparse
import uuid
from collections.abc import AsyncIterator

import aiohttp
import msgspec
import uvloop
from aiohttp import web
from arq.connections import ArqRedis, RedisSettings, create_pool

_UPSTREAM = web.AppKey("upstream", str)
_SESSION = web.AppKey("session", aiohttp.ClientSession)
_POOL = web.AppKey("pool", ArqRedis)
_REDIS = web.AppKey("redis", str)


async def proxy(request: web.Request) -> web.StreamResponse:
    body = await request.read()
    headers = {"content-type": "application/json"}
    async with request.app[_SESSION].post(request.app[_UPSTREAM] + request.path, data=body, headers=headers) as answer:
        if "content-length" in answer.headers:
            return web.Response(body=await answer.read(), status=answer.status, content_type=answer.content_type)
        response = web.StreamResponse(status=answer.status, headers={"content-type": answer.headers["content-type"]})
        await response.prepare(request)
        async for chunk in answer.content.iter_any():
            await response.write(chunk)
        return response


async def parse(request: web.Request) -> web.Response:
    msgspec.json.decode(await request.read())
    return _accepted(uuid.uuid4().hex)


async def enqueue(request: web.Request) -> web.Response:
    job = await request.app[_POOL].enqueue_job("noop", msgspec.json.decode(await request.read()))
    assert job is not None
    return _accepted(job.job_id)


def _accepted(job_id: str) -> web.Response:
    body = msgspec.json.encode({"id": job_id, "state": "queued"})
    headers = {"location": f"/v1/jobs/{job_id}"}
    return web.Response(body=body, status=202, content_type="application/json", headers=headers)


async def _session(app: web.Application) -> AsyncIterator[None]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as app[_SESSION]:
        yield


async def _pool(app: web.Application) -> AsyncIterator[None]:
    app[_POOL] = await create_pool(
        RedisSettings.from_dsn(app[_REDIS]),
        job_serializer=msgspec.msgpack.encode,
        job_deserializer=msgspec.msgpack.decode,
    )
    yield
    await app[_POOL].aclose()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("manner", choices=("proxy", "parse", "arq"))
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--upstream", required=True)
    parser.add_argument("--redis", required=True)
    given = parser.parse_args()
    app = web.Application()
    app[_UPSTREAM], app[_REDIS] = given.upstream, given.redis
    if given.manner == "proxy":
        app.cleanup_ctx.append(_session)
        app.router.add_post("/v1/chat/completions", proxy)
    elif given.manner == "arq":
        app.cleanup_ctx.append(_pool)
        app.router.add_post("/v1/jobs", enqueue)
    else:
        app.router.add_post("/v1/jobs", parse)
    web.run_app(app, host="127.0.0.1", port=given.port, access_log=None, print=None, loop=uvloop.new_event_loop())


if __name__ == "__main__":
    main()
