-- Model calls of one run, in order.
SELECT seq, step, s, outcome, attempt, input_tokens, is_truncated, has_policy
FROM window_models
WHERE run = $run
ORDER BY seq
