-- The first write, or refused call, that followed the loss of the policy message in a run.
WITH lost AS (
    SELECT run, min(seq) AS seq
    FROM window_models
    WHERE NOT has_policy AND run IN (SELECT unnest($runs::BIGINT[]))
    GROUP BY run
)
SELECT tools.run, tools.seq, tools.s, tool, has_run, outcome
FROM window_tools AS tools
JOIN lost ON lost.run = tools.run AND tools.seq > lost.seq
WHERE is_write OR NOT has_run
ORDER BY s, run, tools.seq
LIMIT 1
