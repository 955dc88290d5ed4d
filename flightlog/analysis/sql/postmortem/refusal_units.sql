-- Per agent, tool and reason: runs with such a refusal, by piece of time of their start.
SELECT
    calls.agent,
    tool,
    coalesce(error_type, outcome) AS reason,
    least(floor((began - $begin) / $width), $pieces - 1)::INTEGER AS piece,
    count(DISTINCT run) AS refused
FROM window_tools AS calls
JOIN window_runs USING (run)
WHERE NOT has_run AND outcome <> 'deduplicated' AND NOT list_contains($left_out::BIGINT[], run)
GROUP BY ALL
ORDER BY ALL
