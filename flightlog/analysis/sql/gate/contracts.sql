-- The contracts that the replayed runs of both sides were judged by, each once.
--
-- $BASELINE and $CANDIDATE stand for the conditions of the sides; their values are
-- parameters.
--
-- Columns:
--   golden: golden task that the runs were replayed from
--   is_candidate: the runs are on the candidate's side
--   contract: what they were judged by, as canonical JSON; null for runs that do not keep it
--   runs: how many
WITH sided AS (
    SELECT
        run_id,
        golden,
        $BASELINE AS is_baseline,
        $CANDIDATE AS is_candidate
    FROM runs
    WHERE origin = 'replay' AND golden IS NOT NULL
),
kept AS (
    SELECT
        run_id,
        arg_max(detail, seq) AS contract
    FROM events
    WHERE kind = 'evaluation' AND name = 'contract'
    GROUP BY run_id
)
SELECT
    sided.golden,
    sided.is_candidate,
    kept.contract,
    count(*) AS runs
FROM sided
LEFT JOIN kept USING (run_id)
WHERE sided.is_baseline OR sided.is_candidate
GROUP BY ALL
ORDER BY sided.golden, sided.is_candidate, kept.contract
