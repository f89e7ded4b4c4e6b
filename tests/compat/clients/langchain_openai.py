"""langchain-openai."""

from __future__ import annotations

from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import StructuredTool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings

from tests.compat.clients import checks

BASE_URL = f"{checks.gateway_url()}/v1"


def get_weather(city: str) -> str:
    """Current weather at a place."""
    return checks.WEATHER


GET_WEATHER = StructuredTool.from_function(get_weather)


def chat_model(model: str = checks.CHAT_MODEL) -> ChatOpenAI:
    return ChatOpenAI(base_url=BASE_URL, api_key="none", model=model, max_retries=0)


def chat() -> str:
    return checks.answers_the_question(chat_model().invoke(checks.QUESTION).text)


def stream() -> str:
    return checks.streamed([piece.text for piece in chat_model().stream(checks.QUESTION)])


def embed() -> list[int]:
    # Unasked, the library counts tokens itself and sends their numbers, which only OpenAI's own models understand.
    embeddings = OpenAIEmbeddings(
        base_url=BASE_URL, api_key="none", model=checks.EMBEDDING_MODEL, check_embedding_ctx_length=False
    )
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
