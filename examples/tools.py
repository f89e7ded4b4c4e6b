"""Let the model call a function, give it the result, print what it makes of that."""

import json
import os

from openai import OpenAI

URL = os.environ.get("ARRIERO_URL", "http://127.0.0.1:8000")
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "Current weather at a place",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        },
    }
]


def get_weather(city: str) -> str:
    return "19 degrees and fog"


with OpenAI(base_url=f"{URL}/v1", api_key="none") as client:
    messages = [{"role": "user", "content": "Ask get_weather about Lima"}]
    asked = client.chat.completions.create(model="llama3.2", messages=messages, tools=TOOLS).choices[0].message
    messages.append(asked)
    for call in asked.tool_calls or []:
        arguments = json.loads(call.function.arguments)
        print("called", call.function.name, "with", sorted(arguments))
        messages.append({"role": "tool", "tool_call_id": call.id, "content": get_weather(**arguments)})
    answer = client.chat.completions.create(model="llama3.2", messages=messages, tools=TOOLS)
    print(answer.choices[0].message.content)

# Output:
# called get_weather with ['city']
# Simulated answer from llama3.2 to "Ask get weather about Lima". A tool said "19 degrees and fog". ...
