"""The content of the kill switch file: any bytes are rules or a problem, and rules come back."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from flightlog.control.kill_format import decoded, encoded
from flightlog.control.kill_rule import KillMode, KillRule


@given(st.binary(max_size=200) | st.text().map(lambda text: text.encode("utf-8", "replace")))
def test_no_content_raises_and_none_but_a_good_one_is_free_of_problems(content: bytes) -> None:
    rules, problem = decoded(content)
    assert problem is not None or encoded(rules)


texts = st.text(max_size=30)
rules_ = st.builds(
    KillRule,
    st.sampled_from([KillMode.STOP_ALL, KillMode.DISABLE_WRITES, KillMode.CONFIGURED]),
    tenant=st.none() | texts.filter(bool),
    who=texts,
    why=texts,
    at_us=st.none() | st.integers(0, (1 << 53) - 1),
) | st.builds(KillRule, st.just(KillMode.DISABLE_TOOLS), tools=texts.filter(bool))


@given(st.lists(rules_, max_size=5))
def test_rules_come_back_from_their_file_as_they_were(rules: list[KillRule]) -> None:
    assert decoded(encoded(rules)) == (tuple(rules), None)
