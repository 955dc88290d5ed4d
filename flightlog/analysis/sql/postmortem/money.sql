-- What was spent and wasted, by agent and tenant.
--
-- Wasted is the whole cost of a run that did not end with an answer (or whose answer was judged
-- wrong), and in the other runs the model calls of steps whose tools told nothing new, because
-- all of them failed, were refused or had been asked the same before.
WITH asked AS (
    SELECT
        run,
        step,
        outcome = 'ok' AND row_number() OVER (PARTITION BY run, same, told ORDER BY seq) = 1
            AS is_new
    FROM window_tools
),
steps AS (
    SELECT run, step, NOT bool_or(is_new) AS is_empty
    FROM asked
    WHERE step IS NOT NULL
    GROUP BY ALL
),
spent AS (
    SELECT models.run, sum(models.cost_usd) AS usd,
        sum(models.cost_usd) FILTER (steps.is_empty) AS empty_usd,
        count(*) FILTER (outcome = 'ok' AND models.cost_usd IS NULL) AS unpriced
    FROM window_models AS models
    LEFT JOIN steps USING (run, step)
    GROUP BY ALL
),
tools AS (
    SELECT run, sum(cost_usd) AS usd FROM window_tools GROUP BY ALL
)
SELECT
    runs.agent,
    runs.tenant,
    count(*) AS runs,
    count(*) FILTER (stop_reason <> 'ok' OR (success IS NOT NULL AND NOT success)) AS useless_runs,
    coalesce(sum(coalesce(spent.usd, 0) + coalesce(tools.usd, 0)), 0) AS usd,
    coalesce(sum(coalesce(spent.usd, 0) + coalesce(tools.usd, 0))
        FILTER (stop_reason <> 'ok' OR (success IS NOT NULL AND NOT success)), 0) AS usd_of_useless_runs,
    coalesce(sum(empty_usd) FILTER (NOT (stop_reason <> 'ok' OR (success IS NOT NULL AND NOT success))), 0)
        AS usd_of_empty_steps,
    coalesce(sum(unpriced), 0) AS unpriced_calls
FROM window_runs AS runs
LEFT JOIN spent USING (run)
LEFT JOIN tools USING (run)
WHERE $since::DOUBLE IS NULL OR (began >= $since::DOUBLE AND began < $until::DOUBLE)
GROUP BY ALL
ORDER BY usd DESC, runs.agent, runs.tenant
