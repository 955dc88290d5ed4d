"""The rules of flightlog.yaml."""

from pathlib import Path

import pytest

from flightlog.config import SETTINGS, default_config, load_config, parse_yaml
from flightlog.config.settings import REQUIRED
from flightlog.errors import ConfigError

SEED = """
tools:
  allow: [search.read, kb.read, http.get]
budgets: {max_steps: 30, max_seconds: 90, max_tool_calls: 15}
writes: {require_approval: true}
monitoring:
  track: [tool_calls_per_run, tokens_per_request, stop_reason, latency_p95]
kill_switch: {mode_when_enabled: disable_writes}
"""


def write(tmp_path: Path, text: str, name: str = "flightlog.yaml") -> Path:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def test_seed_configuration_loads_and_equals_the_safe_default(tmp_path: Path) -> None:
    assert load_config(write(tmp_path, SEED)).values == default_config().values


def test_empty_file_is_the_default(tmp_path: Path) -> None:
    assert load_config(write(tmp_path, "")) == default_config()


def test_json_is_read_too(tmp_path: Path) -> None:
    path = write(tmp_path, '{"budgets": {"max_usd": 1.5}}', "flightlog.json")
    assert load_config(path)["budgets.max_usd"] == 1.5


def test_value_knows_the_line_it_came_from(tmp_path: Path) -> None:
    path = write(tmp_path, "budgets:\n  max_steps: 4\n")
    config = load_config(path)
    assert config.sources["budgets.max_steps"] == f"{path}:2"
    assert config.sources["budgets.max_seconds"] == "default"


def test_every_setting_has_a_description_and_a_valid_default() -> None:
    from jsonschema import Draft202012Validator

    for setting in SETTINGS:
        assert setting.description.endswith(".")
        if setting.default is REQUIRED or (setting.is_entry and setting.default is None):
            continue
        default = list(setting.default) if isinstance(setting.default, tuple) else setting.default
        Draft202012Validator(setting.schema).validate(default)


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("budgets:\n  max_stepz: 3\n", 2, "nearest: max_steps"),
        ("budgetz: {}\n", 1, "nearest: budgets"),
        ("budgets:\n  max_steps: lots\n", 2, "'lots', not a whole number or null"),
        ("budgets:\n  max_steps: -1\n", 2, "-1"),
        ("writes:\n  require_approval: no\n", 2, "'no', not true or false"),
        ("monitoring:\n  track:\n    - latency_p59\n", 3, "nearest: latency_p95"),
        ("a: &x 1\nb: *x\n", 2, "alias *x is not allowed"),
        ("budgets: {}\nwrites: {}\nbudgets: {}\n", 3, "'budgets' appears twice"),
        ("tools: [\n", 2, "not YAML"),
        ("prices:\n  m: {input_usd_per_mtok: 1}\n", 2, "output_usd_per_mtok"),
        ("- 1\n", 1, "a list of 1, not keys and values"),
    ],
)
def test_bad_setting_names_file_line_and_what_to_do(
    tmp_path: Path, text: str, line: int, says: str
) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert str(caught.value).startswith(f"{path}:{line}: ")
    assert says in str(caught.value)
    assert caught.value.hint


def test_file_without_end_is_refused_after_its_first_mebibyte() -> None:
    with pytest.raises(ConfigError, match="above 1 MiB"):
        load_config("/dev/zero")


def test_missing_file_is_an_error_with_its_path(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load_config(tmp_path / "none.yaml")


def test_bytes_that_are_not_utf8_are_an_error(tmp_path: Path) -> None:
    path = tmp_path / "flightlog.yaml"
    path.write_bytes(b"a: \xff")
    with pytest.raises(ConfigError, match="not UTF-8 at byte 3"):
        load_config(path)


def test_deep_nesting_is_an_error() -> None:
    with pytest.raises(ConfigError, match="nested more than 64 levels deep"):
        parse_yaml("[" * 100_000, where="deep.yaml")


def test_scalars_have_their_yaml_1_2_meaning() -> None:
    text = "[no, yes, on, 012, 22:30, 1_000, true, null, 7, 0.5, 1e3, '5', .inf, 2025-01-01]"
    value, _ = parse_yaml(text, where="x")
    expected = ["no", "yes", "on", "012", "22:30", "1_000", True, None, 7, 0.5, 1000.0, "5"]
    assert value == [*expected, ".inf", "2025-01-01"]
