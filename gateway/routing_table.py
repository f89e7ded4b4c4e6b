"""Every rule of routing with an example: what `docs/routing.md` shows and what the test decides anew. Data only."""

from __future__ import annotations

from dataclasses import dataclass, replace

from gateway.catalogue import canonical_name
from gateway.classifier import Vocabulary, WordList
from gateway.routing import decide
from gateway.routing_inputs import Ask, NamedBeside, Place, Role, RoutingPolicy, World
from gateway.routing_settings import CODE_WORDS, COMPLEX_WORDS, PRIVACY_WORDS, SHORT_REQUEST_WORDS
from shared.errors import ArrieroError
from shared.routes import Candidate
from shared.wire.canonical import ChatRequest, CompletionRequest, EmbeddingRequest, Message, Request


def named(*models: str) -> dict[str, str]:
    """Models as a place has them."""
    return {canonical_name(model): model for model in models}


PLACES = {
    place.name: place
    for place in (
        Place(
            name="ollama",
            is_local=True,
            models=named("llama3.2", "qwen2.5", "mistral", "nomic-embed-text", "gemma3"),
            takes_pulls=True,
        ),
        Place(name="lm_studio", is_local=True, models=named("phi4", "gemma3")),
        Place(name="openrouter", is_local=False, models=named("vendor/large"), tells=True),
        Place(name="anthropic", is_local=False, models=named("claude-fast"), default_model="claude-fast"),
    )
}
WORLD = World(
    PLACES,
    "ollama",
    off={"openai": "The service openai is off: set OPENAI_API_KEY."},
    loaded=(Candidate("ollama", "mistral"),),
)
"""The services of the examples."""
AT_HOME = World({name: place for name, place in PLACES.items() if place.is_local}, "ollama")
"""The same in airgap mode, or before any key is set."""
POLICY = RoutingPolicy(
    models={
        Role.DEFAULT: "llama3.2",
        Role.FAST: "llama3.2",
        Role.CODE: "qwen2.5",
        Role.TOOL: "mistral",
        Role.VISION: "gemma3",
    },
    vocabulary=Vocabulary(
        private=WordList(PRIVACY_WORDS),
        code=WordList(CODE_WORDS),
        complex=WordList(COMPLEX_WORDS),
        short_below=SHORT_REQUEST_WORDS,
    ),
)
LONG = "We keep llamas in a valley and would like to know what they eat in winter when there is snow on the meadows"
"""More words than a short request has, and none of any list."""


def says(prompt: str, *, tools: bool = False, images: bool = False) -> Request:
    """A conversation of one turn."""
    return ChatRequest(
        model="",
        messages=[Message(role="user", content=prompt, images=["aGk="] if images else [])],
        tools=[{"type": "function", "function": {"name": "weather"}}] if tools else [],
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """`goes` is what `outcome` says of it."""

    rule: str
    asks: str
    ask: Ask
    goes: str
    world: World = WORLD
    policy: RoutingPolicy = POLICY


def outcome(row: Row) -> str:
    """`service~model, then service~model; reason`, or `status code`."""
    try:
        route = decide(row.ask, row.world, row.policy)
    except ArrieroError as error:
        return f"{error.http_status} {error.code}"
    places = ", then ".join(target.qualified for target in route.candidates)
    return f"{places}; {route.reason}" + (", local only" if route.local_only else "")


def _row(rule: str, name: str, goes: str, *, service: str = "", private: bool = False, request: Request | None = None,
         says_too: str = "", world: World = WORLD, policy: RoutingPolicy = POLICY) -> Row:  # fmt: skip
    beside = NamedBeside(service) if service else None
    ask = Ask(name=name, request=request or says(LONG), service=beside, is_private=private)
    asks = f"`{name}`" + (f", {says_too}" if says_too else "")
    return Row(rule=rule, asks=asks, ask=ask, goes=goes, world=world, policy=policy)


NAMES = (
    _row("A tilde names the service", "ollama~llama3.2", "ollama~llama3.2; named"),
    _row("A colon does, after the name of a service there is", "ollama:llama3.2", "ollama~llama3.2; named"),
    _row("Slashes after the prefix are the model's own", "openrouter:vendor/large", "openrouter~vendor/large; named"),
    _row("Any other colon is a tag", "qwen2.5:latest", "ollama~qwen2.5:latest, then anthropic~claude-fast; default"),
    _row(
        "`x-arriero-provider`, or `provider` in the body, names the service too",
        "phi4",
        "lm_studio~phi4; named",
        service="lm_studio",
        says_too="provider `lm_studio`",
    ),
    _row(
        "Two services are one too many",
        "ollama~llama3.2",
        "400 invalid_request",
        service="lm_studio",
        says_too="provider `lm_studio`",
    ),
    _row("`auto` at a service is its default model", "anthropic~auto", "anthropic~claude-fast; named"),
    _row("A service that is off, with what to do about it", "openai~gpt-4o", "404 service_not_configured"),
    _row("A service nobody knows", "nowhere~llama3.2", "404 service_not_configured"),
    _row("A service of ours that has not the model", "ollama~phi4", "404 model_not_found"),
    _row("Elsewhere a name may be an alias, and is tried", "anthropic~claude-new", "anthropic~claude-new; named"),
    _row(
        "A bare name goes to the default service; default models of others stand in",
        "llama3.2",
        "ollama~llama3.2, then anthropic~claude-fast; default",
    ),
    _row(
        "Others that have the same model come next",
        "gemma3",
        "ollama~gemma3, then lm_studio~gemma3, then anthropic~claude-fast; default",
    ),
    _row(
        "What the default service has not, another may have",
        "phi4",
        "lm_studio~phi4, then anthropic~claude-fast; found",
    ),
    _row(
        "Without fallback there is one place",
        "gemma3",
        "ollama~gemma3; default",
        says_too="ENABLE_FALLBACK=false",
        policy=replace(POLICY, falls_back=False),
    ),
    _row(
        "Nothing stands in for a model of embeddings",
        "nomic-embed-text",
        "ollama~nomic-embed-text; default",
        says_too="an embedding",
        request=EmbeddingRequest(model="", inputs=[LONG]),
    ),
    _row(
        "Nor for that of a raw prompt",
        "mistral",
        "ollama~mistral; default",
        says_too="`raw`",
        request=CompletionRequest(model="", prompt=LONG, raw=True),
    ),
    _row("A name nobody has is an error with near names", "lama3.2", "404 model_not_found"),
    _row(
        "Or it is the first loaded model, if FIRST_LOADED_MODEL says so",
        "gpt-4",
        "ollama~mistral; first_loaded",
        says_too="FIRST_LOADED_MODEL=true",
        policy=replace(POLICY, first_loaded=True),
    ),
    _row(
        "But never for embeddings",
        "gpt-4",
        "404 model_not_found",
        says_too="an embedding, FIRST_LOADED_MODEL=true",
        request=EmbeddingRequest(model="", inputs=[LONG]),
        policy=replace(POLICY, first_loaded=True),
    ),
    _row(
        "ALLOWED_MODELS shuts out the rest",
        "mistral",
        "404 model_not_found",
        says_too="ALLOWED_MODELS=llama3.2",
        policy=replace(POLICY, allowed=("llama3.2",)),
    ),
)
TASKS = (
    _row(
        "Tools: the tool model, then the cloud",
        "auto",
        "ollama~mistral, then anthropic~claude-fast, then ollama~llama3.2; tools",
        says_too="tools",
        request=says("What is the weather?", tools=True),
    ),
    _row(
        "Images: the vision model",
        "auto",
        "ollama~gemma3, then anthropic~claude-fast, then ollama~llama3.2; images",
        says_too="an image",
        request=says("What is this?", images=True),
    ),
    _row(
        "Fewer than SHORT_REQUEST_WORDS words: the fast model",
        "auto",
        "ollama~llama3.2, then anthropic~claude-fast; short",
        says_too="“Why do llamas hum?”",
        request=says("Why do llamas hum?"),
    ),
    _row(
        "A word of CODE_WORDS: the code model",
        "auto",
        "ollama~qwen2.5, then ollama~llama3.2, then anthropic~claude-fast; code",
        says_too="“... a Python function that counts them”",
        request=says(f"{LONG}. Write a Python function that counts them."),
    ),
    _row(
        "A word of COMPLEX_WORDS: the cloud",
        "auto",
        "anthropic~claude-fast, then ollama~llama3.2; complex",
        says_too="“... Analyze the options”",
        request=says(f"{LONG}. Analyze the options."),
    ),
    _row(
        "Without a cloud: the default model",
        "auto",
        "ollama~llama3.2; complex",
        world=AT_HOME,
        says_too="the same in airgap mode",
        request=says(f"{LONG}. Analyze the options."),
    ),
    _row(
        "Anything else: the default model",
        "auto",
        "ollama~llama3.2, then anthropic~claude-fast; general",
        says_too="“We keep llamas ...”",
    ),
    _row(
        "Embeddings have no task",
        "auto",
        "400 invalid_request",
        says_too="an embedding",
        request=EmbeddingRequest(model="", inputs=[LONG]),
    ),
)
_RECORD = f"{LONG}. The patient is four years old."
PRIVACY = (
    _row(
        "A word of PRIVACY_WORDS keeps `auto` at home",
        "auto",
        "ollama~llama3.2; private, local only",
        says_too="“... The patient is four years old”",
        request=says(_RECORD),
    ),
    _row(
        "And a bare name",
        "llama3.2",
        "ollama~llama3.2; default, local only",
        says_too="the same words",
        request=says(_RECORD),
    ),
    _row(
        "And refuses a service elsewhere",
        "anthropic~claude-fast",
        "400 private_request",
        says_too="the same words",
        request=says(_RECORD),
    ),
    _row(
        "A request may say so itself: `x-arriero-private: true`, or `private` in the body",
        "llama3.2",
        "ollama~llama3.2; default, local only",
        says_too="private",
        private=True,
    ),
    _row("What only others have is refused", "vendor/large", "400 private_request", says_too="private", private=True),
    _row(
        "PRIVACY_DETECTION=auto reads only requests for `auto`",
        "llama3.2",
        "ollama~llama3.2, then anthropic~claude-fast; default",
        says_too="the same words, PRIVACY_DETECTION=auto",
        request=says(_RECORD),
        policy=replace(POLICY, detection="auto"),
    ),
)
SECTIONS = {"Names": NAMES, "`auto`": TASKS, "Privacy": PRIVACY}
