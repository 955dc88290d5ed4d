-- One row per message that a model call sent for the first time or that a model answered.
-- An answer that comes back in the next prompt is not listed again.
--
-- Columns:
--   store: store that the message was read from
--   seq: model call that sent or answered the message
--   actor: who made that call: agent, user simulator or judge
--   position: place in the prompt, from 0; an answer stands after its prompt
--   direction: input for a message that was sent, output for an answer
--   digest: digest of the message
--   role: system, user, assistant, tool; null when the body is missing
--   text: content; null where an assistant only asks for tools
--   text_blob: blob that holds a content above 16 KiB, which `text` is read from
--   text_bytes [bytes]: size of that content in UTF-8; null where it stands in its row
--   tool_requests: tool calls that an assistant asks for, JSON list of id, name, arguments
--   tool_call_id: in a tool message, the request that it answers
--   tool_name: in a tool message, the tool
WITH sent AS (
    SELECT
        store,
        run_id,
        seq,
        step,
        actor,
        unnest(prompt_added) AS digest,
        prompt_kept + unnest(range(len(prompt_added))) AS position,
        'input' AS direction
    FROM base.model_calls
),
answered AS (
    SELECT
        store,
        run_id,
        seq,
        step,
        actor,
        output_digest AS digest,
        prompt_messages AS position,
        'output' AS direction
    FROM base.model_calls
    WHERE output_digest IS NOT NULL
),
first_answers AS (
    SELECT store, run_id, digest, min(seq) AS seq
    FROM answered
    GROUP BY store, run_id, digest
),
listed AS (
    SELECT sent.*
    FROM sent
    LEFT JOIN first_answers AS known
        ON known.store = sent.store
        AND known.run_id = sent.run_id
        AND known.digest = sent.digest
        AND known.seq < sent.seq
    WHERE known.digest IS NULL
    UNION ALL BY NAME
    SELECT * FROM answered
)
SELECT
    listed.store,
    listed.run_id,
    listed.seq,
    listed.step,
    listed.actor,
    listed.position,
    listed.direction,
    listed.digest,
    bodies.role,
    coalesce(bodies.text, blob_text(bodies.store, bodies.text_blob)) AS text,
    bodies.tool_requests,
    bodies.tool_call_id,
    bodies.name AS tool_name,
    bodies.text_blob,
    bodies.text_bytes
FROM listed
LEFT JOIN base.messages AS bodies
    ON bodies.store = listed.store AND bodies.digest = listed.digest
