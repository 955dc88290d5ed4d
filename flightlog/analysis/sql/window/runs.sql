-- The runs of a window, numbered by their start; what they declared and how they ended.
-- Only runs that say when they began. Times are seconds since the epoch.
--
-- Parameters:
--   since: only runs that began then or later; null for all
--   until: only runs that began before; null for all
--   agent: only runs of this agent; null for all
--   tenant: only runs for this tenant; null for all
--   run_ids: only these runs; null for all
CREATE OR REPLACE TEMP TABLE window_runs AS
WITH started AS (
    SELECT
        store, run_id, agent, agent_version, model, tenant, suite, task_id, conversation_id,
        system_digest, toolset_digest, config_digest, epoch("at") AS began
    FROM base.events
    WHERE kind = 'run_started' AND "at" IS NOT NULL
        AND ($since::TIMESTAMP IS NULL OR "at" >= $since::TIMESTAMP)
        AND ($until::TIMESTAMP IS NULL OR "at" < $until::TIMESTAMP)
        AND ($agent::VARCHAR IS NULL OR agent = $agent::VARCHAR)
        AND ($tenant::VARCHAR IS NULL OR tenant = $tenant::VARCHAR)
        AND ($run_ids::VARCHAR[] IS NULL OR list_contains($run_ids::VARCHAR[], run_id))
),
stopped AS (
    SELECT
        store, run_id, epoch("at") AS ended, status, stop_reason, stop_tool, duration_ms
    FROM base.events
    WHERE kind = 'run_stopped'
),
judged AS (
    SELECT store, run_id, arg_max(passed, (coalesce("at", TIMESTAMP 'epoch'), seq)) AS success
    FROM base.events
    WHERE kind = 'evaluation' AND name = 'success'
    GROUP BY ALL
)
SELECT
    row_number() OVER (ORDER BY began, store, run_id) - 1 AS run,
    started.*,
    ended,
    status,
    -- A run without an end is still going on, or its source does not say why it ended.
    coalesce(stop_reason, 'none') AS stop_reason,
    stop_tool,
    duration_ms,
    success
FROM started
LEFT JOIN stopped USING (store, run_id)
LEFT JOIN judged USING (store, run_id)
ORDER BY run
