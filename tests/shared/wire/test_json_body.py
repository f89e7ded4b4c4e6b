"""Strict JSON: what is refused, where it says the fault is, and that no input costs much time."""

from __future__ import annotations

import contextlib
import json
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from shared.errors import BadRequest
from shared.wire.json_body import INT_MAX, INT_MIN, parse_json

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(INT_MIN, INT_MAX)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(categories=["L", "P"])), inner, max_size=4)
    ),
    max_leaves=20,
)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "empty"),
        (b"{", "ends too early"),
        (b"{} x", "trailing characters"),
        (b"{'a': 1}", "byte 1"),
        (b"\xef\xbb\xbf{}", "byte 0"),
        (b"\xff\xfe", "byte 0"),
        (b'{"a": "\xff"}', "UTF-8"),
        (b'{"a": "\xed\xa0\x80"}', "UTF-8"),
        (b'{"a": "\\ud800"}', "surrogate"),
        (b'{"a": "\\ud800x"}', "not valid JSON"),
        (b'{"a": "\\udc00"}', "not valid JSON"),
        (b'{"a": NaN}', "byte 6"),
        (b'{"a": Infinity}', "byte 6"),
        (b'{"a": -Infinity}', "not valid JSON"),
        (b'{"a": 1e999}', "too large"),
        (b'{"a": "\\u0000"}', "NUL"),
        (b'{"\\u0000": 1}', "NUL"),
        (b'{"a": "\\\\\\u0000"}', "NUL"),
        (b'{"a": "\x00"}', "byte 7"),
        (b'{"a": [18446744073709551616]}', "a[0]"),
        (b'{"a": -9223372036854775809}', "`a`"),
        (b"1" * 5000, "too large"),
        (b"1" * 4000, "64 bits"),
        (b"[" * 40_000, "deeper"),
        (b"[" * 110_000, "more than 50000"),
        (b"[" + b"{}," * 50_000 + b"{}]", "more than 50000"),
        (b"[" * 40_000 + b"]" * 40_000, "deeper"),
        (b'{"a":' * 33 + b"1" + b"}" * 33, "a.a.a.a"),
        (b'{"x":{"y":' + b"[" * 31 + b"]" * 31 + b"}}", "x.y[0][0]"),
    ],
    ids=lambda value: repr(value[:24]),
)
def test_bad_body_is_a_400_that_says_where(body: bytes, says: str) -> None:
    with pytest.raises(BadRequest) as caught:
        parse_json(body)
    assert says in caught.value.message
    assert caught.value.http_status == 400
    assert len(caught.value.message) < 400


@pytest.mark.parametrize(
    "body",
    [
        b'{"a": "\\\\u0000"}',
        b'"\\ud83d\\ude00"',
        b"[18446744073709551615, -9223372036854775808]",
        b"0.12345678901234567890123456789",
        b'"12345678901234567890123456789"',
        b"1e300",
        b"[" * 32 + b"]" * 32,
        b'["' + b"[" * 1000 + b'"]',
        b'["' + b'\\"[{' * 1000 + b'"]',
        b'["' + b"[]" * 60_000 + b'"]',
        b"[" + b"[]," * 49_998 + b"[]]",
    ],
    ids=lambda value: repr(value[:24]),
)
def test_sound_body_is_read_as_the_standard_library_reads_it(body: bytes) -> None:
    assert parse_json(body) == json.loads(body)


@given(json_values, st.booleans())
def test_every_sound_value_comes_through_unchanged(value: object, ascii_only: bool) -> None:
    body = json.dumps(value, ensure_ascii=ascii_only).encode()
    assert parse_json(body) == json.loads(body)


@given(json_values, st.integers(0, 40), st.sampled_from(["[", '{"k":']))
def test_depth_limit_is_exact(value: object, wraps: int, opening: str) -> None:
    body = opening * wraps + json.dumps(value) + ("]" if opening == "[" else "}") * wraps
    height = wraps + _height(value)
    if height <= 32:
        parse_json(body.encode())
    else:
        with pytest.raises(BadRequest, match="deeper"):
            parse_json(body.encode())


def _height(value: object) -> int:
    if isinstance(value, dict):
        return 1 + max(map(_height, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(_height, value), default=0)
    return 0


@settings(max_examples=300)
@given(st.binary(max_size=200) | st.text('[]{}",:\\u0d8eE+-.1 \n').map(str.encode))
@example(b'"\\')
def test_any_bytes_give_a_value_or_a_bad_request(body: bytes) -> None:
    try:
        parse_json(body)
    except BadRequest as error:
        assert error.message


MIB = 1 << 20


@pytest.mark.parametrize(
    "body",
    [
        b"[" + b"[]," * (MIB // 3 - 1) + b"[]]",
        b"[" + b"0," * (MIB // 2 - 1) + b"0]",
        b"[" + b'{"a":1},' * (MIB // 8 - 1) + b"{}]",
        b"[" * 30 + b'"",' * (MIB // 3 - 100) + b'""' + b"]" * 30,
        b'["' + b"\\n" * (MIB // 2 - 2) + b'"]',
        b"[" + b"[]," * (MIB // 3 - 40) + b"[" * 40 + b"]" * 41,
        b"[" + b"1," * (MIB // 2 - 20) + b"9" * 30 + b"]",
        b'{"a":' * (MIB // 5),
        b"\\u0000" * (MIB // 6),
        b"1" * MIB,
        b'"' + b"\\" * MIB,
    ],
    ids=lambda value: repr(value[:16]),
)
def test_a_mebibyte_of_malice_stays_cheap(body: bytes) -> None:
    spent = []
    for _ in range(3):
        start = time.thread_time()
        with contextlib.suppress(BadRequest):
            parse_json(body)
        spent.append(time.thread_time() - start)
    # Processor time, and twice the promised 0.1 s, so that a busy machine does not fail the test.
    assert min(spent) < 0.2


def test_field_names_are_shown_without_control_characters() -> None:
    with pytest.raises(BadRequest) as caught:
        parse_json(b'{"a\\n\\u001b[31m": 18446744073709551616}')
    assert caught.value.param == "a\\n\\x1b[31m"
    assert caught.value.message.isprintable()
