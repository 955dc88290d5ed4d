"""The shapes of keys of model providers, and of what developers work with."""

from __future__ import annotations

from typing import Final

from flightlog.redact import checks
from flightlog.redact.shapes import (
    BASE64,
    HEX,
    MIXED,
    UUID,
    WORD,
    WORD_,
    WORD_DASH,
    WORD_DOT,
    Pattern,
    at_least,
    exact,
    random,
)

_MODELS = (
    at_least(
        "anthropic_key",
        rb"sk-ant-[A-Za-z0-9_-]{4}",
        WORD_DASH,
        24,
        "sk-ant-api03-R2D2c3poR2D2c3poR2D2c3poR2D2c3poAA",
    ),
    at_least(
        "openai_key",
        rb"sk-(?:proj|svcacct|admin|None)-[A-Za-z0-9_-]{4}",
        WORD_DASH,
        28,
        "sk-proj-Zm9vYmFyYmF6cXV4Zm9vYmFyYmF6cXV4T3BlbkFJ",
    ),
    Pattern(
        "api_key",
        rb"sk-[A-Za-z0-9_-]{6}",
        WORD_DASH,
        20,
        None,
        checks.is_random_key,
        ("sk-4f9a8b7c6d5e4f3a2b1c0d9e8f7a6b5c", "sk-or-v1-0af1c2d3e4f5061728394a5b6c7d8e9f"),
    ),
    at_least("groq_key", rb"gsk_[A-Za-z0-9]{4}", WORD, 40, "gsk_" + "a1B2" * 13),
    at_least("xai_key", rb"xai-[A-Za-z0-9]{4}", WORD, 60, "xai-" + "a1B2" * 20),
    at_least("perplexity_key", rb"pplx-[A-Za-z0-9]{4}", WORD, 40, "pplx-" + "a1B2" * 12),
    at_least("replicate_key", rb"r8_[A-Za-z0-9]{4}", WORD, 36, "r8_" + "a1B2" * 9 + "x"),
    at_least("huggingface_token", rb"hf_[A-Za-z0-9]{4}", WORD, 30, "hf_" + "aBcD" * 8 + "eF"),
    at_least("langsmith_key", rb"lsv2_(?:pt|sk)_", WORD_, 40, "lsv2_pt_" + "0a1b" * 8 + "_c2d3e4"),
    at_least(
        "tavily_key", rb"tvly-[A-Za-z0-9-]{4}", WORD_DASH, 24, "tvly-dev-a1B2c3D4e5F6g7H8i9J0"
    ),
    exact("elevenlabs_key", rb"sk_[0-9a-f]{8}", HEX, 51, "sk_" + "0123abcd" * 6),
    at_least("api_key", rb"pk-lf-[0-9a-f]{8}", rb"[0-9a-f-]*", 42, "pk-lf-" + UUID),
    random("openai_key", rb"(?:ek_|sess-)[A-Za-z0-9_-]{8}", WORD_DASH, 32, "ek_" + MIXED * 4),
    random("google_key", rb"AQ\.Ab8R[A-Za-z0-9_-]{4}", WORD_DASH, 40, "AQ.Ab8RN6" + MIXED * 5),
    at_least(
        "aws_key",
        rb"bedrock-api-key-[A-Za-z0-9+/]{8}",
        BASE64,
        60,
        "bedrock-api-key-" + "a1B2c3D4" * 8,
    ),
    at_least(
        "huggingface_token", rb"api_org_[A-Za-z0-9]{4}", WORD, 36, "api_org_" + "aBcD" * 8 + "eF"
    ),
    random("fireworks_key", rb"fw_[A-Za-z0-9]{8}", WORD, 24, "fw_" + MIXED * 3),
    at_least("together_key", rb"tgp_v1_[A-Za-z0-9_-]{4}", WORD_DASH, 40, "tgp_v1_" + MIXED * 5),
    random("cerebras_key", rb"csk-[a-z0-9]{8}", WORD, 40, "csk-" + "a1b2c3d4" * 6),
    random("voyage_key", rb"pa-[A-Za-z0-9_-]{8}", WORD_DASH, 46, "pa-" + MIXED * 5 + "xYz"),
    at_least("jina_key", rb"jina_[A-Za-z0-9_-]{8}", WORD_DASH, 50, "jina_" + MIXED * 7),
    at_least("pinecone_key", rb"pcsk_[A-Za-z0-9]{4}", WORD_, 50, "pcsk_a1B2c3_" + MIXED * 7),
    at_least("wandb_key", rb"wandb_v[0-9]_[A-Za-z0-9_]{8}", WORD_, 50, "wandb_v1_" + MIXED * 9),
    at_least("nvidia_key", rb"nvapi-[A-Za-z0-9_-]{8}", WORD_DASH, 60, "nvapi-" + MIXED * 8),
    at_least("e2b_key", rb"e2b_[0-9a-f]{8}", HEX, 40, "e2b_" + "0123abcd" * 5),
    exact("firecrawl_key", rb"fc-[0-9a-f]{8}", HEX, 35, "fc-" + "0123abcd" * 4),
    at_least(
        "logfire_token",
        rb"pylf_v[0-9]_[a-z]{2}_[A-Za-z0-9]{4}",
        WORD,
        40,
        "pylf_v1_us_" + MIXED * 5,
    ),
    exact("cursor_key", rb"key_[0-9a-f]{8}", HEX, 68, "key_" + "0123abcd" * 8),
    at_least(
        "browserbase_key", rb"bb_live_[A-Za-z0-9_-]{8}", WORD_DASH, 28, "bb_live_" + MIXED * 3
    ),
    Pattern(
        "masked_key",
        rb"(?:[srp]k|xai|gsk)[-_][A-Za-z0-9_-]{0,24}(?:\*{3}|\.{3})",
        rb"[*.]*[A-Za-z0-9_-]*",
        8,
        None,
        checks.shows_an_end,
        ("sk-proj-********************wxyz", "sk-ant-a...wXyZ"),
    ),
)
_CODE = (
    at_least(
        "github_token", rb"gh[pousr]_[A-Za-z0-9]{4}", WORD_DOT, 36, "ghp_" + "a1B2c3D4e5F6" * 3
    ),
    at_least(
        "github_token",
        rb"github_pat_[A-Za-z0-9]{4}",
        WORD_,
        40,
        "github_pat_11ABCDEFG0" + "a1B2c3D4" * 5,
    ),
    at_least(
        "gitlab_token",
        rb"gl(?:pat|ptt|dt|rt|cbt|soat|ft|imt|agent|oas|ffct)-[A-Za-z0-9_-]{4}",
        WORD_DOT,
        24,
        "glpat-a1B2c3D4e5F6g7H8i9J0",
    ),
    at_least("gitlab_token", rb"GR1348941[A-Za-z0-9_-]{4}", WORD_DASH, 29, "GR1348941" + MIXED * 3),
    at_least("npm_token", rb"npm_[A-Za-z0-9]{4}", WORD, 36, "npm_" + "a1B2c3D4e5F6" * 3),
    at_least("pypi_token", rb"pypi-AgE", WORD_DASH, 60, "pypi-AgEIcHlwaS5vcmc" + "a1B2c3D4" * 8),
    at_least("rubygems_key", rb"rubygems_[0-9a-f]{4}", HEX, 50, "rubygems_" + "0123abcd" * 6),
    at_least(
        "docker_token", rb"dckr_[po]at_[A-Za-z0-9_-]{4}", WORD_DASH, 30, "dckr_pat_" + "a1B2" * 7
    ),
    at_least(
        "atlassian_token",
        rb"AT(?:ATT3|CTT3|BB)[A-Za-z0-9]{4}",
        rb"[A-Za-z0-9_=-]*",
        32,
        "ATATT3xFfGF0" + "a1B2c3D4" * 20,
    ),
    at_least(
        "linear_key", rb"lin_(?:api|oauth)_[A-Za-z0-9]{4}", WORD, 40, "lin_api_" + "a1B2" * 10
    ),
    at_least("notion_token", rb"ntn_[A-Za-z0-9]{4}", WORD, 40, "ntn_" + "a1B2" * 11),
    at_least(
        "postman_key",
        rb"PMAK-[0-9a-f]{8}",
        rb"[0-9a-f-]*",
        60,
        "PMAK-" + "0a1b" * 6 + "-" + "0a1b" * 8 + "2c",
    ),
    at_least(
        "sentry_token",
        rb"sntry[us]_[A-Za-z0-9]{4}",
        rb"[A-Za-z0-9+/=_-]*",
        60,
        "sntryu_" + "0a1b" * 16,
    ),
    at_least(
        "grafana_token",
        rb"gl(?:c|sa)_[A-Za-z0-9]{4}",
        rb"[A-Za-z0-9+/=_]*",
        36,
        "glsa_" + "a1B2" * 8 + "_0a1b2c3d",
    ),
    at_least("newrelic_key", rb"NRAK-[A-Z0-9]{4}", WORD, 30, "NRAK-" + "A1B2C3" * 5),
    at_least(
        "snyk_token", rb"snyk_(?:uat|sat)\.[A-Za-z0-9]{4}", WORD_DOT, 32, "snyk_uat." + MIXED * 4
    ),
    exact("sonar_token", rb"sq[pua]_[0-9a-f]{8}", HEX, 44, "sqp_" + "0123abcd" * 5),
    exact("sourcegraph_token", rb"sgp_[0-9a-f]{8}", rb"[0-9a-f_]*", 44, "sgp_" + "0123abcd" * 5),
    at_least("buildkite_token", rb"bk[uac]a_[0-9a-f]{8}", HEX, 40, "bkua_" + "0123abcd" * 5),
    at_least(
        "circleci_token",
        rb"CCIP(?:AT|RJ)_[A-Za-z0-9]{4}",
        WORD_,
        50,
        "CCIPAT_" + MIXED * 3 + "_" + "0123abcd" * 5,
    ),
    random("artifactory_token", rb"AKCp[A-Za-z0-9]{8}", WORD, 64, "AKCp8" + MIXED * 9),
    at_least("artifactory_token", rb"cmVmdGtu[A-Za-z0-9]{8}", WORD, 60, "cmVmdGtu" + MIXED * 7),
    random("crates_token", rb"cio[A-Za-z0-9]{8}", WORD, 35, "cio" + MIXED * 4),
    random("nuget_key", rb"oy2[a-z0-9]{8}", WORD, 46, "oy2" + "a1b2c3d4" * 5 + "xyz"),
    at_least("clojars_token", rb"CLOJARS_[A-Za-z0-9]{4}", WORD, 60, "CLOJARS_" + MIXED * 8),
    exact("prefect_key", rb"pnu_[A-Za-z0-9]{8}", WORD, 40, "pnu_" + "a1B2c3D4e5F6" * 3),
    at_least("pulumi_token", rb"pul-[0-9a-f]{8}", HEX, 44, "pul-" + "0123abcd" * 5),
    at_least(
        "terraform_token",
        rb"[A-Za-z0-9]{14}\.atlasv1\.",
        WORD_DASH,
        80,
        "a1B2c3D4e5F6g7.atlasv1." + MIXED * 8,
    ),
    at_least(
        "harness_token",
        rb"[ps]at\.[A-Za-z0-9_-]{22}\.",
        WORD_DOT,
        60,
        "pat." + "a1B2c3D4e5F" * 2 + "." + "a1B2c3D4" * 3 + "." + "a1B2c3D4e5",
    ),
    at_least("figma_token", rb"figd_[A-Za-z0-9_-]{4}", WORD_DASH, 40, "figd_" + "a1B2" * 10),
    at_least(
        "flightlog_key",
        rb"flightlog-key-[A-Za-z0-9_-]{4}",
        WORD_DASH,
        57,
        "flightlog-key-" + "a1B2c3D-" * 5 + "e_5",
    ),
)
DEVELOPER_TOKENS: Final[tuple[Pattern, ...]] = (*_MODELS, *_CODE)
