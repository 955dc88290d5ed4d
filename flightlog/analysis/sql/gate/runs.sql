-- The runs of both sides, one row per started run, in an order that only the data decides.
--
-- $BASELINE and $CANDIDATE stand for the conditions of the sides; their values are
-- parameters. A run that meets both is on both sides.
--
-- Columns:
--   is_baseline: the run is on the baseline's side
--   is_candidate: the run is on the candidate's side
--   is_void: a replay that says nothing of the agent: it missed a call, was cut off, or was
--     found void when it was judged
--   degraded: why a replay is to be trusted less; null for others
--   usd_per_mtok [USD]: cost per million tokens of the run
--   failed_share [share of tool calls]: that ran and failed; 0 for a run without tool calls
--   retried_share [share of calls]: model and tool calls that were a later attempt
--   success: 1 passed, 0 failed; null unknown
--
-- A trial of a replay that was cut off, at the latest before it was judged, and then replayed to
-- its end in the same session is left out: the later run stands for it.
WITH trusted AS (
    SELECT store, run_id, arg_max(detail, seq) AS validity
    FROM events
    WHERE kind = 'evaluation' AND name = 'validity'
    GROUP BY store, run_id
),
standing AS (
    SELECT
        runs.*,
        coalesce(origin = 'replay', false)
            AND coalesce(status = 'running' OR stop_reason IN ('crashed', 'cancelled'), false)
            AS is_cut,
        coalesce(origin = 'replay', false) AND trusted.validity IS NULL AS is_unjudged,
        coalesce(trusted.validity LIKE 'void%', false) AS is_judged_void,
        CASE WHEN trusted.validity LIKE 'degraded%' THEN trusted.validity END AS degraded
    FROM runs
    LEFT JOIN trusted ON trusted.store = runs.store AND trusted.run_id = runs.run_id
),
sided AS (
    SELECT
        *,
        session_id IS NOT NULL AND golden IS NOT NULL AND trial IS NOT NULL
            AND coalesce(
                (is_cut AND max(started_at) FILTER (NOT is_cut) OVER trials >= started_at)
                OR (
                    is_unjudged
                    AND max(started_at) FILTER (NOT is_unjudged) OVER trials >= started_at
                ),
                false
            ) AS is_superseded,
        $BASELINE AS is_baseline,
        $CANDIDATE AS is_candidate
    FROM standing
    WINDOW trials AS (PARTITION BY store, session_id, variant, golden, trial)
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
    is_judged_void OR coalesce(stop_reason = 'replay_miss', false)
        OR (is_cut AND status <> 'running') AS is_void,
    degraded,
    tool_calls::DOUBLE AS tool_calls,
    tokens_per_request::DOUBLE AS tokens_per_request,
    cost_usd::DOUBLE AS cost_usd,
    (1000000 * cost_usd / nullif(tokens, 0))::DOUBLE AS usd_per_mtok,
    coalesce(tool_failures / nullif(tool_calls, 0), 0)::DOUBLE AS failed_share,
    coalesce(retries / nullif(model_calls + tool_calls, 0), 0)::DOUBLE AS retried_share,
    steps::DOUBLE AS steps,
    model_calls::DOUBLE AS model_calls,
    tokens::DOUBLE AS tokens,
    duration_ms::DOUBLE AS duration_ms,
    success::DOUBLE AS success
FROM sided
WHERE (is_baseline OR is_candidate) AND NOT is_superseded
ORDER BY
    suite, task_id, task_digest, is_candidate, session_id, tool_calls, tokens_per_request,
    cost_usd, success, stop_reason, run_id, store
