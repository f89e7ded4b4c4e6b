"""Airgap mode (AIRGAP_MODE=true): which services are left, and a request that must stay on our machines anyway."""

import os

import httpx

URL = os.environ.get("ARRIERO_URL", "http://127.0.0.1:8000")

with httpx.Client(base_url=URL, timeout=60) as http:
    known = http.get("/llm/services").json()
    for service in known["services"]:
        print(service["name"], "is on", "and ours" if service["local"] else "and elsewhere")
    for service in known["off"]:
        print(service["name"], "is off:", service["reason"])
    # Also where there is a cloud: with this header no try, no retry and no stand-in leaves machines of ours.
    answer = http.post(
        "/v1/chat/completions",
        json={"model": "auto", "messages": [{"role": "user", "content": "Compare these two diagnoses"}]},
        headers={"x-arriero-private": "true"},
    )
    print(answer.status_code, answer.headers["x-arriero-route"])

# Output, with AIRGAP_MODE=true and an OpenRouter key:
# ollama is on and ours
# openrouter is off: ...
# 200 ollama~llama3.2; reason=private
