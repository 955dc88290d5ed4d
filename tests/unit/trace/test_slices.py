"""Texts in slices: the same sizes, bytes and digests as of the whole."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given

from flightlog.trace.canonical import clean_text, digest_of, digest_of_pieces, digest_of_text
from flightlog.trace.slices import (
    SLICE_CHARS,
    cut_to_bytes,
    is_valid_utf8,
    text_slices,
    utf8_size,
    utf8_slices,
)

TEXTS = st.text(st.characters(exclude_categories=()), max_size=40)
LONG = ["a" * (SLICE_CHARS + 1), "é\ud800" * SLICE_CHARS, "\U0001f600" * (SLICE_CHARS + 7)]


@given(TEXTS, st.integers(1, 10))
def test_slices_are_the_text(text: str, chars: int) -> None:
    assert "".join(text_slices(text, chars=chars)) == text


@given(TEXTS)
def test_bytes_of_a_text_are_those_of_its_clean_form(text: str) -> None:
    assert b"".join(utf8_slices(text)) == clean_text(text).encode()
    assert utf8_size(text) == len(text.encode("utf-8", "surrogatepass"))
    assert is_valid_utf8(text) == (clean_text(text) == text)


@pytest.mark.parametrize("text", LONG, ids=["ascii", "surrogates", "wide"])
def test_long_text_has_the_size_the_digest_and_the_bytes_of_the_whole(text: str) -> None:
    raw = text.encode("utf-8", "surrogatepass")
    assert utf8_size(text) == len(raw)
    assert digest_of_text(text) == digest_of(text)
    clean = raw.decode("utf-8", "replace")
    assert clean_text(text) == clean
    assert b"".join(utf8_slices(text)) == clean.encode()


def test_digest_of_pieces_is_that_of_the_joined_bytes() -> None:
    assert digest_of_pieces(6, [b"ab", b"", b"cdef"]) == digest_of(b"abcdef")


@given(TEXTS, st.integers(0, 60))
def test_cut_text_is_the_longest_beginning_that_fits(text: str, limit: int) -> None:
    cut = cut_to_bytes(text, limit)
    assert text.startswith(cut)
    assert utf8_size(cut) <= limit
    if cut != text:
        assert utf8_size(text[: len(cut) + 1]) > limit
