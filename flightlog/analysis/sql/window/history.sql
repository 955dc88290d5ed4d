-- Every call of some runs in the order in which each run made them.
--
-- Parameters:
--   runs: numbers of the runs; null for all
SELECT
    run,
    seq,
    coalesce(step, 0) AS step,
    s,
    true AS is_tool,
    tool AS name,
    has_run,
    outcome = 'ok' AS is_ok,
    is_write,
    attempt,
    same,
    told,
    coalesce(cost_usd, 0) AS usd,
    0 AS tokens,
    false AS lost_policy
FROM window_tools
WHERE $runs::BIGINT[] IS NULL OR run IN (SELECT unnest($runs::BIGINT[]))
UNION ALL
SELECT
    run,
    seq,
    coalesce(step, 0),
    s,
    false,
    model,
    true,
    outcome = 'ok',
    false,
    attempt,
    0,
    0,
    coalesce(cost_usd, 0),
    coalesce(input_tokens, 0) + coalesce(output_tokens, 0),
    NOT coalesce(has_policy, true)
FROM window_models
WHERE $runs::BIGINT[] IS NULL OR run IN (SELECT unnest($runs::BIGINT[]))
ORDER BY run, seq
