"""langchain-ollama."""

from __future__ import annotations

from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import StructuredTool
from langchain_ollama import ChatOllama, OllamaEmbeddings

from tests.compat.clients import checks


def get_weather(city: str) -> str:
    """Current weather at a place."""
    return checks.WEATHER


GET_WEATHER = StructuredTool.from_function(get_weather)


def chat_model(model: str = checks.CHAT_MODEL) -> ChatOllama:
    return ChatOllama(base_url=checks.gateway_url(), model=model)


def chat() -> str:
    return checks.answers_the_question(chat_model().invoke(checks.QUESTION).text)


def stream() -> str:
    return checks.streamed([piece.text for piece in chat_model().stream(checks.QUESTION)])


def embed() -> list[int]:
    embeddings = OllamaEmbeddings(base_url=checks.gateway_url(), model=checks.EMBEDDING_MODEL)
    return checks.vectors_of_both(embeddings.embed_documents(list(checks.TEXTS)))


def tools() -> str:
    model = chat_model().bind_tools([GET_WEATHER])
    asked = HumanMessage(checks.WEATHER_QUESTION)
    first = model.invoke([asked])
    (call,) = first.tool_calls
    checks.asked_for_the_weather(call["name"], call["args"])
    result = ToolMessage(GET_WEATHER.invoke(call["args"]), tool_call_id=call["id"])
    return checks.used_the_weather(model.invoke([asked, first, result]).text)


def error() -> str:
    return checks.refusal(lambda: chat_model(checks.UNKNOWN_MODEL).invoke(checks.QUESTION))


if __name__ == "__main__":
    checks.run({"chat": chat, "stream": stream, "embed": embed, "tools": tools, "error": error})
