"""What is written as YAML comes back as it was."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flightlog.config import parse_yaml
from flightlog.errors import GoldenError
from flightlog.golden.yaml_files import Fields, dump_yaml, read_yaml

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**15), 10**15)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS
    | st.sampled_from(
        ["no", "012", "1e5", "~", "null", "true", "2024-05-15", "- x", "a: b", "#", ""]
    ),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(TEXTS, VALUES, max_size=5))
def test_what_is_written_comes_back(value: dict[str, object]) -> None:
    assert parse_yaml(dump_yaml(value, where="x"), where="x")[0] == value


def test_one_object_in_two_places_is_written_twice_not_as_an_alias() -> None:
    shared = {"a": 1}
    text = dump_yaml({"one": shared, "two": shared}, where="x")
    assert "&" not in text
    assert "*" not in text


def test_texts_of_several_lines_stay_readable() -> None:
    assert "prompt: |" in dump_yaml({"prompt": "first\nsecond\n"}, where="x")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1: "number key"}, "\ud800"])
def test_a_value_that_yaml_cannot_carry_is_refused(value: object) -> None:
    with pytest.raises(GoldenError, match="cannot carry") as caught:
        dump_yaml({"inputs": value}, where="task.yaml")
    assert caught.value.where == "task.yaml"


def test_a_broken_file_names_its_line(tmp_path: Path) -> None:
    path = tmp_path / "task.yaml"
    path.write_text("a: 1\na: 2\n", encoding="utf-8")
    with pytest.raises(GoldenError, match="'a' appears twice") as caught:
        read_yaml(path)
    assert caught.value.where == f"{path}:2"
    with pytest.raises(GoldenError, match="cannot read"):
        read_yaml(tmp_path / "absent.yaml")


def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GoldenError, match="keys and values"):
        Fields(["a"], {}, tmp_path / "x.yaml")
