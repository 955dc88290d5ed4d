-- Tool calls of one run, in order.
SELECT seq, step, s, tool, outcome, has_run, is_write, same, told, attempt, error_type
FROM window_tools
WHERE run = $run
ORDER BY seq
