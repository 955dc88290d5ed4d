-- Which runs made the most tool calls?
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
--   most: rows at most; null for 20
-- Columns:
--   source: group; null unless grouped by
--   suite: group; null unless grouped by
--   model: group; null unless grouped by
--   variant: group; null unless grouped by
--   agent: group; null unless grouped by
--   tenant: group; null unless grouped by
--   store: store that the run is in
--   run_id: run
--   began [UTC timestamp]: its start
--   task_id: its task
--   stop_reason: why it ended; null when unknown
--   steps [steps]: turns of the loop
--   tool_calls [calls]: attempts, refusals included
--   tool_failures [calls]: of these, failed
--   retries [attempts]: second and later attempts of models and tools
--   tokens [tokens]: both ways; null when unknown
--   cost_usd [USD]: null when unknown
--   duration_ms [ms]: null when unknown
--   success: as judged; null when not
SELECT
    by_source AS source,
    by_suite AS suite,
    by_model AS model,
    by_variant AS variant,
    by_agent AS agent,
    by_tenant AS tenant,
    store,
    run_id,
    started_at AS began,
    task_id,
    stop_reason,
    steps,
    tool_calls,
    tool_failures,
    retries,
    tokens,
    cost_usd,
    duration_ms,
    success
FROM chosen_runs(
        $source::VARCHAR, $suite::VARCHAR, $model::VARCHAR, $variant::VARCHAR, $agent::VARCHAR,
        $tenant::VARCHAR, $since::TIMESTAMP, $until::TIMESTAMP, $by::VARCHAR
    )
WHERE tool_calls IS NOT NULL
QUALIFY row_number() OVER (
    PARTITION BY by_source, by_suite, by_model, by_variant, by_agent, by_tenant
    ORDER BY tool_calls DESC, run_id, store
) <= coalesce($most::BIGINT, 20)
ORDER BY 1, 2, 3, 4, 5, 6, tool_calls DESC, run_id, store
