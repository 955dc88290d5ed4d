-- The runs of both sides, one row per started run, in an order that only the data decides.
--
-- $BASELINE and $CANDIDATE stand for the conditions of the sides; their values are
-- parameters. A run that meets both is on both sides.
--
-- Columns:
--   is_baseline: the run is on the baseline's side
--   is_candidate: the run is on the candidate's side
--   success: 1 passed, 0 failed; null unknown
WITH sided AS (
    SELECT
        *,
        $BASELINE AS is_baseline,
        $CANDIDATE AS is_candidate
    FROM runs
)
SELECT
    store,
    run_id,
    is_baseline,
    is_candidate,
    coalesce(suite, '') AS suite,
    coalesce(task_id, '') AS task_id,
    task_digest,
    session_id,
    status,
    stop_reason,
    tool_calls::DOUBLE AS tool_calls,
    tokens_per_request::DOUBLE AS tokens_per_request,
    cost_usd::DOUBLE AS cost_usd,
    success::DOUBLE AS success
FROM sided
WHERE is_baseline OR is_candidate
ORDER BY
    suite, task_id, task_digest, is_candidate, session_id, tool_calls, tokens_per_request,
    cost_usd, success, stop_reason, run_id, store
