-- Calls and changes of one run in order, at most so many from its begin and from its end, with
-- texts cut.
--
-- Parameters:
--   store, run_id: the run
--   first, last: how many from the begin, and from the end
--   chars: longest text
WITH mine AS (
    SELECT
        *,
        row_number() OVER (ORDER BY seq) AS place,
        count(*) OVER () AS places
    FROM events
    WHERE store = $store AND run_id = $run_id
        AND kind IN ('model_call', 'tool_call', 'state_changed')
)
SELECT
    place,
    places,
    kind,
    seq,
    step,
    elapsed_ms,
    latency_ms,
    actor,
    attempt,
    outcome,
    left(error, $chars) AS error,
    error_type,
    coalesce(request_model, tool_name) AS name,
    effect,
    input_tokens,
    output_tokens,
    cache_read_tokens,
    cost_usd,
    finish_reason,
    is_truncated,
    has_policy,
    args_digest,
    left(args, $chars) AS args,
    length(args) AS args_chars,
    left(result, $chars) AS result,
    coalesce(result_bytes, length(result)) AS result_chars,
    subject,
    state_from,
    state_to,
    left(detail, $chars) AS detail
FROM mine
WHERE place <= $first OR place > places - $last
ORDER BY place
