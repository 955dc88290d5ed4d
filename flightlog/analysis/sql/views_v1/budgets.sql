-- One row per run and limit that its budget sets, or that is set for one of its tools or its
-- tenant. A limit that is not set has no row.
--
-- Columns:
--   store: store that the run was read from
--   scope: run, tool:NAME or tenant:NAME (all runs of the tenant in the window that ended then)
--   budget: max_steps, max_seconds, max_tool_calls, max_usd or max_tokens
--   unit: unit of allowed and used
--   allowed: the limit
--   used: what was spent of it; null when unknown (no end recorded, or an unpriced call)
--   share: used / allowed; 1 is the limit; null when used is unknown or allowed is 0
--   started_at [UTC timestamp]: wall clock time of the run's start, for display
--   is_hit: true when this limit stopped the run, its own or that of its tenant; null when the
--     stop reason is unknown, false for a tool, whose limit only refuses calls
WITH facts AS (
    SELECT
        store,
        run_id,
        arg_min(
            {
                'max_steps': max_steps, 'max_seconds': max_seconds,
                'max_tool_calls': max_tool_calls, 'max_usd': max_usd, 'max_tokens': max_tokens
            },
            seq
        ) FILTER (kind = 'run_started') AS started,
        arg_max(
            {
                'max_steps': max_steps, 'max_seconds': max_seconds,
                'max_tool_calls': max_tool_calls, 'max_usd': max_usd, 'max_tokens': max_tokens,
                'used_steps': used_steps, 'used_seconds': used_seconds,
                'used_tool_calls': used_tool_calls, 'used_usd': used_usd,
                'used_tokens': used_tokens, 'scoped': scoped_budgets
            },
            seq
        ) FILTER (kind = 'run_stopped') AS stopped
    FROM base.events
    WHERE kind IN ('run_started', 'run_stopped') AND run_id <> ''
    GROUP BY store, run_id
),
listed AS (
    SELECT
        store,
        run_id,
        'run' AS scope,
        unnest(
            [
                {
                    'budget': 'max_steps', 'unit': 'steps',
                    'allowed': coalesce(stopped.max_steps, started.max_steps)::DOUBLE,
                    'used': stopped.used_steps::DOUBLE
                },
                {
                    'budget': 'max_seconds', 'unit': 's',
                    'allowed': coalesce(stopped.max_seconds, started.max_seconds),
                    'used': stopped.used_seconds
                },
                {
                    'budget': 'max_tool_calls', 'unit': 'attempts',
                    'allowed': coalesce(stopped.max_tool_calls, started.max_tool_calls)::DOUBLE,
                    'used': stopped.used_tool_calls::DOUBLE
                },
                {
                    'budget': 'max_usd', 'unit': 'USD',
                    'allowed': coalesce(stopped.max_usd, started.max_usd),
                    'used': stopped.used_usd
                },
                {
                    'budget': 'max_tokens', 'unit': 'tokens',
                    'allowed': coalesce(stopped.max_tokens, started.max_tokens)::DOUBLE,
                    'used': stopped.used_tokens::DOUBLE
                }
            ],
            recursive := true
        )
    FROM facts
    UNION ALL BY NAME
    SELECT
        store,
        run_id,
        unnest(
            from_json(
                stopped.scoped,
                '[{"scope": "VARCHAR", "budget": "VARCHAR", "unit": "VARCHAR",'
                ' "allowed": "DOUBLE", "used": "DOUBLE"}]'
            ),
            recursive := true
        )
    FROM facts
    WHERE stopped.scoped IS NOT NULL
)
SELECT
    listed.store,
    listed.run_id,
    listed.scope,
    listed.budget,
    listed.unit,
    listed.allowed,
    listed.used,
    listed.used / nullif(listed.allowed, 0) AS share,
    runs.stop_reason = listed.budget
    AND CASE split_part(listed.scope, ':', 1)
        WHEN 'run' THEN NOT stop.is_of_tenant
        WHEN 'tenant' THEN stop.is_of_tenant
        ELSE FALSE
    END AS is_hit,
    runs.suite,
    runs.task_id,
    runs.variant,
    runs.model,
    runs.agent,
    runs.started_at
FROM listed
JOIN runs USING (store, run_id)
CROSS JOIN LATERAL (
    -- Both budgets give the same stop reasons; the sentence tells them apart.
    SELECT
        coalesce(regexp_matches(runs.stop_detail, '^budget max_\w+=\S+ of tenant '), FALSE)
            AS is_of_tenant
) AS stop
WHERE listed.allowed IS NOT NULL
