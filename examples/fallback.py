"""Who answered instead, when a model or a service failed. The program does nothing for it; it only looks.

With FALLBACK_MODELS=llama3.2 another model stands in; with a second service and ENABLE_FALLBACK, another service.
"""

import os

from openai import OpenAI

URL = os.environ.get("ARRIERO_URL", "http://127.0.0.1:8000")

with OpenAI(base_url=f"{URL}/v1", api_key="none", max_retries=0) as client:
    answer = client.chat.completions.with_raw_response.create(
        model="mistral", messages=[{"role": "user", "content": "Why do llamas hum?"}]
    )
    print("answered by:", answer.headers["x-arriero-model"])
    print("instead of: ", answer.headers.get("x-arriero-fallback", "nobody"))
    print("attempts:   ", answer.headers["x-arriero-attempts"])
    job = client.get(f"/jobs/{answer.headers['x-arriero-job-id']}", cast_to=dict)
    for attempt in job["attempts"]:
        print(f"  {attempt['number']}. {attempt['model']}: {attempt['outcome']}")

# Output, while mistral is broken:
# answered by: llama3.2
# instead of:  mistral->llama3.2
# attempts:    2
#   1. mistral: retried
#   2. llama3.2: succeeded
