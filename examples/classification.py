"""The model `auto`: the gateway looks at each request and picks a model for its task.

OLLAMA_FAST_MODEL, OLLAMA_CODE_MODEL and so on say which; docs/routing.md has all the rules.
"""

import os

from openai import OpenAI

URL = os.environ.get("ARRIERO_URL", "http://127.0.0.1:8000")
PROMPTS = {
    "short": "Why do llamas hum?",
    "code": "Here is my list of llamas with their ages and colours and the mountains they come from. "
    "Please write a Python function that counts them by colour.",
    "private": "The patient is four years old and coughs.",
}

with OpenAI(base_url=f"{URL}/v1", api_key="none") as client:
    for name, prompt in PROMPTS.items():
        answer = client.chat.completions.with_raw_response.create(
            model="auto", messages=[{"role": "user", "content": prompt}]
        )
        print(f"{name}: {answer.headers['x-arriero-route']}")

# Output:
# short: ollama~llama3.2; reason=short
# code: ollama~qwen2.5; reason=code
# private: ollama~llama3.2; reason=private
