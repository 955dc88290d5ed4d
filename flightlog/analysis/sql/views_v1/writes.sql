-- One row per attempt of a write: what was intended, and what became of it. A tool of
-- unknown effect counts as a write. Calls that were refused are rows too.
--
-- Columns:
--   store: store that the write was read from
--   seq: event that the row begins with: the intent, else the call
--   has_intent: an intent was recorded, durably, before the tool was called
--   state: done, not_done (the tool was not called), failed (the tool said so), in_doubt, or
--     running (called in a run that still goes on)
--   why: what the state was concluded from, in words
--   outcome: how the call ended, as in tool_calls; null where no end was recorded
--   at [UTC timestamp]: wall clock time of the intent, else of the call
--   ended_at [UTC timestamp]: wall clock time of the recorded outcome
--   settled_at [UTC timestamp]: when somebody settled a write in doubt; null where nobody did
--   run_status: status of the run, as in the view runs
--   run_stop_reason: stop reason of the run
WITH facts AS (
    SELECT
        store,
        run_id,
        seq,
        kind,
        kind = 'state_changed' AS is_settling,
        "at",
        step,
        call_ix,
        attempt,
        tool_name,
        tool_call_id,
        effect,
        args,
        args_digest,
        idempotency_key,
        outcome,
        error,
        error_type,
        served_how,
        latency_ms,
        state_to,
        detail
    FROM base.events
    WHERE (kind IN ('tool_intent', 'tool_call') AND effect IN ('write', 'unknown'))
        OR (kind = 'state_changed' AND subject = 'write')
),
paired AS (
    SELECT
        *,
        -- Of one call, the events stand in their order: its intent, its outcome.
        lag(kind) OVER calls AS kind_before,
        lead(kind) OVER calls AS kind_after,
        lead(struct_pack(
            "at" := "at", outcome := outcome, error := error, error_type := error_type,
            served_how := served_how, latency_ms := latency_ms
        )) OVER calls AS following,
        last_value(
            CASE WHEN is_settling
                THEN struct_pack(state_to := state_to, detail := detail, "at" := "at") END
            IGNORE NULLS
        ) OVER (
            PARTITION BY
                store, run_id, step, call_ix, tool_name,
                CASE WHEN step IS NULL OR call_ix IS NULL THEN tool_call_id END
            ORDER BY seq
            ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING
        ) AS settled
    FROM facts
    WINDOW calls AS (
        PARTITION BY
            store, run_id, step, call_ix, attempt, tool_name, tool_call_id, is_settling
        ORDER BY seq
    )
),
attempts AS (
    SELECT
        * EXCLUDE (following, outcome, error, error_type, served_how, latency_ms),
        kind = 'tool_intent' AS has_intent,
        CASE
            WHEN kind = 'tool_call' THEN struct_pack(
                "at" := "at", outcome := outcome, error := error, error_type := error_type,
                served_how := served_how, latency_ms := latency_ms
            )
            WHEN kind_after = 'tool_call' THEN following
        END AS ended
    FROM paired
    WHERE kind = 'tool_intent'
        OR (kind = 'tool_call' AND kind_before IS DISTINCT FROM 'tool_intent')
),
concluded AS (
    SELECT
        attempts.*,
        runs.status AS run_status,
        runs.stop_reason AS run_stop_reason,
        runs.tenant,
        runs.agent,
        runs.suite,
        runs.task_id,
        runs.trial,
        runs.variant,
        runs.origin,
        runs.source,
        CASE
            WHEN ended IS NULL AND runs.status = 'running' THEN 'running'
            WHEN ended IS NULL THEN 'in_doubt'
            WHEN coalesce(ended.served_how, 'live') NOT IN ('live', 'live_read')
                THEN 'not_done'
            WHEN ended.outcome IN ('ok', 'invalid_output') THEN 'done'
            WHEN ended.outcome = 'timed_out' THEN 'in_doubt'
            WHEN ended.outcome = 'failed'
                AND ended.error_type IN ('no_function', 'recorder_failed') THEN 'not_done'
            WHEN ended.outcome = 'failed' THEN 'failed'
            ELSE 'not_done'
        END AS concluded
    FROM attempts
    JOIN runs USING (store, run_id)
),
by_call AS (
    SELECT
        *,
        -- A tool is tried again after an end in doubt only where it honours the key.
        max(attempt) FILTER (concluded = 'done') OVER (
            PARTITION BY store, run_id, step, call_ix, tool_name, tool_call_id, idempotency_key
        ) > attempt AND idempotency_key IS NOT NULL AND concluded = 'in_doubt' AS is_repeated
    FROM concluded
)
SELECT
    store,
    run_id,
    seq,
    step,
    call_ix,
    attempt,
    tool_name,
    tool_call_id,
    effect,
    args,
    args_digest,
    idempotency_key,
    has_intent,
    CASE
        WHEN is_repeated THEN 'done'
        WHEN concluded = 'in_doubt' THEN coalesce(settled.state_to, concluded)
        ELSE concluded
    END AS state,
    CASE
        WHEN is_repeated THEN 'a later attempt with the same key was done'
        WHEN concluded = 'in_doubt' AND settled IS NOT NULL
            THEN concat('settled ', settled.detail)
        WHEN concluded = 'running' THEN 'the run goes on, and the call with it'
        WHEN ended IS NULL THEN concat(
            'the run ended (', coalesce(run_stop_reason, run_status),
            ') before the call did'
        )
        WHEN concluded = 'in_doubt' THEN 'nobody waited for its end'
        WHEN concluded = 'done' AND ended.outcome = 'invalid_output'
            THEN 'the tool answered, and its answer did not fit'
        WHEN concluded = 'done' THEN 'the tool answered'
        WHEN concluded = 'failed' THEN 'the tool was called and raised'
        WHEN ended.outcome IN ('ok', 'invalid_output', 'timed_out') OR ended.served_how IS NOT NULL
            THEN concat('answered without the tool (', ended.served_how, ')')
        ELSE concat('refused (', coalesce(ended.error_type, ended.outcome), ')')
    END AS why,
    ended.outcome,
    ended.error,
    ended.error_type,
    ended.served_how,
    ended.latency_ms,
    "at",
    ended."at" AS ended_at,
    CASE WHEN concluded = 'in_doubt' THEN settled."at" END AS settled_at,
    run_status,
    run_stop_reason,
    tenant,
    agent,
    suite,
    task_id,
    trial,
    variant,
    origin,
    source
FROM by_call
