"""The page of the docs that lists every column."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flightlog.analysis.columns_page import columns_page, undocumented
from flightlog.analysis.db import Traces
from flightlog.analysis.sql_files import (
    QUESTIONS_FOLDER,
    VIEW_KEYS,
    VIEWS_FOLDER,
    Entry,
    parsed,
    sql_file,
    sql_names,
)

PAGE = Path(__file__).parents[3] / "docs" / "columns.md"


def test_the_page_of_the_docs_is_the_generated_one() -> None:
    assert PAGE.read_text(encoding="utf-8") == columns_page(), (
        "run: python -m flightlog.analysis.columns_page > docs/columns.md"
    )


def test_every_column_is_described() -> None:
    assert undocumented() == []


def test_every_documented_column_of_a_view_exists() -> None:
    page = columns_page()
    for view in VIEW_KEYS:
        section = page.partition(f"## {view}\n")[2].partition("\n## ")[0]
        for entry in sql_file(VIEWS_FOLDER, view).columns:
            assert f"| `{entry.name}` |" in section, f"{view}.{entry.name}"


def test_every_view_file_is_a_view() -> None:
    assert sorted(VIEW_KEYS) == list(sql_names(VIEWS_FOLDER))


@pytest.mark.parametrize("folder", [VIEWS_FOLDER, QUESTIONS_FOLDER])
def test_every_file_is_one_line_of_at_most_a_hundred(folder: str) -> None:
    for name in sql_names(folder):
        for line in sql_file(folder, name).sql.splitlines():
            assert len(line) <= 100, f"{name}: {line}"


def test_a_header_is_taken_apart() -> None:
    found = parsed(
        "x",
        "-- Why?\n-- Because.\n--\n-- Parameters:\n--   a: first\n-- Columns:\n"
        "--   n [runs]: how many,\n--     all told\nSELECT 1 -- not a header\n",
    )
    assert found.title == "Why? Because."
    assert found.parameters == (Entry("a", None, "first"),)
    assert found.columns == (Entry("n", "runs", "how many, all told"),)


def test_a_header_line_without_a_meaning_is_refused() -> None:
    with pytest.raises(ValueError, match="not understood"):
        parsed("x", "-- Why?\n-- Columns:\n-- n: how many\nSELECT 1\n")


def test_no_column_of_version_1_is_gone_or_of_another_type(tiny: Traces) -> None:
    """A column that is added is added to the list too, in the same change."""
    released = json.loads((Path(__file__).parent / "views_v1.json").read_text(encoding="utf-8"))
    now = {
        view: {name: kind for name, kind, *_ in tiny.sql(f"DESCRIBE {view}").fetchall()}
        for view in VIEW_KEYS
    }
    assert now == released
