"""The rules of flightlog.yaml."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flightlog.config import SETTINGS, default_config, load_config, parse_yaml
from flightlog.config.effective import effective
from flightlog.config.page import PRODUCTION, SAFE_DEFAULT, config_page
from flightlog.config.reading import parse_json
from flightlog.config.settings import REQUIRED, file_schema
from flightlog.config.validation import key_text
from flightlog.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]
SEED = """\
tools.allow: [search.read, kb.read, http.get]
budgets: {max_steps: 30, max_seconds: 90, max_tool_calls: 15}
writes: {require_approval: true}
monitoring: {track: [tool_calls_per_run, tokens_per_request, stop_reason, latency_p95]}
kill_switch: {mode_when_enabled: disable_writes}
"""
SEED_JSON = """\
{
\t"tools.allow": ["search.read", "kb.read", "http.get"],
\t"budgets": {"max_steps": 30, "max_seconds": 90, "max_tool_calls": 15},
\t"writes": {"require_approval": true},
\t"monitoring": {
\t\t"track": ["tool_calls_per_run", "tokens_per_request", "stop_reason", "latency_p95"]
\t},
\t"kill_switch": {"mode_when_enabled": "disable_writes"}
}
"""


def write(tmp_path: Path, text: str, name: str = "flightlog.yaml") -> Path:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def refused(path: Path) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert caught.value.hint
    return caught.value


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (SEED, "flightlog.yaml"),
        (SEED.replace("tools.allow:", "tools:\n  allow:"), "flightlog.yaml"),
        (SEED_JSON, "flightlog.json"),
        (SEED_JSON.replace("\t", " "), "flightlog.yaml"),
        (SAFE_DEFAULT, "flightlog.yaml"),
        ("\ufeff" + SEED, "flightlog.yaml"),
    ],
)
def test_seed_configuration_loads_as_it_stands_and_equals_the_safe_default(
    tmp_path: Path, text: str, name: str
) -> None:
    config = load_config(write(tmp_path, text, name))
    assert config.values == default_config().values
    assert config.is_set("tools.allow")
    assert not config.is_set("budgets.max_usd")


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


def test_a_key_of_an_entry_knows_its_line_too(tmp_path: Path) -> None:
    path = write(tmp_path, 'retries:\n  "http.*":\n    max_attempts: 4\n  a: {}\n')
    config = load_config(path)
    assert config["retries"] == {"http.*": {"max_attempts": 4}, "a": {}}
    assert config.where("retries", "http.*", "max_attempts") == f"{path}:3"
    assert config.where("retries", "http.*", "jitter") == f"{path}:2"
    assert config.where("retries", "a") == f"{path}:4"
    assert config.where("budgets.per_tool", "a", "max_calls") == "default"
    assert default_config().where("retries", "a") == "default"


def test_dotted_keys_stand_for_groups_and_keep_their_lines(tmp_path: Path) -> None:
    text = "budgets: {max_steps: 3}\nbudgets.max_usd: 2\nbudgets.per_tool:\n  a.b: {max_calls: 1}\n"
    path = write(tmp_path, text)
    config = load_config(path)
    assert (config["budgets.max_steps"], config["budgets.max_usd"]) == (3, 2)
    assert config["budgets.per_tool"] == {"a.b": {"max_calls": 1}}
    assert config.sources["budgets.max_usd"] == f"{path}:2"
    assert config.where("budgets.per_tool", "a.b", "max_calls") == f"{path}:4"


@pytest.mark.parametrize(
    "text",
    ["tools: {allow: [a]}\ntools.allow: [b]\n", "tools: 1\ntools.allow: [b]\n"],
)
def test_a_setting_cannot_stand_in_both_ways(tmp_path: Path, text: str) -> None:
    error = refused(write(tmp_path, text))
    assert "is set twice" in error.what
    assert error.where.endswith(":2")


def test_every_setting_has_a_description_and_a_valid_default() -> None:
    from jsonschema import Draft202012Validator

    for setting in SETTINGS:
        assert setting.description.endswith(".")
        if setting.default is REQUIRED or (setting.is_entry and setting.default is None):
            continue
        default = list(setting.default) if isinstance(setting.default, tuple) else setting.default
        Draft202012Validator(setting.schema).validate(default)
    Draft202012Validator.check_schema(file_schema())


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("budgets:\n  max_stepz: 3\n", 2, "nearest: max_steps"),
        ("budgetz: {}\n", 1, "nearest: budgets"),
        ("budgets:\n  max_steps: lots\n", 2, "'lots', not a whole number or null"),
        ("budgets:\n  max_steps: 3.0\n", 2, "3.0, not a whole number"),
        ("budgets:\n  max_steps: true\n", 2, "true, not a whole number"),
        ("budgets:\n  max_steps: -1\n", 2, "is -1, not above 0"),
        ("budgets:\n  max_usd: 1e999\n", 2, "'1e999', not a number"),
        ("budgets:\n  max_usd: .inf\n", 2, "'.inf', not a number"),
        ("budgets:\n", 1, "budgets is null, not keys and values"),
        ("writes:\n  require_approval: no\n", 2, "'no', not true or false"),
        ("monitoring:\n  track:\n    - latency_p59\n", 3, "nearest: latency_p95"),
        ("monitoring: {track: []}\n", 1, "monitoring.track is empty"),
        ("tools: {allow: ['']}\n", 1, "tools.allow[0] is empty"),
        ("a: &x 1\nb: *x\n", 2, "alias *x is not allowed"),
        ("budgets:\n  max_steps: !!int 3\n", 2, "tag 'tag:yaml.org,2002:int' is not allowed"),
        ("tools: !!python/object:os.system {}\n", 1, "is not allowed"),
        ("budgets: {}\nwrites: {}\nbudgets: {}\n", 3, "'budgets' appears twice"),
        ("retries:\n  a:\n    jitter: 0\n    jitter: 1\n", 4, "'jitter' appears twice"),
        ("tools: [\n", 2, "not YAML"),
        ("tools: {allow: [a\x1b]}\n", 1, "character"),
        ("prices:\n  m: {input_usd_per_mtok: 1}\n", 2, "output_usd_per_mtok is missing"),
        ("- 1\n", 1, "a list of 1, not keys and values"),
        ("max_steps: 3\n", 1, "it belongs under: budgets.max_steps"),
        ("retries:\n  http.get:\n    max_attempt: 3\n", 3, 'retries."http.get".max_attempt'),
        ("retries:\n  http.get:\n    max_attempt: 3\n", 3, "nearest: max_attempts"),
        ("retries: {max_attempts: 3}\n", 1, "Its keys: retries.<tool>.max_attempts"),
        ("budgets:\n  per_tenant:\n    acme: {max_usd: 3}\n", 3, "window_seconds is missing"),
        ("breakers:\n  a: {fallback: readonly}\n", 2, "nearest: read_only"),
        ("breakers:\n  a: {failure_rate: 2}\n", 2, "is 2, not at most 1"),
        ("guards:\n  actions: {loop: stop}\n", 2, "unknown key 'guards.actions.loop'"),
        ("stop_on: [ok]\n", 1, "stop_on[0]: 'ok' is unknown"),
        ("kill_switch: {mode_when_enabled: stop_al}\n", 1, "nearest: stop_all"),
        ("kill_switch: {mode_when_enabled: 'disable_tools:'}\n", 1, "nearest: disable_tools:GLOB"),
        ("approvals: {via: slack}\n", 1, "one of: none, terminal, queue"),
        ("budgets: {max_steps: '3'}\n", 1, "Write it as 3, without quotes."),
        ("budgets: {max_usd: '0.50'}\n", 1, "Write it as 0.5, without quotes."),
        ("budgets: {max_steps: 1e3}\n", 1, "Write it as 1000."),
        ("budgets: {max_steps: 1_000}\n", 1, "Write the digits alone, such as 12: no unit"),
        ("budgets: {max_seconds: 90s}\n", 1, "Write the digits alone, such as 0.5: no unit"),
        ("budgets: {max_steps: -1}\n", 1, "Write a whole number above 0, or null."),
        ("breakers: {a: {failure_rate: 50}}\n", 1, "Write a number above 0 and at most 1."),
        ("tools: {allow: search}\n", 1, "Write a list: [search]."),
        ("budgets:\n\tmax_steps: 3\n", 2, "a tab stands where only spaces may"),
        ("writes: {}\n---\ntools: {}\n", 2, "a second document begins here"),
        ("writes: {}\ntools: {}\nwrites: {}\n", 3, "appears twice, first in line 1"),
    ],
)
def test_bad_setting_names_file_line_and_what_to_do(
    tmp_path: Path, text: str, line: int, says: str
) -> None:
    path = write(tmp_path, text)
    error = refused(path)
    assert str(error).startswith(f"{path}:{line}: ")
    assert says in str(error)


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ('{"a": 1,\n "a": 2}', 2, "'a' appears twice, first in line 1"),
        ('{"budgets": {\n"max_steps": 1,\n"max_steps": 2}}', 3, "'max_steps' appears twice"),
        ('{"budgets": {},\n "budgetz": {}}', 2, "nearest: budgets"),
        ('{"budgets": {"max_usd":\n NaN}}', 2, "'N' is not expected"),
        ('{"budgets": {"max_usd": 1e999}}', 1, "'1e999', not a number"),
        ('{"budgets": {"max_steps": 01}}', 1, "not JSON"),
        ('{"budgets": {"max_steps": 1,}}', 1, "a value is missing between ',' and '}'"),
        ('{"budgets": {"max_steps" 1}}', 1, "':' is missing after key 'max_steps'"),
        ('{"tools": {"allow": ["a" "b"]}}', 1, "',' or ']' is missing"),
        ('{"tools": {"allow": ["a"}}', 1, "',' or ']' is missing"),
        ("{'tools': 1}", 1, "is not expected"),
        ("{tools: 1}", 1, "is not expected"),
        ('{"tools": {"allow": ["\\ud800"]}}', 1, "half a character"),
        ('{"tools": {"allow": ["\\x"]}}', 1, "not JSON"),
        ('{"tools": {}}\n{}', 2, "text after the end"),
        ('{"tools": {\n', 2, "a key in double quotes is missing"),
        ('{"tools":\n', 2, "it ends too early"),
        ("", 1, "it ends too early"),
        ("# yaml\n", 1, "is not expected"),
    ],
)
def test_bad_json_names_file_line_and_what_to_do(
    tmp_path: Path, text: str, line: int, says: str
) -> None:
    path = write(tmp_path, text, "flightlog.json")
    error = refused(path)
    assert str(error).startswith(f"{path}:{line}: ")
    assert says in str(error)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**15), 10**15) | st.text(max_size=9)
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=20,
)  # fmt: skip


@given(json_values, st.sampled_from([None, 1, "\t"]), st.booleans())
def test_json_reads_what_json_writes(value: object, indent: int | str | None, ascii_: bool) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_)
    read, lines = parse_json(text, where="x")
    assert read == value
    assert lines[()] == 1
    assert max(lines.values()) <= text.count("\n") + 1


@given(st.text(alphabet='{}[],:"\\ntruefalsu0123456789.eE+- \n\t\x00\u2028é', max_size=30))
def test_json_accepts_no_more_than_the_standard(text: str) -> None:
    def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
        if len(dict(pairs)) != len(pairs):
            raise ValueError("twice")
        return dict(pairs)

    try:
        expected = json.loads(text, object_pairs_hook=unique, parse_constant=lambda _: 1 / 0)
    except (ValueError, ZeroDivisionError):
        with pytest.raises(ConfigError):
            parse_json(text, where="x")
    else:
        read = parse_json(text, where="x")[0]
        assert read == expected or "e" in text.lower() or len(text) > 19


def test_a_wrong_credential_is_never_shown(tmp_path: Path) -> None:
    for text in (
        "credentials: {acme: {http.get: {token: sk-live-123}}}",
        "credentials: {acme: {http.get: {token: {env: sk-live-123}}}}",
        "credentials: {acme: {http.get: [sk-live-123]}}",
        "credentials: sk-live-123",
    ):
        error = refused(write(tmp_path, text))
        assert "sk-live" not in str(error)
        assert "credentials" in error.what


def test_huge_file_is_refused_after_its_first_mebibyte(tmp_path: Path) -> None:
    path = write(tmp_path, "")
    with path.open("wb") as file:
        file.truncate(1 << 40)  # takes no room on the disk
    assert "above 1 MiB" in refused(path).what


def test_device_is_refused_unread() -> None:
    with pytest.raises(ConfigError, match="is not a regular file but a device"):
        load_config("/dev/zero")


@pytest.mark.parametrize("name", ["flightlog.yaml", "flightlog.json"])
@pytest.mark.parametrize(
    "text",
    [
        "[" * 500_000,
        '{"a":' * 100_000,
        '{"tools": {"allow": [' + "1," * 300_000 + "1]}}",
        '{"tools": "' + "x" * 900_000 + '"}',
        '{"' + "k" * 900_000 + '": 1}',
        '{"prices": {' + ",".join(f'"m{i}": 1' for i in range(40_000)) + "}}",
        '"' * 900_001,
        '"\\' * 400_000,
    ],
)
def test_hostile_file_is_refused_in_a_short_text(tmp_path: Path, text: str, name: str) -> None:
    assert len(str(refused(write(tmp_path, text, name)))) < 1000


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
    with pytest.raises(ConfigError, match="nested more than 64 levels deep"):
        parse_json("[" * 100_000, where="deep.json")


def test_scalars_have_their_yaml_1_2_meaning() -> None:
    text = "[no, yes, on, 012, 22:30, 1_000, true, null, 7, 0.5, 1e3, '5', .inf, 2025-01-01]"
    value, _ = parse_yaml(text, where="x")
    expected = ["no", "yes", "on", "012", "22:30", "1_000", True, None, 7, 0.5, 1000.0, "5"]
    assert value == [*expected, ".inf", "2025-01-01"]


def test_effective_settings_hold_every_key_of_every_entry(tmp_path: Path) -> None:
    text = "budgets:\n  per_tool:\n    a: {max_calls: 2}\ncredentials: {t: {x: {n: {env: V}}}}\n"
    path = write(tmp_path, text)
    rows = {row.keys: row for row in effective(load_config(path))}
    calls = rows["budgets", "per_tool", "a", "max_calls"]
    assert (calls.value, calls.source) == (2, f"{path}:3")
    assert rows["budgets", "per_tool", "a", "max_usd"].is_off
    assert rows["credentials", "t", "x", "n", "env"].value == "V"
    assert rows["prices", "<model>", "input_usd_per_mtok"].is_off
    assert len(effective(default_config())) == len(SETTINGS)


def test_keys_are_shown_so_that_dots_in_names_are_no_groups() -> None:
    assert key_text(("retries", "http.*", "jitter")) == 'retries."http.*".jitter'
    assert key_text(("tools", "allow", 0)) == "tools.allow[0]"
    assert key_text(("a", '"\\')) == 'a."\\"\\\\"'


def test_the_page_of_settings_is_current() -> None:
    page = (ROOT / "docs" / "config.md").read_text(encoding="utf-8")
    assert page == config_page(), "python -m flightlog.config.page > docs/config.md"
    for setting in SETTINGS:
        assert f"| `{setting.path}` |" in page


def test_the_example_of_the_page_sets_something_of_every_group(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, PRODUCTION))
    missing = {setting.root for setting in SETTINGS if not config.is_set(setting.root)}
    groups = {setting.root.split(".")[0] for setting in SETTINGS}
    assert {root.split(".")[0] for root in set(config.values) - missing} == groups - {"stop_on"}
