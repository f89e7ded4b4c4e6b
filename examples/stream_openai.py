"""The OpenAI SDK with another address: an answer as it comes, and what it cost."""

import os

from openai import OpenAI

URL = os.environ.get("ARRIERO_URL", "http://127.0.0.1:8000")

with OpenAI(base_url=f"{URL}/v1", api_key="none") as client:
    stream = client.chat.completions.create(
        model="llama3.2",
        messages=[{"role": "user", "content": "Why do llamas hum?"}],
        stream=True,
        stream_options={"include_usage": True},
    )
    for chunk in stream:
        if chunk.choices:
            print(chunk.choices[0].delta.content or "", end="", flush=True)
        if chunk.usage:
            print(f"\n{chunk.usage.completion_tokens} tokens")

# Output:
# Simulated answer from llama3.2 to "Why do llamas hum". ...
# 39 tokens
