"""The documentation page of all settings, made from their table.

Write it anew with `python -m flightlog.config.page > docs/config.md`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from typing import Any, Final

from flightlog.config.settings import REQUIRED, SETTINGS, Setting

SAFE_DEFAULT: Final = """\
tools:
  allow: [search.read, kb.read, http.get]
budgets: {max_steps: 30, max_seconds: 90, max_tool_calls: 15}
writes: {require_approval: true}
monitoring:
  track: [tool_calls_per_run, tokens_per_request, stop_reason, latency_p95]
kill_switch: {mode_when_enabled: disable_writes}
"""
PRODUCTION: Final = """\
tools:
  allow: [search.read, "kb.*", http.get, crm.update]
budgets:
  max_steps: 30
  max_seconds: 90
  max_tool_calls: 15
  max_usd: 0.50                 # per run; every model needs a price, below or public
  per_tool:
    http.get: {max_calls: 5, max_seconds: 30}
  per_tenant:                   # over all processes on the store
    acme: {window_seconds: 86400, max_usd: 50}
    "*": {window_seconds: 3600, max_tool_calls: 1000, max_usd: 5}
writes: {require_approval: true}
approvals: {via: queue, wait_seconds: 60}   # flightlog approvals list|approve|deny
retries:
  http.get: {max_attempts: 3, initial_seconds: 0.5, max_seconds: 5}
model_retries: {max_attempts: 2}
breakers:
  http.get: {failure_rate: 0.5, min_calls: 5, open_seconds: 30, fallback: without_tool}
guards:
  actions: {repeated_call: stop, cycle: stop, policy_lost: read_only}
  repeats: 4
results: {max_bytes: 65536}
credentials:
  acme:
    crm.update: {token: {env: ACME_CRM_TOKEN}}
kill_switch: {mode_when_enabled: disable_writes}
redaction:
  emails: true
  key_names: [patient_id]
  patterns:
    customer: {regex: 'CUST-[0-9]{6}'}
monitoring:
  track: [tool_calls_per_run, stop_reason, cost_usd, searches_per_run]
  metrics:
    cost_usd: {tolerance: 0.10}
    searches_per_run:             # a metric of your own, over the views of flightlog sql
      sql: count(*) FILTER (WHERE tool_name = 'search.read')
      from: tool_calls
      tolerance: 0.20
prices:
  my-model: {input_usd_per_mtok: 0.40, output_usd_per_mtok: 1.60}
"""
_INTRO: Final = f"""\
# Settings

One file, `flightlog.yaml`, holds the policy of an agent and what `flightlog check` gates on.
This page is made from the table of settings; do not edit it.

* YAML or JSON (a file whose name ends in `.json`). YAML has the 1.2 meaning of words: only
  `true` and `false` are booleans, `no` and `012` are texts.
* Unknown keys at any depth, wrong types, aliases, tags and duplicate keys are errors that name
  the file, the line and the nearest valid key. So is a file above 1 MiB.
* What no file sets has its default; a limit that is `null` is no limit.
* A part in `<>` is a name of your choice. For tools and tenants it is an exact name, or a glob
  where one is written; the exact name wins, then the first glob that matches. A run without a
  tenant has the empty name.
* Times are seconds, money is US dollars.

The safe default, which is what holds without any file:

```yaml
{SAFE_DEFAULT}```

## In production

```sh
cat > production.yaml <<'END'
{PRODUCTION}END
flightlog config check production.yaml
flightlog config show production.yaml
```

`config check` prints the policy in one line. Settings that contradict each other (a limit of a
tool above that of the run, an entry for a tool that is not allowed, a wait longer than the run)
are warnings, and the exit code stays 0; an error exits with 64. `config show` prints every value
that is in force and the line it came from, `--all` what is off too, `--json` all that for
programs; without a file it takes `./flightlog.yaml` where there is one.

In code the file gives an agent its policy, prices and credentials; the queue of approvals is that
of the store:

```python
import flightlog
from flightlog.runtime import Usage, agent_settings
from flightlog.testing import FakeTool, ScriptedModel, asking, saying

told = {{"usage": Usage(900, 20)}}
answers = [asking(("http.get", {{}}), **told), saying("Done.", **told)]
model, tools = ScriptedModel("my-model", answers), [FakeTool("http.get")]  # your own here

settings = agent_settings("production.yaml", store="my-store")
agent = flightlog.Agent("support", model, tools, **settings)
with flightlog.Recorder("my-store") as recorder:
    task, context = flightlog.Task("t1", "Look it up."), flightlog.RunContext(tenant="acme")
    result = flightlog.run(agent, task, sink=recorder, context=context)
print(result.stop_reason, result.answer)
```
"""
_GROUPS: Final = {
    "Tools": ("tools", "results", "stop_on"),
    "Budgets": ("budgets",),
    "Writes, approvals, credentials": ("writes", "approvals", "credentials"),
    "Retries and circuit breakers": ("retries", "model_retries", "breakers"),
    "Guards": ("guards",),
    "Kill switch": ("kill_switch",),
    "Redaction": ("redaction",),
    "What check gates on": ("monitoring",),
    "Prices": ("prices",),
}
_TEXTS: Final = {
    "Budgets": """\
An attempt spends, also when it fails or is refused. `per_tool` counts within one run,
`per_tenant` over a sliding window that all processes on a store share.
""",
    "Writes, approvals, credentials": """\
A tool whose effect is unknown counts as a write. An approver given in code wins over
`approvals.via`. A credential reaches only the tool and the tenant that it is listed under, and
never the model or a trace; the variable is read when the agent is made. A variable that is not set
is an error before the run; a tool whose credential is not listed for the tenant is denied.
""",
    "Retries and circuit breakers": """\
Without an entry a call is tried once and no breaker opens. A write is tried again only where its
tool takes an idempotency key or says that it is idempotent.
""",
    "Guards": """\
Every finding is recorded in any case; `read_only` goes on without writes, `stop` ends the run.
""",
    "Redaction": """\
What is taken out before anything is written. The commands that record (`replay`, `import`, `kill`,
`approvals`) take it from `--config FILE`, where they have that option, or `./flightlog.yaml`; in
Python: `flightlog.Recorder(store, redaction=redaction_from("flightlog.yaml"))` with
`redaction_from` of `flightlog.redact.from_config`. See [redaction](redaction.md).
""",
    "What check gates on": """\
`flightlog check` takes `--config FILE`, else `./flightlog.yaml`, and says which file it used.
Where that file sets `monitoring.track`, exactly these metrics can fail the check, and `success`
with them wherever a run records it: no check passes a candidate that stopped succeeding. All
others are shown as advisory. Without a session that holds both sides latency stays advisory,
whatever is named, and cost and tokens do too unless the baseline has 3 sessions. `--metric` on
the command line wins over the file. In Python: `flightlog.compare(..., gated=[...])`.

`monitoring.metrics` sets tolerances, and makes metrics of your own: one SQL expression, run with
the rights of `flightlog sql`, that is aggregated over the rows which a run has in the view (a run
without rows has what the expression gives on no rows, 0 for a count), or, with `kind: p95`, has a
value in every row; a row with null does not count. All metrics: [checks](checks.md).
""",
    "Prices": """\
Own prices win over the public table (`pip install flightlog[prices]`). A budget in USD on a model
without a price is an error before the run.
""",
}
_TYPES: Final = {
    "integer": "whole number",
    "number": "number",
    "string": "text",
    "boolean": "`true` or `false`",
    "array": "list",
    "null": "`null`",
}
_RANGES: Final = (
    ("minimum", "from {}"),
    ("exclusiveMinimum", "above {}"),
    ("maximum", "to {}"),
)


def config_page() -> str:
    """The page as Markdown: how a file is read, an example, one table per group."""
    return "\n".join([_INTRO, *_sections()])


def _sections() -> Iterator[str]:
    for title, roots in _GROUPS.items():
        lines = [f"## {title}\n"]
        if title in _TEXTS:
            lines.append(_TEXTS[title])
        lines += ["| key | type | default | meaning |", "|---|---|---|---|"]
        lines += [_row(setting) for setting in SETTINGS if setting.keys[0] in roots]
        yield "\n".join(lines) + "\n"


def _row(setting: Setting) -> str:
    cells = (f"`{setting.path}`", _type(setting.schema), _default(setting), setting.description)
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _type(schema: Mapping[str, Any]) -> str:
    """A JSON Schema of the table in words."""
    if "enum" in schema:
        return " or ".join(f"`{item}`" for item in schema["enum"])
    if schema["type"] == "array":
        items = schema["items"]
        inner = ", ".join(f"`{item}`" for item in items["enum"]) if "enum" in items else "texts"
        return f"list of {inner}"
    kinds = [schema["type"]] if isinstance(schema["type"], str) else list(schema["type"])
    bounds = " ".join(form.format(schema[key]) for key, form in _RANGES if key in schema)
    first = f"{_TYPES[kinds[0]]} {bounds}".strip()
    return " or ".join([first, *(_TYPES[kind] for kind in kinds[1:])])


def _default(setting: Setting) -> str:
    if setting.default is REQUIRED:
        return "required"
    return f"`{json.dumps(setting.default)}`"


if __name__ == "__main__":
    sys.stdout.write(config_page())
