"""The shapes of keys of clouds and of other services."""

from __future__ import annotations

from typing import Final

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

_CLOUDS = (
    exact(
        "aws_key_id",
        rb"A(?:KIA|SIA|BIA|CCA)[A-Z0-9]{4}",
        rb"[A-Za-z0-9]*",
        20,
        "AKIA2E0A8F3B1C9D7E5F",
    ),
    at_least("aws_key", rb"ABSK[A-Za-z0-9+/]{8}", BASE64, 80, "ABSK" + "a1B2c3D4" * 14),
    at_least("google_key", rb"AIza[A-Za-z0-9_-]{4}", WORD_DASH, 39, "AIza" + "SyA1b2C" * 5),
    at_least(
        "google_token", rb"ya29\.[A-Za-z0-9_-]{4}", WORD_DOT, 30, "ya29.a0Af_" + "a1B2c3D4" * 6
    ),
    at_least("google_secret", rb"GOCSPX-[A-Za-z0-9_-]{4}", WORD_DASH, 30, "GOCSPX-" + "a1B2" * 7),
    at_least("google_token", rb"1//0[A-Za-z0-9_-]{8}", WORD_DASH, 40, "1//0g" + "a1B2c3D4" * 7),
    at_least(
        "azure_secret",
        rb"[A-Za-z0-9_~.]{3}[0-9]Q~[A-Za-z0-9_~.-]{8}",
        rb"[A-Za-z0-9_~.-]*",
        37,
        "a1B8Q~" + "c3D4e5F6" * 4 + "gh",
    ),
    at_least("digitalocean_token", rb"do[opr]_v1_[0-9a-f]{8}", HEX, 64, "dop_v1_" + "0123abcd" * 8),
    at_least("databricks_token", rb"dapi[0-9a-f]{8}", rb"[0-9a-f-]*", 36, "dapi" + "0123abcd" * 4),
    at_least(
        "vault_token", rb"hv[sbr]\.[A-Za-z0-9_-]{4}", WORD_DASH, 28, "hvs.CAES" + "a1B2c3D4" * 5
    ),
    at_least(
        "doppler_token", rb"dp\.(?:pt|st|ct|sa|scim|audit)\.", WORD_DOT, 40, "dp.pt." + "a1B2" * 11
    ),
    at_least(
        "age_key",
        rb"AGE-SECRET-KEY-1",
        rb"[A-Z0-9]*",
        70,
        "AGE-SECRET-KEY-1" + "QPZRY9X8" * 7 + "QP",
    ),
    at_least(
        "supabase_key", rb"sb(?:p|_secret)_[A-Za-z0-9]{4}", WORD_DASH, 32, "sbp_" + "0a1b2c3d" * 5
    ),
    at_least(
        "planetscale_token", rb"pscale_(?:tkn|pw|oauth)_", WORD_DOT, 40, "pscale_tkn_" + "a1B2" * 9
    ),
    exact("vault_token", rb"s\.[A-Za-z0-9]{24}", WORD, 26, "s." + MIXED * 3),
    at_least(
        "vercel_token",
        rb"(?:vc[pirak]_|vercel_blob_rw_)[A-Za-z0-9]{8}",
        WORD_,
        30,
        "vcp_" + MIXED * 7,
    ),
    at_least("cloudflare_token", rb"cf(?:k|ut|at)_[A-Za-z0-9]{8}", WORD, 40, "cfut_" + MIXED * 6),
    at_least(
        "cloudflare_key",
        rb"v1\.0-[0-9a-f]{24}-",
        HEX,
        100,
        "v1.0-" + "0123abcd" * 3 + "-" + "0123abcd" * 18,
    ),
    at_least("netlify_token", rb"nf[pcoub]_[A-Za-z0-9]{8}", WORD_, 36, "nfp_" + "a1B2c3D4e5F6" * 3),
    at_least("fly_token", rb"fm[12][ar]?_[A-Za-z0-9+/]{8}", BASE64, 60, "fm2_" + MIXED * 9),
    random("render_key", rb"rnd_[A-Za-z0-9]{8}", WORD, 32, "rnd_" + MIXED * 4),
    at_least("heroku_key", rb"HRKU-[A-Za-z0-9_-]{8}", WORD_DASH, 40, "HRKU-" + MIXED * 7),
    random("neon_key", rb"napi_[a-z0-9]{8}", WORD, 50, "napi_" + "a1b2c3d4" * 8),
    at_least(
        "onepassword_token",
        rb"ops_eyJ[A-Za-z0-9_-]{8}",
        rb"[A-Za-z0-9+/=_-]*",
        100,
        "ops_eyJ" + "a1B2c3D4" * 14,
    ),
    at_least(
        "tailscale_key",
        rb"tskey-[a-z]{3,9}-[A-Za-z0-9]{4}",
        WORD_DASH,
        30,
        "tskey-auth-" + MIXED * 3,
    ),
    at_least(
        "dynatrace_token",
        rb"dt0[a-z][0-9]{2}\.[A-Z0-9]{8}",
        WORD_DOT,
        60,
        "dt0c01." + "A1B2C3D4" * 3 + "." + "A1B2C3D4" * 8,
    ),
    random(
        "openshift_token",
        rb"sha256~[A-Za-z0-9_-]{8}",
        WORD_DASH,
        50,
        "sha256~" + MIXED * 5 + "xYz",
    ),
    exact("alibaba_key_id", rb"LTAI[A-Za-z0-9]{8}", WORD, 24, "LTAI5t" + "a1B2c3D4e5" + "F6g7H8i9"),
    random("yandex_key", rb"AQVN[A-Za-z0-9_-]{8}", WORD_DASH, 38, "AQVN" + MIXED * 5),
    Pattern(
        "azure_key",
        rb"[A-Za-z0-9]{32}[A-Za-z0-9]{20}JQQJ99[A-Z]{2}",
        WORD,
        80,
        88,
        None,
        ("a1B2c3D4e5F6" * 4 + "g7H8" + "JQQJ99BCACYeBjFXJ3w3AAABACOGx9Zk",),
    ),
    at_least(
        "azure_key",
        rb"[A-Za-z0-9]{32}[A-Za-z0-9]{44}AZDO",
        WORD,
        84,
        "a1B2c3D4e5F6" * 6 + "g7H8" + "AZDO" + "x9Zk",
    ),
    at_least(
        "airtable_token",
        rb"pat[A-Za-z0-9]{14}\.[0-9a-f]{4}",
        WORD,
        80,
        "patA1b2C3d4E5f6G7." + "0123abcd" * 8,
    ),
)
_SERVICES = (
    at_least(
        "slack_token",
        rb"xox[a-z]-[A-Za-z0-9%-]{4}",
        rb"[A-Za-z0-9.%-]*",
        20,
        "xoxb-123456789012-a1B2c3D4e5F6",
    ),
    at_least(
        "slack_token",
        rb"xapp-[0-9]-",
        rb"[A-Za-z0-9-]*",
        30,
        "xapp-1-A0123456789-123456789-0a1b2c3d4e5f",
    ),
    at_least(
        "slack_webhook",
        rb"hooks\.slack\.com/(?:services|workflows|triggers)/",
        rb"[A-Za-z0-9/_+-]*",
        50,
        "hooks.slack.com/services/T01ABCDEF/B01ABCDEF/a1B2c3D4e5F6",
    ),
    at_least(
        "discord_webhook",
        rb"discord(?:app)?\.com/api/webhooks/[0-9]{4}",
        rb"[A-Za-z0-9/_-]*",
        60,
        "discord.com/api/webhooks/123456789012345678/" + "a1B2c3D4" * 8,
    ),
    at_least(
        "telegram_token",
        rb"[0-9]{8,10}:AA[A-Za-z0-9_-]{4}",
        WORD_DASH,
        44,
        "123456789:AA" + "a1B2c3D4" * 4 + "x",
    ),
    at_least(
        "stripe_key",
        rb"[sr]k_(?:org_)?(?:live|test|prod)_[A-Za-z0-9]{4}",
        WORD,
        24,
        "sk_" + "live_a1B2c3D4e5F6g7H8i9J0k1L2",
    ),
    at_least("stripe_key", rb"whsec_[A-Za-z0-9+/]{4}", BASE64, 30, "whsec_" + "a1B2c3D4" * 4),
    at_least(
        "sendgrid_key",
        rb"SG\.[A-Za-z0-9_-]{8}",
        WORD_DOT,
        60,
        "SG." + "a1B2c3D4e5F6" + "." + "a1B2c3D4" * 6,
    ),
    exact("twilio_key", rb"SK[0-9a-f]{8}", WORD, 34, "SK" + "0123abcd" * 4),
    exact("mailgun_key", rb"key-[0-9a-f]{8}", WORD, 36, "key-" + "0123abcd" * 4),
    at_least(
        "shopify_token",
        rb"shp(?:at|ca|pa|ss|tka)_[0-9a-fA-F]{8}",
        HEX,
        36,
        "shpat_" + "0123abcd" * 4,
    ),
    at_least(
        "square_token",
        rb"sq0(?:atp|csp|idp)-[A-Za-z0-9_-]{4}",
        WORD_DASH,
        29,
        "sq0atp-" + "a1B2c3D4" * 3,
    ),
    at_least("square_token", rb"EAAA[A-Za-z0-9_-]{8}", WORD_DASH, 64, "EAAA" + MIXED * 8),
    random("posthog_key", rb"ph[xcs]_[A-Za-z0-9]{8}", WORD, 40, "phx_" + MIXED * 5),
    random("notion_token", rb"secret_[A-Za-z0-9]{8}", WORD, 50, "secret_" + MIXED * 5 + "xYz"),
    at_least(
        "discord_token",
        rb"[MNO][A-Za-z0-9_-]{23,27}\.[A-Za-z0-9_-]{6}\.[A-Za-z0-9_-]{4}",
        WORD_DASH,
        59,
        "MTA" + "a1B2c3D4" * 2 + "e5F6g7H" + ".a1B2c3." + "a1B2c3D4" * 4 + "xYzAbC",
    ),
    exact("mailchimp_key", rb"[0-9a-f]{32}-us[0-9]", rb"[0-9]*", 37, "0123abcd" * 4 + "-us12"),
    random(
        "resend_key", rb"re_[A-Za-z0-9]{8}_[A-Za-z0-9]{4}", WORD, 32, "re_a1B2c3D4_" + MIXED * 3
    ),
    at_least(
        "brevo_key",
        rb"x(?:keys|smtps)ib-[0-9a-f]{8}",
        rb"[A-Za-z0-9-]*",
        80,
        "xkeysib-" + "0123abcd" * 8 + "-" + "a1B2c3D4" * 2,
    ),
    at_least(
        "paypal_token",
        rb"access_token\$(?:production|sandbox)\$",
        rb"[a-z0-9$]*",
        60,
        "access_token$production$" + "a1b2c3d4" * 2 + "$" + "0123abcd" * 4,
    ),
    random(
        "adyen_key",
        rb"AQE[A-Za-z0-9]{8}",
        rb"[A-Za-z0-9+/=_-]*",
        80,
        "AQEy" + MIXED * 12,
    ),
    at_least(
        "razorpay_key", rb"rzp_(?:live|test)_[A-Za-z0-9]{4}", WORD, 20, "rzp_live_a1B2c3D4e5F6g7"
    ),
    at_least(
        "plaid_token",
        rb"access-(?:production|sandbox|development)-[0-9a-f]{8}-",
        rb"[0-9a-f-]*",
        50,
        "access-production-" + UUID,
    ),
    at_least(
        "hubspot_token", rb"pat-(?:na|eu)[0-9]-[0-9a-f]{8}-", rb"[0-9a-f-]*", 40, "pat-na1-" + UUID
    ),
    at_least(
        "launchdarkly_key",
        rb"(?:sdk|api|mob)-[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-",
        rb"[0-9a-f-]*",
        40,
        "sdk-" + UUID,
    ),
    at_least("contentful_token", rb"CFPAT-[A-Za-z0-9_-]{4}", WORD_DASH, 40, "CFPAT-" + MIXED * 5),
    random(
        "dropbox_token", rb"sl\.(?:u\.)?[A-Za-z0-9_-]{16}", WORD_DASH, 130, "sl." + "a1B2c3D4" * 17
    ),
    at_least("typeform_token", rb"tfp_[A-Za-z0-9_-]{8}", WORD_DOT, 50, "tfp_" + MIXED * 7),
    at_least(
        "duffel_token",
        rb"duffel_(?:live|test)_[A-Za-z0-9_-]{4}",
        WORD_DASH,
        40,
        "duffel_live_" + MIXED * 5,
    ),
    at_least("easypost_key", rb"EZ[AT]K[A-Za-z0-9]{8}", WORD, 54, "EZAK" + MIXED * 7),
    at_least(
        "shippo_token",
        rb"shippo_(?:live|test)_[0-9a-f]{8}",
        HEX,
        50,
        "shippo_live_" + "0123abcd" * 5,
    ),
    at_least(
        "flutterwave_key",
        rb"FLWSECK(?:_TEST)?-[0-9a-zA-Z]{8}",
        WORD_DASH,
        40,
        "FLWSECK-" + "0123abcd" * 4 + "-X",
    ),
    exact("octopus_key", rb"API-[A-Z0-9]{8}", WORD, 30, "API-" + "A1B2C3D4E5F6G" * 2),
    at_least("readme_key", rb"rdme_[a-z0-9]{8}", WORD, 70, "rdme_" + "a1b2c3d4" * 9),
    at_least("paseto", rb"v[1-4]\.local\.[A-Za-z0-9_-]{8}", WORD_DOT, 60, "v4.local." + MIXED * 9),
    at_least(
        "teams_webhook",
        rb"webhook\.office\.com/webhookb2/[0-9a-f]{8}-",
        rb"[A-Za-z0-9/@_-]*",
        100,
        "webhook.office.com/webhookb2/" + UUID + "@" + UUID + "/IncomingWebhook/" + "0123abcd" * 4,
    ),
    at_least(
        "zapier_webhook",
        rb"hooks\.zapier\.com/hooks/catch/[0-9]{4}",
        rb"[A-Za-z0-9/]*",
        40,
        "hooks.zapier.com/hooks/catch/1234567/a1b2c3d",
    ),
    at_least("meta_token", rb"EAA[A-Za-z0-9]{8}", WORD, 100, "EAA" + "a1B2c3D4" * 14),
)
SERVICE_TOKENS: Final[tuple[Pattern, ...]] = (*_CLOUDS, *_SERVICES)
