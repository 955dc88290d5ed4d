"""Secrets to be planted, each made up, and the forms in which they could turn up again."""

from __future__ import annotations

import base64
import json
from typing import NamedTuple
from urllib.parse import quote


class Canary(NamedTuple):
    """One secret.

    Attributes:
        name: what it is.
        secret: the text that must be nowhere.
        planted: the text that holds it.
    """

    name: str
    secret: str
    planted: str


_GIVEN = 'Zq8/w"Lr+3=xK'
_FROM_ENV = "m0n/key+Business=77"
ENVIRON = {"CRM_API_KEY": _FROM_ENV, "HOME": "/home/agent", "LANG": "C.UTF-8"}
VALUES = (_GIVEN,)


def _plain(name: str, secret: str) -> Canary:
    return Canary(name, secret, f"it is {secret} here")


_PEM = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj"
_JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJjYW5hcnkiLCJuIjo5OX0.c2lnbmF0dXJlLWNhbmFyeS0wMDAx"
CANARIES = (
    _plain("anthropic", "sk-ant-api03-Canary0nePlantedInEveryField77xyz"),
    _plain("openai", "sk-proj-Canary2woPlantedInEveryField88AbCdEf"),
    _plain("github", "ghp_Canary3ThreePlanted0InEveryField00aa"),
    _plain("gitlab", "glpat-Canary4FourPlanted00"),
    _plain("slack", "xoxb-123456789012-Canary5FivePlanted"),
    _plain("aws_id", "AKIACANARY6SIX7SEVEN"),
    _plain("google", "AIzaCanary7SevenPlantedInEveryField0000"),
    _plain("stripe", "sk_" + "live_Canary8EightPlanted00000000"),
    _plain("huggingface", "hf_CanaryNineNinePlantedInEveryField"),
    _plain("jwt", _JWT),
    Canary("pem", _PEM, f"-----BEGIN PRIVATE KEY-----\n{_PEM}\n-----END PRIVATE KEY-----"),
    _plain("card", "4539578763621486"),
    _plain("card_groups", "5105 1051 0510 5100"),
    _plain("iban", "GB29NWBK60161331926819"),
    Canary("url", "c4nary-url-pw", "postgres://app:c4nary-url-pw@db.example/app"),
    Canary("bearer", "c4naryBearer00Opaque", "Authorization: Bearer c4naryBearer00Opaque"),
    Canary("basic", "YXBwOmM0bmFyeS1iYXNpYw==", "Basic YXBwOmM0bmFyeS1iYXNpYw=="),
    Canary("password", "c4nary pass word", json.dumps({"password": "c4nary pass word"})),
    Canary(
        "nested",
        "c4nary-nested-1",
        json.dumps({"body": json.dumps({"inner": json.dumps({"api_key": "c4nary-nested-1"})})}),
    ),
    Canary("assigned", "c4naryAssigned1", "export DB_PASSWORD=c4naryAssigned1 && run"),
    Canary("cookie", "sid=c4naryCookie1", "Cookie: sid=c4naryCookie1; theme=dark"),
    _plain("environment", _FROM_ENV),
    _plain("given", _GIVEN),
    _plain("email", "canary.person@mail.example"),
)
assert len(CANARIES) == 24

EVERYTHING = " ;\n ".join(one.planted for one in CANARIES)
"""A text that holds them all."""


def forms(secret: str) -> list[bytes]:
    """What would give the secret away: as it is, in URLs, JSON, hexadecimal and Base64."""
    raw = secret.encode()
    encoded = [base64.b64encode(b"x" * n + raw).decode()[4:-4] for n in range(3)]
    plain = [
        secret,
        json.dumps(secret)[1:-1],
        json.dumps(json.dumps(secret))[3:-3],
        quote(secret),
        quote(secret, safe=""),
        raw.hex(),
        raw.hex().upper(),
        *encoded,
    ]
    return [text.encode() for text in plain]


def found_in(content: bytes) -> list[str]:
    """The names of the canaries that the content holds in any form."""
    return [one.name for one in CANARIES if any(form in content for form in forms(one.secret))]
