"""Framing: whole frames come back, cut and damaged ones never turn into rows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flightlog.recorder.frames import Damage, Frame, pack, scan

PAYLOADS = [b'{"a":1}', b"{}", b'{"text":"' + b"x" * 40 + b'"}', b'{"b":2}']


def journal(payloads: list[bytes]) -> bytes:
    return b"".join(pack(2, number, payload) for number, payload in enumerate(payloads))


def read(data: bytes) -> tuple[list[bytes], list[Damage]]:
    items = list(scan(data, start=0, first_sequence=0))
    frames = [item.payload for item in items if isinstance(item, Frame)]
    return frames, [item for item in items if isinstance(item, Damage)]


@given(st.lists(st.text().map(str.encode), max_size=8))
def test_frames_come_back_as_written(payloads: list[bytes]) -> None:
    assert read(journal(payloads)) == (payloads, [])


@pytest.mark.parametrize("cut", range(len(journal(PAYLOADS)) + 1))
def test_cut_journal_gives_exactly_its_complete_frames(cut: int) -> None:
    frames, damage = read(journal(PAYLOADS)[:cut])
    ends = [len(journal(PAYLOADS[:count])) for count in range(len(PAYLOADS) + 1)]
    complete = max(count for count, end in enumerate(ends) if end <= cut)
    assert frames == PAYLOADS[:complete]
    assert [d.is_torn for d in damage] == ([] if cut in ends else [True])


@pytest.mark.parametrize("bit", [0, 3, 7])
def test_flipped_bit_anywhere_never_gives_a_wrong_row_and_is_always_reported(bit: int) -> None:
    whole = journal(PAYLOADS)
    for position in range(len(whole)):
        data = bytearray(whole)
        data[position] ^= 1 << bit
        frames, damage = read(bytes(data))
        assert damage, position
        assert len(frames) == len(PAYLOADS) - 1
        assert [p for p in PAYLOADS if p in frames] == frames


@given(st.data())
def test_random_damage_leaves_a_part_of_the_rows_in_order(data: st.DataObject) -> None:
    whole = bytearray(journal(PAYLOADS))
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(whole) - 1))
        stop = min(len(whole), start + data.draw(st.integers(0, 30)))
        whole[start:stop] = data.draw(st.binary(max_size=30))
        if not whole:
            break
    frames, damage = read(bytes(whole))
    assert [p for p in PAYLOADS if p in frames] == frames
    assert damage or frames == PAYLOADS[: len(frames)]


def test_repeated_bytes_do_not_become_rows_twice() -> None:
    first, second = pack(2, 0, b"{}"), pack(2, 1, b'{"a":1}')
    frames, damage = read(first + second + first + second)
    assert frames == [b"{}", b'{"a":1}']
    assert len(damage) == 2


def test_missing_frames_are_counted() -> None:
    frames, damage = read(pack(2, 0, b"{}") + pack(2, 3, b"[]"))
    assert frames == [b"{}", b"[]"]
    assert [d.lost for d in damage] == [2]
    assert "2 records are lost" in damage[0].what


def test_damage_in_the_middle_says_how_much_is_lost() -> None:
    frames, damage = read(pack(2, 0, b"{}") + b"rubbish" + pack(2, 2, b"[]"))
    assert frames == [b"{}", b"[]"]
    assert (damage[0].start, damage[0].end, damage[0].lost) == (23, 30, 1)


def test_damaged_length_does_not_hide_the_frames_behind_it() -> None:
    whole = bytearray(journal(PAYLOADS))
    whole[5:9] = (1 << 30).to_bytes(4, "little")
    frames, damage = read(bytes(whole))
    assert frames == PAYLOADS[1:]
    assert not damage[0].is_torn
