"""A llama of 33,000 random weights, in 140 kB: says nothing that means anything, and does all that a model does."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy

SEED = 7
DIMENSIONS = 32
HEADS = 4
HIDDEN = 64
TRAINED_CONTEXT = 2048
UNKNOWN, BEGIN, END = 0, 1, 2
CONTROLS = [b"<unk>", b"<s>", b"</s>"]
SPECIAL_BYTES = [b"<0x%02X>" % byte for byte in range(256)]
"""With these the vocabulary can spell any text."""
CHARACTERS = ["\u2581", *map(chr, range(33, 127))]
"""The first one stands for a space."""
TEMPLATE = (
    "{% for message in messages %}{{ message.role }}: {{ message.content or '' }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)


def write(path: Path) -> None:
    """Write the model: always the same one."""
    writer = gguf.GGUFWriter(path, "llama")
    _describe(writer)
    _add_vocabulary(writer)
    _add_weights(writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _describe(writer: gguf.GGUFWriter) -> None:
    writer.add_name("tiny")
    writer.add_context_length(TRAINED_CONTEXT)
    writer.add_embedding_length(DIMENSIONS)
    writer.add_block_count(1)
    writer.add_feed_forward_length(HIDDEN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_rope_dimension_count(DIMENSIONS // HEADS)
    writer.add_layer_norm_rms_eps(1e-5)


def _add_vocabulary(writer: gguf.GGUFWriter) -> None:
    kinds = gguf.TokenType
    tokens = [*CONTROLS, *SPECIAL_BYTES, *(character.encode() for character in CHARACTERS)]
    types = [kinds.UNKNOWN, kinds.CONTROL, kinds.CONTROL]
    types += [kinds.BYTE] * len(SPECIAL_BYTES) + [kinds.NORMAL] * len(CHARACTERS)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_scores([0.0] * len(tokens))
    writer.add_unk_token_id(UNKNOWN)
    writer.add_bos_token_id(BEGIN)
    writer.add_eos_token_id(END)
    writer.add_chat_template(TEMPLATE)


def _add_weights(writer: gguf.GGUFWriter) -> None:
    random = numpy.random.default_rng(SEED)
    words = len(CONTROLS) + len(SPECIAL_BYTES) + len(CHARACTERS)
    shapes = {
        "token_embd": (words, DIMENSIONS),
        "output": (words, DIMENSIONS),
        **{f"blk.0.attn_{part}": (DIMENSIONS, DIMENSIONS) for part in ("q", "k", "v", "output")},
        "blk.0.ffn_gate": (HIDDEN, DIMENSIONS),
        "blk.0.ffn_up": (HIDDEN, DIMENSIONS),
        "blk.0.ffn_down": (DIMENSIONS, HIDDEN),
    }
    for name, shape in shapes.items():
        writer.add_tensor(f"{name}.weight", (random.standard_normal(shape) * 0.3).astype(numpy.float32))
    for name in ("output_norm", "blk.0.attn_norm", "blk.0.ffn_norm"):
        writer.add_tensor(f"{name}.weight", numpy.ones(DIMENSIONS, numpy.float32))
