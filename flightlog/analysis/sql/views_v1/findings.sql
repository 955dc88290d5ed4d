-- One row per thing that was wrong in a run, found from its events alone; a run has none or
-- several. `flightlog postmortem` looks further: over time, and for what explains what.
--
-- Columns:
--   store: store that the run was read from
--   finding: tool_failing (half or more of at least 5 calls of a tool), repeated_call (three times
--     the same with the same answer), duplicate_write, in_doubt (a write that timed out), refused,
--     retried (five second attempts or more, and twice as many attempts as calls), prompt_growth
--     (four times the first prompt, and 8,000 tokens), truncated, policy_lost,
--     write_without_policy (a write, or a refused call, after the policy was lost), guard (a
--     guard's own finding), no_answer (another end than ok, or none), judged_failure
--   seq: first event that shows it; null for the run as a whole
--   step: turn of the loop of that event
--   at [UTC timestamp]: wall clock time of that event
--   tool_name: tool that it is about; null for none
--   times: how often: calls, prompts or events
--   detail: reason of a refusal, guard, or stop reason
--   model: model of the run, as in the view runs
WITH tools AS (
    SELECT
        *,
        outcome IN ('ok', 'failed', 'timed_out', 'invalid_output') AS has_run,
        effect IN ('write', 'unknown') AS is_write
    FROM base.tool_calls
    WHERE actor = 'agent'
),
prompts AS (
    SELECT
        store,
        run_id,
        arg_min(input_tokens, seq) FILTER (input_tokens > 0) AS first_prompt,
        max(input_tokens) AS largest_prompt,
        arg_max(struct_pack(seq, step, "at"), input_tokens) FILTER (input_tokens > 0) AS largest,
        count(*) FILTER (is_truncated) AS truncated,
        min(struct_pack(seq, step, "at")) FILTER (is_truncated) AS first_truncated,
        min(seq) FILTER (has_policy) AS had_policy,
        count(*) FILTER (NOT has_policy) AS without_policy,
        max(struct_pack(seq, step, "at")) FILTER (NOT has_policy) AS last_without
    FROM base.model_calls
    WHERE actor = 'agent'
    GROUP BY ALL
),
lost AS (
    SELECT
        calls.store, calls.run_id, min(struct_pack(calls.seq, calls.step, calls."at")) AS first,
        count(*) AS times
    FROM base.model_calls AS calls
    JOIN prompts USING (store, run_id)
    WHERE calls.actor = 'agent' AND NOT calls.has_policy AND calls.seq > had_policy
    GROUP BY ALL
),
found AS (
    SELECT
        store, run_id, 'tool_failing' AS finding,
        min(struct_pack(seq, step, "at"))
            FILTER (outcome IN ('failed', 'timed_out', 'invalid_output')) AS first,
        tool_name,
        count(*) FILTER (outcome IN ('failed', 'timed_out', 'invalid_output')) AS times,
        NULL::VARCHAR AS detail
    FROM tools
    WHERE has_run
    GROUP BY ALL
    HAVING times >= 5 AND times >= 0.5 * count(*)
    UNION ALL
    SELECT
        store, run_id, CASE WHEN is_write THEN 'duplicate_write' ELSE 'repeated_call' END,
        min(struct_pack(seq, step, "at")), tool_name, count(*), NULL
    FROM tools
    WHERE has_run AND coalesce(attempt, 1) = 1 AND args_digest IS NOT NULL
        AND (outcome = 'ok' OR NOT is_write)
    GROUP BY store, run_id, is_write, tool_name, args_digest, result_digest, outcome
    HAVING count(*) >= CASE WHEN is_write THEN 2 ELSE 3 END
    UNION ALL
    SELECT
        store, run_id, 'in_doubt', min(struct_pack(seq, step, "at")), tool_name, count(*), NULL
    FROM tools
    WHERE is_write AND outcome = 'timed_out'
    GROUP BY ALL
    UNION ALL
    SELECT
        store, run_id, 'refused', min(struct_pack(seq, step, "at")), tool_name, count(*),
        coalesce(error_type, outcome) AS why
    FROM tools
    WHERE NOT has_run AND outcome <> 'deduplicated'
    GROUP BY store, run_id, tool_name, coalesce(error_type, outcome)
    UNION ALL
    SELECT
        store, run_id, 'retried',
        min(struct_pack(seq, step, "at")) FILTER (attempt > 1), NULL,
        count(*) FILTER (attempt > 1), NULL
    FROM tools
    WHERE has_run
    GROUP BY ALL
    HAVING count(*) FILTER (attempt > 1) >= 5
        AND count(*) >= 2 * count(*) FILTER (coalesce(attempt, 1) = 1)
    UNION ALL
    SELECT
        store, run_id, 'prompt_growth', largest, NULL, largest_prompt // first_prompt, NULL
    FROM prompts
    WHERE largest_prompt >= 8000 AND largest_prompt >= 4 * first_prompt
    UNION ALL
    SELECT store, run_id, 'truncated', first_truncated, NULL, truncated, NULL
    FROM prompts
    WHERE truncated > 0
    UNION ALL
    SELECT store, run_id, 'policy_lost', first, NULL, times, NULL
    FROM lost
    UNION ALL
    SELECT
        tools.store, tools.run_id, 'write_without_policy',
        min(struct_pack(tools.seq, tools.step, tools."at")), tool_name, count(*), outcome
    FROM tools
    JOIN lost ON lost.store = tools.store AND lost.run_id = tools.run_id
        AND tools.seq > lost.first.seq
    WHERE is_write OR NOT has_run
    GROUP BY tools.store, tools.run_id, tool_name, outcome
    UNION ALL
    SELECT
        store, run_id, 'guard', min(struct_pack(seq, step, "at")), tool_name, count(*), state_to
    FROM base.events
    WHERE kind = 'state_changed' AND subject = 'guard' AND state_to <> 'ok'
    GROUP BY store, run_id, tool_name, state_to
    UNION ALL
    SELECT
        store, run_id, 'no_answer', NULL, stop_tool, 1, coalesce(stop_reason, 'none')
    FROM runs
    WHERE coalesce(stop_reason, 'none') <> 'ok'
    UNION ALL
    SELECT store, run_id, 'judged_failure', NULL, NULL, 1, NULL
    FROM runs
    WHERE NOT success
)
SELECT
    found.store,
    found.run_id,
    found.finding,
    found.first.seq AS seq,
    found.first.step AS step,
    found.first."at" AS "at",
    found.tool_name,
    found.times::BIGINT AS times,
    found.detail,
    runs.suite,
    runs.task_id,
    runs.trial,
    runs.variant,
    runs.model,
    runs.agent,
    runs.tenant,
    runs.source
FROM found
JOIN runs USING (store, run_id)
