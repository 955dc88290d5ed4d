-- The runs that a question is about, with the columns by which it groups them.
--
-- Each by_ column holds the run's value where `by_` (a comma-separated list) names it, else
-- null, so that one GROUP BY over all of them serves every grouping. A null filter takes all.
CREATE TEMP MACRO chosen_runs(
    source_, suite_, model_, variant_, agent_, tenant_, since_, until_, by_
) AS TABLE
SELECT
    CASE WHEN list_contains(string_split(by_, ','), 'source') THEN source END AS by_source,
    CASE WHEN list_contains(string_split(by_, ','), 'suite') THEN suite END AS by_suite,
    CASE WHEN list_contains(string_split(by_, ','), 'model') THEN model END AS by_model,
    CASE WHEN list_contains(string_split(by_, ','), 'variant') THEN variant END AS by_variant,
    CASE WHEN list_contains(string_split(by_, ','), 'agent') THEN agent END AS by_agent,
    CASE WHEN list_contains(string_split(by_, ','), 'tenant') THEN tenant END AS by_tenant,
    runs.*
FROM runs
WHERE (source_ IS NULL OR source = source_)
    AND (suite_ IS NULL OR suite = suite_)
    AND (model_ IS NULL OR model = model_)
    AND (variant_ IS NULL OR variant = variant_)
    AND (agent_ IS NULL OR agent = agent_)
    AND (tenant_ IS NULL OR tenant = tenant_)
    AND (since_ IS NULL OR started_at >= since_)
    AND (until_ IS NULL OR started_at < until_)
