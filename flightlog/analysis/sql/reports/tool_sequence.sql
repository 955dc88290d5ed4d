-- The tool calls of one run in order, at most so many, with texts cut.
SELECT
    seq, step, tool_name AS name, args_digest, outcome, attempt, latency_ms,
    left(args, $chars) AS args, left(coalesce(result, error), $chars) AS told,
    count(*) OVER () AS calls
FROM tool_calls
WHERE store = $store AND run_id = $run_id AND actor = 'agent'
ORDER BY seq
LIMIT $most
