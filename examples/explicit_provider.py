"""Say which service is to answer, in three ways that mean the same, and see who did."""

import os

from openai import OpenAI

URL = os.environ.get("ARRIERO_URL", "http://127.0.0.1:8000")
QUESTION = [{"role": "user", "content": "Why do llamas hum?"}]

with OpenAI(base_url=f"{URL}/v1", api_key="none") as client:
    for model, more in (
        ("ollama~llama3.2", {}),
        ("llama3.2", {"extra_headers": {"x-arriero-provider": "ollama"}}),
        ("llama3.2", {"extra_body": {"provider": "ollama"}}),
        # Nothing said: the default service, or whichever has it.
        ("llama3.2", {}),
    ):
        answer = client.chat.completions.with_raw_response.create(model=model, messages=QUESTION, **more)
        print(model, more or "", "->", answer.headers["x-arriero-route"])

# Output:
# ollama~llama3.2  -> ollama~llama3.2; reason=named
# llama3.2 {'extra_headers': {'x-arriero-provider': 'ollama'}} -> ollama~llama3.2; reason=named
# llama3.2 {'extra_body': {'provider': 'ollama'}} -> ollama~llama3.2; reason=named
# llama3.2  -> ollama~llama3.2; reason=default
