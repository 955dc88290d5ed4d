"""Keys: their text, where they come from, and that no error shows them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flightlog.errors import StoreKeyError
from flightlog.recorder.encryption.keys import (
    KEY_BYTES,
    KEY_FILE_VARIABLE,
    KEY_VARIABLE,
    StoreKey,
    given_keys,
    new_key,
    parse_keys,
)

FIRST, SECOND = StoreKey(b"\x01" * KEY_BYTES), StoreKey(b"\x02" * KEY_BYTES)


def key_file(folder: Path, content: str, mode: int = 0o600) -> dict[str, str]:
    path = folder / "keys"
    path.write_text(content, encoding="utf-8")
    path.chmod(mode)
    return {KEY_FILE_VARIABLE: str(path)}


@given(st.binary(min_size=KEY_BYTES, max_size=KEY_BYTES))
def test_text_of_any_key_reads_back_as_that_key(secret: bytes) -> None:
    (key,) = parse_keys([StoreKey(secret).text], where="here")
    assert key.secret == secret


def test_id_and_text_of_a_key_are_for_ever() -> None:
    assert FIRST.id == "cf2da68c340d2038"
    assert FIRST.text == "flightlog-key-AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE"


def test_keys_made_one_after_the_other_differ() -> None:
    assert len({new_key().id for _ in range(100)}) == 100


def test_what_is_derived_differs_by_key_and_purpose_and_is_not_the_key() -> None:
    derived = {key.derived(purpose) for key in (FIRST, SECOND) for purpose in (b"a", b"b")}
    assert len(derived) == 4
    assert FIRST.secret not in derived
    assert FIRST.blob_name("0" * 32) != SECOND.blob_name("0" * 32)


def test_without_a_variable_there_is_no_key() -> None:
    assert given_keys({}) is None
    assert given_keys({KEY_FILE_VARIABLE: "", KEY_VARIABLE: ""}) is None


def test_file_holds_several_keys_the_first_for_writing(tmp_path: Path) -> None:
    lines = f"# new\n{SECOND.text}  # since May\n\n{FIRST.text}\n{SECOND.text}\n"
    keys = given_keys(key_file(tmp_path, lines))
    assert keys is not None
    assert keys.ids == (SECOND.id, FIRST.id)
    assert keys.first == SECOND
    assert keys.led_by(FIRST.id).ids == (FIRST.id, SECOND.id)
    assert keys.led_by("unknown").ids == keys.ids


def test_variable_holds_several_keys_between_spaces() -> None:
    keys = given_keys({KEY_VARIABLE: f"{FIRST.text} {SECOND.text}"})
    assert keys is not None
    assert keys.ids == (FIRST.id, SECOND.id)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("", "no key in it"),
        ("# only a comment\n", "no key in it"),
        (FIRST.text[:-1], "line 1 is not a key"),
        (f"{FIRST.text}\n{FIRST.text}x", "line 2 is not a key"),
        (FIRST.text.removeprefix("flightlog-key-"), "line 1 is not a key"),
        ("x" * 70_000, "too long"),
        ("schlüssel", "not a key file"),
    ],
)
def test_file_that_holds_no_key_is_an_error_that_does_not_show_it(
    tmp_path: Path, content: str, what: str
) -> None:
    with pytest.raises(StoreKeyError, match=what) as caught:
        given_keys(key_file(tmp_path, content))
    assert caught.value.where == str(tmp_path / "keys")
    assert caught.value.hint
    assert "AQEBAQ" not in f"{caught.value} {caught.value!r}"


def test_file_that_is_missing_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(StoreKeyError, match="cannot read the key file") as caught:
        given_keys({KEY_FILE_VARIABLE: str(tmp_path / "none")})
    assert caught.value.where == str(tmp_path / "none")


@pytest.mark.parametrize("mode", [0o620, 0o602])
def test_file_that_others_may_write_to_is_refused(tmp_path: Path, mode: int) -> None:
    with pytest.raises(StoreKeyError, match="others may write"):
        given_keys(key_file(tmp_path, FIRST.text, mode))


def test_both_variables_are_one_too_many(tmp_path: Path) -> None:
    environment = key_file(tmp_path, FIRST.text) | {KEY_VARIABLE: SECOND.text}
    with pytest.raises(StoreKeyError, match="both"):
        given_keys(environment)


def test_key_does_not_show_itself(tmp_path: Path) -> None:
    keys = given_keys({KEY_VARIABLE: FIRST.text})
    shown = f"{FIRST!r} {FIRST} {keys!r}"
    assert "AQEBAQ" not in shown
    assert repr(FIRST.secret) not in shown
