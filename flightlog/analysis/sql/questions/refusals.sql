-- Why were tool calls refused? One row per reason and tool; the tool was not called.
--
-- Parameters:
--   source: only runs imported from this source; null for all
--   suite: only runs of this suite; null for all
--   model: only runs of this model; null for all
--   variant: only runs of this variant; null for all
--   agent: only runs of this agent; null for all
--   tenant: only runs for this tenant; null for all
--   since: only runs that began then or later; null for all
--   until: only runs that began before; null for all
--   by: comma-separated list of source, suite, model, variant, agent, tenant to group by; null
--     for one group
-- Columns:
--   source: group; null unless grouped by
--   suite: group; null unless grouped by
--   model: group; null unless grouped by
--   variant: group; null unless grouped by
--   agent: group; null unless grouped by
--   tenant: group; null unless grouped by
--   outcome: denied, invalid_input, circuit_open, deduplicated, approval_denied, kill_switch,
--     budget or replay_miss
--   error_type: the reason in one word, such as tool_not_allowed or max_tool_calls
--   tool_name: tool, as the model named it
--   calls [calls]: refused calls of the agent
--   runs [runs]: runs with at least one of them
--   share: runs / all runs of the group
--   first_at [UTC timestamp]: wall clock time of the first
--   last_at [UTC timestamp]: wall clock time of the last
--   first_error: what the first one said
WITH chosen AS (
    SELECT
        *,
        count(*) OVER (
            PARTITION BY by_source, by_suite, by_model, by_variant, by_agent, by_tenant
        ) AS all_runs
    FROM chosen_runs(
        $source::VARCHAR, $suite::VARCHAR, $model::VARCHAR, $variant::VARCHAR, $agent::VARCHAR,
        $tenant::VARCHAR, $since::TIMESTAMP, $until::TIMESTAMP, $by::VARCHAR
    )
),

counted AS (
    SELECT
        by_source,
        by_suite,
        by_model,
        by_variant,
        by_agent,
        by_tenant,
        all_runs,
        calls.outcome,
        calls.error_type,
        calls.tool_name,
        count(*) AS calls,
        count(DISTINCT (store, run_id)) AS runs,
        min(calls."at") AS first_at,
        max(calls."at") AS last_at,
        arg_min(calls.error, (calls."at", run_id, calls.seq)) AS first_error
    FROM chosen
    JOIN base.tool_calls AS calls USING (store, run_id)
    WHERE calls.actor = 'agent'
        AND calls.outcome NOT IN ('ok', 'failed', 'timed_out', 'invalid_output')
    GROUP BY ALL
)

SELECT
    by_source AS source,
    by_suite AS suite,
    by_model AS model,
    by_variant AS variant,
    by_agent AS agent,
    by_tenant AS tenant,
    outcome,
    error_type,
    tool_name,
    calls,
    runs,
    runs / all_runs AS share,
    first_at,
    last_at,
    first_error
FROM counted
ORDER BY 1, 2, 3, 4, 5, 6, calls DESC, outcome, error_type, tool_name
