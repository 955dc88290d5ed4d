-- Which guardrails changed state, and when? One row per change and hour; what many runs
-- saw in one hour is counted.
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
--   hour [UTC timestamp]: hour of the changes, wall clock time
--   subject: breaker, kill_switch, approval, degrade or guard
--   tool_name: tool that the change is about; null for the whole run
--   state_from: state before
--   state_to: state after; of a guard what it found, or ok at its end
--   changes [changes]: how often it was recorded
--   runs [runs]: runs that recorded it
--   first_at [UTC timestamp]: the first of the hour
--   last_at [UTC timestamp]: the last of the hour
--   first_detail: what the first one said
WITH counted AS (
    SELECT
        by_source,
        by_suite,
        by_model,
        by_variant,
        by_agent,
        by_tenant,
        date_trunc('hour', changed."at") AS hour,
        changed.subject,
        changed.tool_name,
        changed.state_from,
        changed.state_to,
        count(*) AS changes,
        count(DISTINCT (store, run_id)) AS runs,
        min(changed."at") AS first_at,
        max(changed."at") AS last_at,
        arg_min(changed.detail, (changed."at", run_id, changed.seq)) AS first_detail
    FROM chosen_runs(
        $source::VARCHAR, $suite::VARCHAR, $model::VARCHAR, $variant::VARCHAR, $agent::VARCHAR,
        $tenant::VARCHAR, $since::TIMESTAMP, $until::TIMESTAMP, $by::VARCHAR
    ) AS chosen
    JOIN base.events AS changed USING (store, run_id)
    WHERE changed.kind = 'state_changed'
    GROUP BY ALL
)

SELECT
    by_source AS source,
    by_suite AS suite,
    by_model AS model,
    by_variant AS variant,
    by_agent AS agent,
    by_tenant AS tenant,
    hour,
    subject,
    tool_name,
    state_from,
    state_to,
    changes,
    runs,
    first_at,
    last_at,
    first_detail
FROM counted
ORDER BY 1, 2, 3, 4, 5, 6, first_at, subject, tool_name, state_from, state_to
