"""Finding the candidate's factory."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from flightlog.errors import AgentError
from flightlog.golden.suite import load_factory


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return tmp_path


def test_the_current_directory_is_importable(here: Path) -> None:
    (here / "my_agent_a.py").write_text("def make(trial):\n    return 'agent'\n", encoding="utf-8")
    assert load_factory("my_agent_a:make")(None) == "agent"


@pytest.mark.parametrize("text", ["", "module", "module:", ":make", "a.b"])
def test_a_text_of_another_form_is_refused(here: Path, text: str) -> None:
    with pytest.raises(AgentError, match="does not name an agent factory"):
        load_factory(text)


def test_a_missing_module_says_where_it_was_looked_for(here: Path) -> None:
    with pytest.raises(AgentError, match="no module named 'nowhere_to_be_found'") as caught:
        load_factory("nowhere_to_be_found:make")
    assert str(here) in caught.value.hint


def test_a_module_that_needs_a_missing_one_names_that(here: Path) -> None:
    (here / "my_agent_b.py").write_text("import not_there_at_all\n", encoding="utf-8")
    with pytest.raises(AgentError, match="needs 'not_there_at_all'"):
        load_factory("my_agent_b:make")


def test_a_module_that_fails_says_how(here: Path) -> None:
    (here / "my_agent_c.py").write_text("1 / 0\n", encoding="utf-8")
    with pytest.raises(AgentError, match="ZeroDivisionError"):
        load_factory("my_agent_c:make")


def test_a_missing_function_names_the_nearest(here: Path) -> None:
    (here / "my_agent_d.py").write_text("def make_agent(trial): ...\n", encoding="utf-8")
    with pytest.raises(AgentError, match="has no 'make_agnt'") as caught:
        load_factory("my_agent_d:make_agnt")
    assert "make_agent" in caught.value.hint


def test_what_is_not_callable_is_refused(here: Path) -> None:
    (here / "my_agent_e.py").write_text("make = 3\n", encoding="utf-8")
    with pytest.raises(AgentError, match="not a function but of type int"):
        load_factory("my_agent_e:make")
