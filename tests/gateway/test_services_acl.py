"""No face needs a right at Redis that the shipped ACL file does not give."""

from __future__ import annotations

import json
from typing import Any

from pydantic import SecretStr

from infra.simulator import running
from tests.gateway.conftest import CHAT, HandWorker, StartGateway, working
from tests.house.guarded_redis import PASSWORD, USER, guarded_redis, refused

LINE = json.dumps({"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": CHAT}).encode()


async def test_under_the_shipped_acl(start_gateway: StartGateway) -> None:
    with guarded_redis() as (redis, admin):
        async with running(models="llama3.2", load_seconds=0) as server:
            served = await start_gateway(
                redis_url=redis.url,
                redis_username=USER,
                redis_password=SecretStr(PASSWORD),
                ollama_base_urls=[server.url],
                allow_service_registration=True,
            )
            lab = {"name": "lab", "api_format": "openai", "urls": [f"{server.url}/v1"], "local": True}
            load = {"type": "load", "params": {"model_name": "llama3.2"}}
            for method, path, body in (
                ("POST", "/v1/providers", lab),
                ("PUT", "/v1/providers/default", {"name": "lab"}),
                ("GET", "/v1/providers", None),
                ("GET", "/llm/models", None),
                ("POST", "/jobs", load),
                ("GET", "/jobs", None),
                ("GET", "/llm/models/ollama~llama3.2", None),
                ("DELETE", "/v1/providers/lab", None),
            ):
                answer = await served.http.request(method, path, json=body)
                assert answer.status_code < 300, f"{method} {path}: {answer.text}"
            await served.gateway.stop()
        assert refused(admin) == []


async def test_conversations_cached_answers_and_batches_under_the_shipped_acl(start_gateway: StartGateway) -> None:
    with guarded_redis() as (redis, admin):
        rights: dict[str, Any] = {"redis_username": USER, "redis_password": SecretStr(PASSWORD)}
        served = await start_gateway(redis_url=redis.url, **rights)
        async with working(HandWorker(redis.url, **rights)):
            talk = {"message": "hi", "conversation_id": "c"}
            for _ in range(2):
                assert (await served.http.post("/chat", json=talk)).json()["remembered"]
            assert (await served.chat({"x-arriero-cache": "use"})).headers["x-cache"] == "miss"
            sent = {"file": ("in.jsonl", LINE)}
            file = (await served.http.post("/v1/files", files=sent, data={"purpose": "batch"})).json()["id"]
            body = {"input_file_id": file, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
            batch = (await served.http.post("/v1/batches", json=body)).json()["id"]
            for method, path in (
                ("GET", f"/v1/batches/{batch}"),
                ("POST", f"/v1/batches/{batch}/cancel"),
                ("GET", "/v1/batches"),
                ("GET", "/v1/files"),
                ("GET", f"/v1/files/{file}/content"),
                ("DELETE", f"/v1/files/{file}"),
            ):
                answer = await served.http.request(method, path)
                assert answer.status_code == 200, f"{method} {path}: {answer.text}"
        await served.gateway.stop()
        assert refused(admin) == []
