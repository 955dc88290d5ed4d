-- One row per run: what the search for changes looks at.
WITH repeats AS (
    SELECT
        run,
        max(calls) AS most_repeated,
        sum(calls - 1) AS repeated,
        max(written) AS most_written
    FROM (
        SELECT
            run,
            same,
            -- The same question with the same answer; one whose answer changes is a poll.
            max(calls) AS calls,
            sum(written) AS written
        FROM (
            SELECT
                run, same, told,
                count(*) FILTER (attempt = 1 AND has_run) AS calls,
                count(*) FILTER (is_write AND outcome = 'ok') AS written
            FROM window_tools
            GROUP BY ALL
        )
        GROUP BY ALL
    )
    GROUP BY run
),
tools AS (
    SELECT
        run,
        count(*) AS tool_calls,
        count(DISTINCT same) FILTER (has_run) AS new_calls,
        count(*) FILTER (attempt > 1) AS tool_retries,
        count(*) FILTER (outcome IN ('failed', 'timed_out', 'invalid_output')) AS failures,
        count(*) FILTER (NOT has_run) AS refused,
        count(*) FILTER (is_write AND outcome = 'timed_out') AS doubtful_writes,
        sum(cost_usd) AS tool_usd
    FROM window_tools
    GROUP BY run
),
models AS (
    SELECT
        run,
        count(*) AS model_calls,
        count(*) FILTER (attempt > 1) AS model_retries,
        sum(input_tokens) AS input_tokens,
        sum(output_tokens) AS output_tokens,
        sum(cache_read_tokens) AS cached_tokens,
        sum(cost_usd) AS model_usd,
        arg_min(input_tokens, seq) FILTER (outcome = 'ok') AS first_prompt,
        max(input_tokens) AS largest_prompt,
        count(*) FILTER (outcome = 'ok') AS answered,
        count(*) FILTER (outcome = 'ok' AND cost_usd IS NULL) AS unpriced,
        bool_or(is_truncated) AS was_truncated,
        -- Lost: it was sent once, and later not.
        bool_or(has_policy) AND NOT bool_and(has_policy) AS lost_policy
    FROM window_models
    GROUP BY run
),
reruns AS (
    SELECT
        run,
        lag(ended) OVER same_user AS ended_before,
        lag(stop_reason) OVER same_user AS stop_before
    FROM window_runs
    WINDOW same_user AS (
        PARTITION BY agent, tenant, suite, task_id, conversation_id ORDER BY began, run
    )
)
SELECT
    runs.run,
    runs.run_id,
    runs.store,
    runs.began,
    runs.ended,
    runs.agent,
    runs.tenant,
    runs.task_id,
    runs.model,
    runs.agent_version,
    runs.system_digest,
    runs.toolset_digest,
    runs.config_digest,
    runs.stop_reason,
    runs.status,
    runs.duration_ms,
    runs.success,
    coalesce(tool_calls, 0) AS tool_calls,
    coalesce(new_calls, 0) AS new_calls,
    coalesce(tool_retries, 0) + coalesce(model_retries, 0) AS retries,
    coalesce(failures, 0) AS failures,
    coalesce(refused, 0) AS refused,
    coalesce(doubtful_writes, 0) AS doubtful_writes,
    coalesce(most_repeated, 0) AS most_repeated,
    coalesce(repeated, 0) AS repeated,
    coalesce(most_written, 0) AS most_written,
    coalesce(model_calls, 0) AS model_calls,
    input_tokens,
    output_tokens,
    cached_tokens,
    CASE WHEN coalesce(unpriced, 0) = 0 THEN model_usd + coalesce(tool_usd, 0) END AS usd,
    first_prompt,
    largest_prompt,
    answered,
    coalesce(was_truncated, false) AS was_truncated,
    coalesce(lost_policy, false) AS lost_policy,
    coalesce(
        stop_before <> 'ok' AND began >= ended_before AND began - ended_before < 900
        AND (task_id IS NOT NULL OR conversation_id IS NOT NULL), false
    ) AS is_rerun
FROM window_runs AS runs
LEFT JOIN tools USING (run)
LEFT JOIN models USING (run)
LEFT JOIN repeats USING (run)
LEFT JOIN reruns USING (run)
ORDER BY runs.run
