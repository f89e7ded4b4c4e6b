"""Is everything well, and what can be asked?"""

import os

import httpx

URL = os.environ.get("ARRIERO_URL", "http://127.0.0.1:8000")

with httpx.Client(base_url=URL, timeout=10) as http:
    health = http.get("/health").json()
    print("overall:", health["status"])
    for part, state in sorted(health["services"].items()):
        print(f"  {part}: {state}")
    models = [model["id"] for model in http.get("/v1/models").json()["data"]]
    print("models:", ", ".join(sorted(models)))

# Output:
# overall: healthy
#   ollama: healthy
#   queue: healthy
#   redis: healthy
# models: llama3.2:latest, ...
