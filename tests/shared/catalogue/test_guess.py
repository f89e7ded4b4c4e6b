"""What names give away, and what goes before it once servers speak."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.backends.base import LoadedModel, ModelInfo
from shared.backends.ollama_models import ModelDetails
from shared.catalogue.build import HostAnswer, records, told
from shared.catalogue.guess import guess, parameters_in
from shared.catalogue.record import ModelRecord, pack, unpack

LLM, VLM = "llm", "vlm"


@pytest.mark.req("S4-15", "S4-19", "S4-21", "S2-34", "S2-39")
@pytest.mark.parametrize(
    ("name", "kind", "tokens", "flags"),
    [  # flags: Instructed, Coding, Tooling, Streaming
        ("llama2", LLM, 4096, "IS"),
        ("codellama", LLM, 16_384, "CS"),
        ("mistral", LLM, 32_768, "ITS"),
        ("mixtral", LLM, 32_768, "ITS"),
        ("qwen", LLM, 32_768, "IS"),
        ("phi", LLM, 2048, "IS"),
        ("llama3.2:3b", LLM, 131_072, "ITS"),
        ("codellama:7b-instruct-q4_K_M", LLM, 16_384, "ICS"),
        ("qwen2.5-coder:32b", LLM, 32_768, "ICTS"),
        ("llava:7b", VLM, 4096, "IS"),
        ("qwen2.5vl", VLM, 32_768, "IS"),
        ("gpt-4o-mini", VLM, 128_000, "ITS"),
        ("anthropic/claude-sonnet-4.5", VLM, 200_000, "ITS"),
        ("nomic-embed-text", "embeddings", 8192, ""),
        ("text-embedding-3-small", "embeddings", 8191, ""),
        ("some-new-embedder", "embeddings", 0, ""),
        ("clip-vit-base", "vision", 0, ""),
        ("nobody-knows-7b-base", LLM, 0, "S"),
        ("nobody-knows-7b-instruct", LLM, 0, "IS"),
        ("llama3.2:1b-text-q4_0", LLM, 131_072, "TS"),
        ("nobody-knows", "unknown", 0, ""),
    ],
)
def test_kind_context_and_flags_by_name(name: str, kind: str, tokens: int, flags: str) -> None:
    record = guess("s", name)
    seen = [(record.instructed, "I"), (record.coding, "C"), (record.tooling, "T"), (record.streaming, "S")]
    assert (record.type, record.max_tokens, "".join(sign for has, sign in seen if has)) == (kind, tokens, flags)


@pytest.mark.req("S4-17", "S4-18", "S4-20")
@pytest.mark.parametrize(
    ("name", "quantization", "billions", "runtime", "publisher"),
    [
        ("llama3.2:3b-instruct-q4_K_M", "Q4_K_M", 3, "llama.cpp", ""),
        ("hf.co/bartowski/Llama-3.2-1B-Instruct-GGUF:IQ3_XS", "IQ3_XS", 1, "llama.cpp", "bartowski"),
        ("mlx-community/Qwen3-8B-4bit", "4BIT", 8, "MLX", "mlx-community"),
        ("mixtral:8x7b", "", 56, "", ""),
        ("smollm:135m-fp16", "FP16", 0.135, "", ""),
        ("gpt-oss", "", 20.9, "", ""),
        ("q4-is-not-a-model", "Q4", 0, "", ""),
    ],
)
def test_weights_by_name(name: str, quantization: str, billions: float, runtime: str, publisher: str) -> None:
    record = guess("s", name)
    assert (record.quantization, record.runtime, record.publisher) == (quantization, runtime, publisher)
    assert record.parameters == int(billions * 1e9)
    assert (record.is_gguf, record.is_mlx) == (runtime == "llama.cpp", runtime == "MLX")


@given(st.text(max_size=300))
def test_any_name_has_a_record_that_survives_redis(name: str) -> None:
    record = guess("s", name)
    stored = {key.encode(): value.encode("utf-8", "surrogatepass") for key, value in pack(record).items()}
    try:
        assert unpack(stored) == record
    except UnicodeDecodeError:
        assert any(0xD800 <= ord(sign) < 0xE000 for sign in name)


@pytest.mark.parametrize(("text", "count"), [("3.2B", 3.2e9), ("137M", 137e6), ("8x7b", 56e9), ("", 0), ("big", 0)])
def test_sizes(text: str, count: float) -> None:
    assert parameters_in(text) == int(count)


@pytest.mark.req("S4-21", "S2-34")
def test_what_a_server_says_goes_before_what_the_name_suggests() -> None:
    info = ModelInfo(
        name="llama3.2:3b", size_bytes=5, digest="d", family="llama", parameter_size="3.2B", quantization="Q8_0",
        capabilities=("completion", "vision"),
    )  # fmt: skip
    bare = told("ollama", info)
    assert (bare.type, bare.tooling, bare.quantization, bare.parameters) == (VLM, False, "Q8_0", 3_200_000_000)
    assert (bare.is_gguf, bare.architecture, bare.max_tokens) == (True, "llama", 131_072)
    assert bare.name == "ollama~llama3.2:3b"
    details = ModelDetails(
        capabilities=("embedding",),
        context_length=2048,
        info={"general.architecture": "bert", "general.parameter_count": 42, "general.description": "Short."},
    )
    full = told("ollama", info, details)
    assert (full.type, full.max_tokens, full.parameters) == ("embeddings", 2048, 42)
    assert (full.architecture, full.description, full.streaming) == ("bert", "Short.", False)


@pytest.mark.req("S4-14", "S4-16")
def test_a_services_models_over_its_hosts() -> None:
    one = HostAnswer(
        host="a:1",
        models=[ModelInfo(name="Phi3:latest"), ModelInfo(name="mistral:latest")],
        loaded=[LoadedModel(name="mistral:latest")],
    )
    other = HostAnswer(host="b:1", models=[ModelInfo(name="phi3:latest")])
    found = records("gpus", [one, other], {}, loads=True, now=7.0, listed=["extra", "mistral"])
    assert [(record.name, record.state, record.hosts) for record in found] == [
        ("gpus~Phi3:latest", "not_loaded", ("a:1", "b:1")),
        ("gpus~extra", "not_loaded", ()),
        ("gpus~mistral:latest", "loaded", ("a:1",)),
    ]
    assert {record.seen_at for record in found} == {7.0}
    assert records("cloud", [], {}, loads=False, now=7.0, listed=["gpt-4o"])[0].state == "ready"


def test_what_is_no_record_is_none() -> None:
    assert unpack({}) is None
    assert unpack({b"service": b"s", b"upstream_name": b"m", b"size_bytes": b"many"}) is None
    assert unpack({b"service": b"s", b"upstream_name": b"m", b"later": b"1"}) == ModelRecord(
        service="s", upstream_name="m"
    )
