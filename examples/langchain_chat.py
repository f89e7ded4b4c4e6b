"""LangChain: prompt, model and parser as one chain. Needs `pip install langchain-openai`."""

import os

from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_openai import ChatOpenAI

URL = os.environ.get("ARRIERO_URL", "http://127.0.0.1:8000")

prompt = ChatPromptTemplate.from_messages([("system", "You know {animals}."), ("user", "{question}")])
# The queue retries; a client that did so, too, would multiply the calls.
model = ChatOpenAI(base_url=f"{URL}/v1", api_key="none", model="llama3.2", max_retries=0)
chain = prompt | model | StrOutputParser()

for piece in chain.stream({"animals": "llamas", "question": "Why do llamas hum?"}):
    print(piece, end="", flush=True)
print()

# Output:
# Simulated answer from llama3.2 to "Why do llamas hum". ...
