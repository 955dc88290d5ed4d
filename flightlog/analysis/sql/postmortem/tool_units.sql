-- Per tool, agent and piece of time: runs that called the tool then, and those that it failed.
-- A run counts once per piece, so that one run with many calls is one witness.
WITH units AS (
    SELECT
        tool,
        agent,
        least(floor((s - $begin) / $width), $pieces - 1)::INTEGER AS piece,
        run,
        bool_or(outcome IN ('failed', 'timed_out')) AS is_failing,
        bool_or(outcome = 'timed_out') AS is_timed_out,
        bool_or(outcome = 'invalid_output') AS is_invalid,
        ln(avg(latency_ms) FILTER (outcome = 'ok' AND latency_ms > 0)) AS latency
    FROM window_tools
    WHERE has_run AND NOT list_contains($left_out::BIGINT[], run)
    GROUP BY ALL
)
SELECT
    tool,
    agent,
    piece,
    count(*) AS units,
    count(*) FILTER (is_failing) AS failing,
    count(*) FILTER (is_timed_out) AS timed_out,
    count(*) FILTER (is_invalid) AS invalid,
    count(latency) AS timed,
    coalesce(sum(latency), 0) AS latency,
    coalesce(sum(latency * latency), 0) AS latency_squared
FROM units
GROUP BY ALL
ORDER BY tool, agent, piece
