-- What did the guards find about loops and lost context, and how did those runs end?
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
--   guard: repeated_call, cycle, no_progress, prompt_growth, context_limit, truncated or
--     policy_lost
--   tool_name: tool that the finding is about; null for the prompt
--   findings [findings]: how often it was found
--   runs [runs]: runs in which it was found
--   share: runs / all runs of the group
--   first_step [steps]: median over these runs of the step at which it was first found
--   stopped [runs]: of these runs those that ended with loop_detected or context_overflow
--   failures [runs]: of these runs those that were judged and did not succeed
--   unknown [runs]: of these runs those that nobody judged
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

by_run AS (
    SELECT
        by_source,
        by_suite,
        by_model,
        by_variant,
        by_agent,
        by_tenant,
        all_runs,
        found.state_to AS guard,
        found.tool_name,
        store,
        run_id,
        any_value(chosen.stop_reason) AS stop_reason,
        any_value(chosen.success) AS success,
        count(*) AS findings,
        min(found.step) AS first_step
    FROM chosen
    JOIN base.events AS found USING (store, run_id)
    WHERE found.kind = 'state_changed' AND found.subject = 'guard' AND found.state_to <> 'ok'
    GROUP BY ALL
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
        guard,
        tool_name,
        sum(findings)::BIGINT AS findings,
        count(*) AS runs,
        quantile_cont(first_step, 0.5) AS first_step,
        count(*) FILTER (stop_reason IN ('loop_detected', 'context_overflow')) AS stopped,
        count(*) FILTER (NOT success) AS failures,
        count(*) FILTER (success IS NULL) AS unknown
    FROM by_run
    GROUP BY ALL
)

SELECT
    by_source AS source,
    by_suite AS suite,
    by_model AS model,
    by_variant AS variant,
    by_agent AS agent,
    by_tenant AS tenant,
    guard,
    tool_name,
    findings,
    runs,
    runs / all_runs AS share,
    first_step,
    stopped,
    failures,
    unknown
FROM counted
ORDER BY 1, 2, 3, 4, 5, 6, runs DESC, guard, tool_name
