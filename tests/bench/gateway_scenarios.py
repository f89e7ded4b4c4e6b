"""Rows G and E: what a gateway does, with the stub upstream behind it."""

from __future__ import annotations

from tests.bench.roads import Road, start_arriero, start_bare
from tests.bench.stub_upstream import EMBEDDER
from tests.bench.workbench import MESSAGES, Bench, Figures

WARM_UP = ("--clients", "8", "--seconds", "0.5")


def chat(bench: Bench, peer: str) -> Figures:
    road = bench.road(peer)
    bench.chat(road, "noop", *WARM_UP)
    one = bench.chat(road, "noop", "--requests", str(bench.sizes.chats_one))
    many = bench.chat(road, "noop", "--clients", "32", "--seconds", str(bench.sizes.chat_s))
    return {"one_p50_ms": one["p50_ms"], "one_p99_ms": one["p99_ms"], "many_per_s": many["per_s"]}


def stream(bench: Bench, peer: str) -> Figures:
    """Six waves of short streams for the first chunk, one wave of long ones for the rate; each wave starts at once."""
    road = bench.road(peer)
    clients = ("--clients", "16")
    bench.chat(road, "paced-20", *clients, "--requests", "16", "--tokens", "20", stream=True)  # warm-up
    short = bench.chat(road, "paced-20", *clients, "--requests", "96", "--tokens", "20", stream=True)
    tokens = str(bench.sizes.long_tokens)
    long = bench.chat(road, f"paced-{tokens}", *clients, "--requests", "16", "--tokens", tokens, stream=True)
    return {
        "first_p50_ms": short["first_p50_ms"],
        "first_p99_ms": short["first_p99_ms"],
        "paced_tokens_per_s": long["tokens_per_s"],
    }


def flat(bench: Bench, peer: str) -> Figures:
    arguments = ("--clients", "16", "--tokens", "250", "--seconds", str(bench.sizes.flat_s))
    return {"tokens_per_s": bench.chat(bench.road(peer), "flat-250", *arguments, stream=True)["tokens_per_s"]}


def intake(bench: Bench, peer: str) -> Figures:
    """Jobs are only accepted: no worker takes the processor from the one gateway process."""
    bench.stop_roads()
    bench.redis.clear()
    road = start_arriero(bench.around, worker=False) if peer == "arriero" else start_bare(bench.around, peer[5:])
    try:
        accept(bench, road, *WARM_UP)
        return {"per_s": accept(bench, road, "--clients", "32", "--seconds", str(bench.sizes.chat_s))["per_s"]}
    finally:
        bench.stop(road)


def accept(bench: Bench, road: Road, *arguments: str) -> Figures:
    """Run the load client with jobs that are only to be accepted."""
    body: dict[str, object] = {"type": "chat.completion", "request": {"model": "noop", "messages": MESSAGES}}
    return bench.load(road, "/v1/jobs", body, "--expect", "202", "--tokens", "0", *arguments)


def embeddings(bench: Bench, peer: str) -> Figures:
    """The upstream serves one call at a time, as Ollama does for embedding models, whatever number of texts it has."""
    bench.stop_roads()
    bench.redis.clear()
    batching = "false" if peer == "arriero-unbatched" else "true"
    settings = {"ENABLE_BATCH_PROCESSING": batching, "WORKER_BATCH_SIZE": "32"}
    road = start_arriero(bench.around, settings=settings)
    body: dict[str, object] = {"model": EMBEDDER, "input": "A mule carries more than its weight in words."}
    none = ("--tokens", "0")
    try:
        bench.load(road, "/v1/embeddings", body, *none, "--clients", "8", "--seconds", "0.5")  # warm-up
        one = bench.load(road, "/v1/embeddings", body, *none, "--requests", str(bench.sizes.embeddings_one))
        many = bench.load(road, "/v1/embeddings", body, *none, "--clients", "64", "--seconds", str(bench.sizes.chat_s))
    finally:
        bench.stop(road)
    return {"one_p50_ms": one["p50_ms"], "many_per_s": many["per_s"]}
