-- What is spent on whom, and around which tool? The cost of a model call goes in equal parts to
-- the tools that the agent called in its step.
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
--   owner: tenant on whose behalf the runs acted; null without one
--   tool_name: tool; null for model calls of steps without a tool call
--   runs [runs]: runs with such calls
--   tool_calls [calls]: attempts that went to the tool
--   model_usd [USD]: cost of the model calls, by parts
--   tool_usd [USD]: cost of the tool calls themselves
--   cost_usd [USD]: model_usd + tool_usd
--   share: cost_usd / that of all rows of the group
--   unpriced [calls]: answered model calls without a price, by parts, which the sums leave out
WITH chosen AS (
    SELECT * FROM chosen_runs(
        $source::VARCHAR, $suite::VARCHAR, $model::VARCHAR, $variant::VARCHAR, $agent::VARCHAR,
        $tenant::VARCHAR, $since::TIMESTAMP, $until::TIMESTAMP, $by::VARCHAR
    )
),
used AS (
    SELECT
        chosen.*,
        calls.step,
        calls.tool_name,
        count(*) AS made,
        sum(calls.cost_usd) AS tool_usd
    FROM chosen
    JOIN base.tool_calls AS calls USING (store, run_id)
    WHERE calls.actor = 'agent'
        AND calls.outcome IN ('ok', 'failed', 'timed_out', 'invalid_output')
    GROUP BY ALL
),
asked AS (
    SELECT
        chosen.*,
        calls.step,
        sum(calls.cost_usd) AS usd,
        count(*) FILTER (calls.outcome = 'ok' AND calls.cost_usd IS NULL) AS unpriced
    FROM chosen
    JOIN base.model_calls AS calls USING (store, run_id)
    WHERE calls.actor = 'agent'
    GROUP BY ALL
),
parts AS (
    SELECT store, run_id, step, sum(made) AS calls_of_step FROM used GROUP BY ALL
),
split AS (
    SELECT
        by_source, by_suite, by_model, by_variant, by_agent, by_tenant,
        tenant, store, run_id, tool_name, made,
        0.0 AS model_usd, coalesce(tool_usd, 0) AS tool_usd, 0.0 AS unpriced
    FROM used
    UNION ALL
    SELECT
        asked.by_source, asked.by_suite, asked.by_model, asked.by_variant, asked.by_agent,
        asked.by_tenant, asked.tenant, asked.store, asked.run_id, used.tool_name, 0,
        coalesce(asked.usd, 0) * coalesce(used.made / calls_of_step, 1), 0.0,
        asked.unpriced * coalesce(used.made / calls_of_step, 1)
    FROM asked
    LEFT JOIN parts USING (store, run_id, step)
    LEFT JOIN used USING (store, run_id, step)
)
SELECT
    by_source AS source,
    by_suite AS suite,
    by_model AS model,
    by_variant AS variant,
    by_agent AS agent,
    by_tenant AS tenant,
    tenant AS owner,
    tool_name,
    count(DISTINCT (store, run_id)) AS runs,
    sum(made)::BIGINT AS tool_calls,
    round(fsum(model_usd), 12) AS model_usd,
    round(fsum(tool_usd), 12) AS tool_usd,
    round(fsum(model_usd + tool_usd), 12) AS cost_usd,
    cost_usd / nullif(
        sum(cost_usd) OVER (
            PARTITION BY by_source, by_suite, by_model, by_variant, by_agent, by_tenant
        ), 0
    ) AS share,
    sum(unpriced) AS unpriced
FROM split
GROUP BY by_source, by_suite, by_model, by_variant, by_agent, by_tenant, split.tenant, tool_name
ORDER BY 1, 2, 3, 4, 5, 6, cost_usd DESC, owner, tool_name
