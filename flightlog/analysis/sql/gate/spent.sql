-- What each run did with each tool, first calls and repeated ones apart.
--
-- The cost of a model call is shared out among the tool calls that it asked for in its step; that
-- of a step without tool calls stands in a row without a tool.
--
-- Columns:
--   tool_name: null for steps in which no tool was called
--   is_again: the run had made the same call with the same arguments before
--   calls [calls]: of the tool
--   failed [calls]: of these, that ran and failed
--   cost_usd [USD]: of the calls and of what asked for them; unknown costs count as 0
WITH calls AS (
    SELECT
        store,
        run_id,
        step,
        tool_name,
        outcome IN ('failed', 'timed_out', 'invalid_output') AS is_failed,
        coalesce(cost_usd, 0) AS own_usd,
        row_number() OVER (PARTITION BY store, run_id, tool_name, args ORDER BY seq) > 1
            AS is_again,
        count(*) OVER (PARTITION BY store, run_id, step) AS in_step
    FROM base.tool_calls
    WHERE actor = 'agent'
),
asked AS (
    SELECT store, run_id, step, fsum(coalesce(cost_usd, 0)) AS usd
    FROM base.model_calls
    WHERE actor = 'agent'
    GROUP BY store, run_id, step
),
shared AS (
    SELECT
        calls.store,
        calls.run_id,
        calls.tool_name,
        calls.is_again,
        1 AS calls,
        calls.is_failed::INT AS failed,
        calls.own_usd + coalesce(asked.usd, 0) / calls.in_step AS usd
    FROM calls
    LEFT JOIN asked USING (store, run_id, step)
    UNION ALL
    SELECT store, run_id, NULL, false, 0, 0, usd
    FROM asked
    ANTI JOIN calls USING (store, run_id, step)
)
SELECT
    store,
    run_id,
    tool_name,
    is_again,
    sum(calls)::DOUBLE AS calls,
    sum(failed)::DOUBLE AS failed,
    round(fsum(usd), 12)::DOUBLE AS cost_usd
FROM shared
GROUP BY store, run_id, tool_name, is_again
ORDER BY store, run_id, tool_name NULLS FIRST, is_again
