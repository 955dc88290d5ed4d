-- What the models of one run said, cut.
SELECT seq, left(text, $chars) AS text, length(text) AS chars, left(tool_requests, $chars) AS asked
FROM messages
WHERE store = $store AND run_id = $run_id AND direction = 'output'
    AND seq IN (SELECT unnest($seqs::BIGINT[]))
ORDER BY seq
