-- Per model, agent and piece of time: runs that called the model then, and those that it failed.
WITH units AS (
    SELECT
        model,
        agent,
        least(floor((s - $begin) / $width), $pieces - 1)::INTEGER AS piece,
        run,
        bool_or(outcome <> 'ok') AS is_failing,
        ln(avg(latency_ms) FILTER (outcome = 'ok' AND latency_ms > 0)) AS latency
    FROM window_models
    WHERE NOT list_contains($left_out::BIGINT[], run)
    GROUP BY ALL
)
SELECT
    model,
    agent,
    piece,
    count(*) AS units,
    count(*) FILTER (is_failing) AS failing,
    count(latency) AS timed,
    coalesce(sum(latency), 0) AS latency,
    coalesce(sum(latency * latency), 0) AS latency_squared
FROM units
GROUP BY ALL
ORDER BY model, agent, piece
