"""The faces about services and models need no right at Redis that the shipped ACL file does not give."""

from __future__ import annotations

from pydantic import SecretStr

from infra.simulator import running
from tests.gateway.conftest import StartGateway
from tests.house.guarded_redis import PASSWORD, USER, guarded_redis, refused


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
