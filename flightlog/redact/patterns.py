"""The shapes of secrets and personal values: one table, in linear RE2 syntax.

A shape has a head, which is what the search looks for, and a tail: the characters that
belong to the value from there on. Heads are bounded in length, so that a search never looks
far ahead to learn that a value does not come to its end: that is what keeps many searches in
one text linear together. Length and checksum are looked at after the search.

Sources: the documentation of the providers; for lengths also the rules of gitleaks
(config/gitleaks.toml). Card ranges: ISO/IEC 7812 as the networks publish them. IBAN: ISO 13616.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from flightlog.redact import checks

WORD: Final = rb"[A-Za-z0-9]*"
WORD_: Final = rb"[A-Za-z0-9_]*"
WORD_DASH: Final = rb"[A-Za-z0-9_-]*"
WORD_DOT: Final = rb"[A-Za-z0-9_.-]*"
HEX: Final = rb"[0-9a-fA-F]*"
BASE64: Final = rb"[A-Za-z0-9+/=]*"

CARDS: Final = "card"
IBANS: Final = "iban"
EMAILS: Final = "email"
PHONES: Final = "phone"
JWT: Final = "jwt"
PERSONAL: Final = frozenset({CARDS, IBANS, EMAILS, PHONES})
"""Kinds that belong to a person and can be part of an identifier; the others are secrets."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """One shape.

    Attributes:
        kind: what a pseudonym of it is called.
        head: RE2 of its beginning, of bounded length.
        tail: the characters that may follow, as one class.
        min_bytes: least length of head and tail together; shorter ones are something else.
        max_bytes: largest length; None for no limit.
        check: says of a whole value whether it is one, beyond its shape.
        examples: made up, and each one found.
    """

    kind: str
    head: bytes
    tail: bytes
    min_bytes: int
    max_bytes: int | None = None
    check: Callable[[bytes], bool] | None = None
    examples: tuple[str, ...] = ()


def _exact(kind: str, head: bytes, tail: bytes, length: int, *examples: str) -> Pattern:
    return Pattern(kind, head, tail, length, length, None, examples)


def _at_least(kind: str, head: bytes, tail: bytes, length: int, *examples: str) -> Pattern:
    return Pattern(kind, head, tail, length, None, None, examples)


_MODELS = (
    _at_least(
        "anthropic_key",
        rb"sk-ant-[A-Za-z0-9_-]{4}",
        WORD_DASH,
        24,
        "sk-ant-api03-R2D2c3poR2D2c3poR2D2c3poR2D2c3poAA",
    ),
    _at_least(
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
    _at_least("groq_key", rb"gsk_[A-Za-z0-9]{4}", WORD, 40, "gsk_" + "a1B2" * 13),
    _at_least("xai_key", rb"xai-[A-Za-z0-9]{4}", WORD, 60, "xai-" + "a1B2" * 20),
    _at_least("perplexity_key", rb"pplx-[A-Za-z0-9]{4}", WORD, 40, "pplx-" + "a1B2" * 12),
    _at_least("replicate_key", rb"r8_[A-Za-z0-9]{4}", WORD, 36, "r8_" + "a1B2" * 9 + "x"),
    _at_least("huggingface_token", rb"hf_[A-Za-z0-9]{4}", WORD, 30, "hf_" + "aBcD" * 8 + "eF"),
    _at_least("langsmith_key", rb"lsv2_(?:pt|sk)_", WORD_, 40, "lsv2_pt_" + "0a1b" * 8 + "_c2d3e4"),
    _at_least(
        "tavily_key", rb"tvly-[A-Za-z0-9-]{4}", WORD_DASH, 24, "tvly-dev-a1B2c3D4e5F6g7H8i9J0"
    ),
    _exact("elevenlabs_key", rb"sk_[0-9a-f]{8}", HEX, 51, "sk_" + "0123abcd" * 6),
)
_CODE = (
    _at_least("github_token", rb"gh[pousr]_[A-Za-z0-9]{4}", WORD, 36, "ghp_" + "a1B2c3D4e5F6" * 3),
    _at_least(
        "github_token",
        rb"github_pat_[A-Za-z0-9]{4}",
        WORD_,
        40,
        "github_pat_11ABCDEFG0" + "a1B2c3D4" * 5,
    ),
    _at_least(
        "gitlab_token",
        rb"gl(?:pat|ptt|dt|rt|cbt|soat|ft|imt|agent|oas|ffct)-[A-Za-z0-9_-]{4}",
        WORD_DOT,
        24,
        "glpat-a1B2c3D4e5F6g7H8i9J0",
    ),
    _at_least("npm_token", rb"npm_[A-Za-z0-9]{4}", WORD, 36, "npm_" + "a1B2c3D4e5F6" * 3),
    _at_least("pypi_token", rb"pypi-AgE", WORD_DASH, 60, "pypi-AgEIcHlwaS5vcmc" + "a1B2c3D4" * 8),
    _at_least("rubygems_key", rb"rubygems_[0-9a-f]{4}", HEX, 50, "rubygems_" + "0123abcd" * 6),
    _at_least(
        "docker_token", rb"dckr_[po]at_[A-Za-z0-9_-]{4}", WORD_DASH, 30, "dckr_pat_" + "a1B2" * 7
    ),
    _at_least(
        "atlassian_token",
        rb"AT(?:ATT3|CTT3|BB)[A-Za-z0-9]{4}",
        rb"[A-Za-z0-9_=-]*",
        32,
        "ATATT3xFfGF0" + "a1B2c3D4" * 20,
    ),
    _at_least(
        "linear_key", rb"lin_(?:api|oauth)_[A-Za-z0-9]{4}", WORD, 40, "lin_api_" + "a1B2" * 10
    ),
    _at_least("notion_token", rb"ntn_[A-Za-z0-9]{4}", WORD, 40, "ntn_" + "a1B2" * 11),
    _at_least(
        "postman_key",
        rb"PMAK-[0-9a-f]{8}",
        rb"[0-9a-f-]*",
        60,
        "PMAK-" + "0a1b" * 6 + "-" + "0a1b" * 8 + "2c",
    ),
    _at_least(
        "sentry_token",
        rb"sntry[us]_[A-Za-z0-9]{4}",
        rb"[A-Za-z0-9+/=_-]*",
        60,
        "sntryu_" + "0a1b" * 16,
    ),
    _at_least(
        "grafana_token",
        rb"gl(?:c|sa)_[A-Za-z0-9]{4}",
        rb"[A-Za-z0-9+/=_]*",
        36,
        "glsa_" + "a1B2" * 8 + "_0a1b2c3d",
    ),
    _at_least("newrelic_key", rb"NRAK-[A-Z0-9]{4}", WORD, 30, "NRAK-" + "A1B2C3" * 5),
    _at_least("figma_token", rb"figd_[A-Za-z0-9_-]{4}", WORD_DASH, 40, "figd_" + "a1B2" * 10),
    _at_least(
        "flightlog_key",
        rb"flightlog-key-[A-Za-z0-9_-]{4}",
        WORD_DASH,
        57,
        "flightlog-key-" + "a1B2c3D-" * 5 + "e_5",
    ),
)
_CLOUDS = (
    _exact(
        "aws_key_id",
        rb"A(?:KIA|SIA|BIA|CCA)[A-Z0-9]{4}",
        rb"[A-Za-z0-9]*",
        20,
        "AKIA2E0A8F3B1C9D7E5F",
    ),
    _at_least("aws_key", rb"ABSK[A-Za-z0-9+/]{8}", BASE64, 80, "ABSK" + "a1B2c3D4" * 14),
    _at_least("google_key", rb"AIza[A-Za-z0-9_-]{4}", WORD_DASH, 39, "AIza" + "SyA1b2C" * 5),
    _at_least(
        "google_token", rb"ya29\.[A-Za-z0-9_-]{4}", WORD_DOT, 30, "ya29.a0Af_" + "a1B2c3D4" * 6
    ),
    _at_least("google_secret", rb"GOCSPX-[A-Za-z0-9_-]{4}", WORD_DASH, 30, "GOCSPX-" + "a1B2" * 7),
    _at_least("google_token", rb"1//0[A-Za-z0-9_-]{8}", WORD_DASH, 40, "1//0g" + "a1B2c3D4" * 7),
    _at_least(
        "azure_secret",
        rb"[A-Za-z0-9_~.]{3}[0-9]Q~[A-Za-z0-9_~.-]{8}",
        rb"[A-Za-z0-9_~.-]*",
        37,
        "a1B8Q~" + "c3D4e5F6" * 4 + "gh",
    ),
    _at_least(
        "digitalocean_token", rb"do[opr]_v1_[0-9a-f]{8}", HEX, 64, "dop_v1_" + "0123abcd" * 8
    ),
    _at_least("databricks_token", rb"dapi[0-9a-f]{8}", rb"[0-9a-f-]*", 36, "dapi" + "0123abcd" * 4),
    _at_least(
        "vault_token", rb"hv[sbr]\.[A-Za-z0-9_-]{4}", WORD_DASH, 28, "hvs.CAES" + "a1B2c3D4" * 5
    ),
    _at_least(
        "doppler_token", rb"dp\.(?:pt|st|ct|sa|scim|audit)\.", WORD_DOT, 40, "dp.pt." + "a1B2" * 11
    ),
    _at_least(
        "age_key",
        rb"AGE-UNSHAPED-KEY-1",
        rb"[A-Z0-9]*",
        70,
        "AGE-UNSHAPED-KEY-1" + "QPZRY9X8" * 7 + "QP",
    ),
    _at_least(
        "supabase_key", rb"sb(?:p|_secret)_[A-Za-z0-9]{4}", WORD_DASH, 32, "sbp_" + "0a1b2c3d" * 5
    ),
    _at_least(
        "planetscale_token", rb"pscale_(?:tkn|pw|oauth)_", WORD_DOT, 40, "pscale_tkn_" + "a1B2" * 9
    ),
    _at_least(
        "airtable_token",
        rb"pat[A-Za-z0-9]{14}\.[0-9a-f]{4}",
        WORD,
        80,
        "patA1b2C3d4E5f6G7." + "0123abcd" * 8,
    ),
)
_SERVICES = (
    _at_least(
        "slack_token",
        rb"xox[abeoprs]-[A-Za-z0-9-]{4}",
        rb"[A-Za-z0-9.-]*",
        20,
        "xoxb-123456789012-a1B2c3D4e5F6",
    ),
    _at_least(
        "slack_token",
        rb"xapp-[0-9]-",
        rb"[A-Za-z0-9-]*",
        30,
        "xapp-1-A0123456789-123456789-0a1b2c3d4e5f",
    ),
    _at_least(
        "slack_webhook",
        rb"hooks\.slack\.com/(?:services|workflows|triggers)/",
        rb"[A-Za-z0-9/_+-]*",
        50,
        "hooks.slack.com/services/T01ABCDEF/B01ABCDEF/a1B2c3D4e5F6",
    ),
    _at_least(
        "discord_webhook",
        rb"discord(?:app)?\.com/api/webhooks/[0-9]{4}",
        rb"[A-Za-z0-9/_-]*",
        60,
        "discord.com/api/webhooks/123456789012345678/" + "a1B2c3D4" * 8,
    ),
    _at_least(
        "telegram_token",
        rb"[0-9]{8,10}:AA[A-Za-z0-9_-]{4}",
        WORD_DASH,
        44,
        "123456789:AA" + "a1B2c3D4" * 4 + "x",
    ),
    _at_least(
        "stripe_key",
        rb"[sr]k_(?:live|test|prod)_[A-Za-z0-9]{4}",
        WORD,
        24,
        "sk_" + "live_a1B2c3D4e5F6g7H8i9J0k1L2",
    ),
    _at_least("stripe_key", rb"whsec_[A-Za-z0-9+/]{4}", BASE64, 30, "whsec_" + "a1B2c3D4" * 4),
    _at_least(
        "sendgrid_key",
        rb"SG\.[A-Za-z0-9_-]{8}",
        WORD_DOT,
        60,
        "SG." + "a1B2c3D4e5F6" + "." + "a1B2c3D4" * 6,
    ),
    _exact("twilio_key", rb"SK[0-9a-f]{8}", WORD, 34, "SK" + "0123abcd" * 4),
    _exact("mailgun_key", rb"key-[0-9a-f]{8}", WORD, 36, "key-" + "0123abcd" * 4),
    _at_least(
        "shopify_token",
        rb"shp(?:at|ca|pa|ss|tka)_[0-9a-fA-F]{8}",
        HEX,
        36,
        "shpat_" + "0123abcd" * 4,
    ),
    _at_least(
        "square_token",
        rb"sq0(?:atp|csp|idp)-[A-Za-z0-9_-]{4}",
        WORD_DASH,
        29,
        "sq0atp-" + "a1B2c3D4" * 3,
    ),
    _at_least("meta_token", rb"EAA[A-Za-z0-9]{8}", WORD, 100, "EAA" + "a1B2c3D4" * 14),
    _at_least(
        "signature",
        rb"[?&;]sig=[A-Za-z0-9%+/]{8}",
        rb"[A-Za-z0-9%+/=]*",
        40,
        "?sig=" + "a1B2c3D4" * 5 + "%3D",
    ),
)
SECRETS: Final[tuple[Pattern, ...]] = (*_MODELS, *_CODE, *_CLOUDS, *_SERVICES)

_SEPARATOR = rb"(?:[ +-]|%20|\xc2\xa0)?"
_CARD_START = rb"(?:[3-6][0-9]{3}|2[2-7][0-9]{2})"
_GROUPS = _SEPARATOR.join([b"", rb"[0-9]{4}", rb"[0-9]{4}", rb"[0-9]"])
_AMEX_GROUPS = _SEPARATOR.join([b"", rb"[0-9]{6}", rb"[0-9]{3}"])
CARD_HEAD: Final = rb"%s(?:%s|%s)" % (_CARD_START, _GROUPS, _AMEX_GROUPS)
CARD_DIGITS: Final = re.compile(rb"[0-9]{13,19}(?![0-9])")
CARD_VALUE: Final = re.compile(rb"[0-9](?:(?:[ +-]|%20|\xc2\xa0)?[0-9]){11,18}")
IBAN_HEAD: Final = rb"[A-Z]{2}[0-9]{2} ?[A-Z0-9]{4} ?[A-Z0-9]{4}"
IBAN_VALUE: Final = re.compile(rb"[A-Z]{2}[0-9]{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?")
EMAIL_HEAD: Final = rb"[A-Za-z0-9_%+-](?:@|%40)[A-Za-z0-9-]{1,63}\.[A-Za-z]"
EMAIL_DOMAIN: Final = re.compile(
    rb"[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){0,6}\.[A-Za-z]{2,24}"
)
PHONE_HEAD: Final = rb"\+[1-9][0-9 ().-]{6}|\(?[2-9][0-9]{2}\)?[ .-][2-9][0-9]{2}[ .-][0-9]{4}"
PHONE_VALUE: Final = re.compile(rb"\+?\(?[0-9](?:[ ().-]{0,3}[0-9]){8,14}")
JWT_HEAD: Final = rb"eyJ[A-Za-z0-9_-]{6}"
JWT_VALUE: Final = re.compile(
    rb"[A-Za-z0-9_-]{10,8192}\.[A-Za-z0-9_-]{10,16384}(?:\.[A-Za-z0-9_-]{0,8192}){0,3}"
)
PEM_HEAD: Final = (
    rb"-----BEGIN(?:[A-Z0-9 +]|%20){0,32}PRIVATE(?:[ +]|%20)KEY(?:[ +]BLOCK|%20BLOCK)?-----"
)
PEM_BODY: Final = re.compile(rb"(?:[A-Za-z0-9+/=\s\\:,.%]|-(?!-)){0,65536}")
PEM_END: Final = re.compile(rb"-----END[A-Z0-9 +%]{0,60}-----")
URL_HEAD: Final = (
    rb"(?::|%3[Aa])(?:\\*/\\*/|%2[Ff]%2[Ff])[^\x00-\x20/@:?#%\"'<>\\]{0,64}(?::|%3[Aa])"
    rb"[^\x00-\x20/@\"'<>\\]{1,100}(?:@|%40)"
)
URL_VALUE: Final = re.compile(
    rb"(?::|%3[Aa])[^:%]{0,80}(?:%2[Ff]%2[Ff][^:%]{0,80})?(?::|%3[Aa])(.{1,100}?)(?:@|%40)",
    re.DOTALL,
)
AUTH_HEAD: Final = rb"(?i:bearer|basic)(?: |%20|\+|\\{1,16}u0020){1,2}[A-Za-z0-9._~+/=-]{8}"
AUTH_VALUE: Final = re.compile(rb"(?:[A-Za-z0-9._~+=]|-(?!--)|\\*/)+")
BASIC_VALUE: Final = re.compile(rb"(?:[A-Za-z0-9+_]|-(?!--)|\\*/)+={0,2}")
