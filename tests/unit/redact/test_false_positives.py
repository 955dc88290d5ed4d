"""Ordinary texts stay as they are: how often they do not is measured."""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from flightlog.redact.policy import Redaction
from flightlog.redact.pseudonyms import Pseudonyms
from flightlog.redact.redactor import Redactor

DATA = Path(__file__).parents[4] / "shared" / "data" / "native"
REDACTOR = Redactor(Redaction(), Pseudonyms(b"k" * 32))
PROSE = """\
The token of appreciation was a cookie; the secret of the recipe is butter. Basic training takes
a bearer of good news six weeks. Sign in, reset your password, and authorization follows.
A passphrase should be long. The API key is shown once. Keep the private key private, see keys.
Please call 555 0100 or visit room 4111. Invoice 2024-000017 of EUR 1,234.56 (VAT 19 %) is due on
2024-05-06T07:08:09.123456Z; the order W1234567 ships as 1Z999AA10123456784. ISBN 978-3-16-148410-0.
task-oriented-dialogue-systems-2024, risk-free-rate-of-2-percent, desk-booking-app-version-10.
"""


def made_up(count: int) -> Iterator[str]:
    """Identifiers, times, prices and digests as tools give them."""
    rng = random.Random(11)
    for _ in range(count):
        yield str(uuid.UUID(int=rng.getrandbits(128), version=4))
        yield f"{rng.getrandbits(160):040x}"
        yield f"{rng.getrandbits(256):064x}"
        yield f"{rng.randrange(10**9, 2 * 10**9)}"
        yield f"{rng.randrange(17 * 10**14, 18 * 10**14)}"
        yield f"{rng.randrange(17 * 10**17, 18 * 10**17)}"
        yield f"{rng.random()!r}"
        yield f"{rng.uniform(0, 1e6):,.2f}"
        yield f"call_{rng.getrandbits(48):012x}"
        yield f"#W{rng.randrange(10**7)}"
        yield f"2024-{rng.randrange(1, 13):02}-{rng.randrange(1, 29):02}T07:08:09.123456Z"
        yield f"{rng.randrange(1000):03}-{rng.randrange(100):02}-{rng.randrange(10**4):04}"


def test_ordinary_prose_is_left_alone() -> None:
    assert REDACTOR.clean(PROSE) == PROSE


def test_identifiers_times_and_prices_are_left_alone() -> None:
    texts = list(made_up(4_000))
    changed = [text for text in texts if REDACTOR.clean(text) != text]
    assert changed == []


@pytest.mark.parametrize(
    "text",
    [
        "git commit 07b9c96f116000862563102ba709aa8377cab12d",
        "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        '"integrity": "sha512-z4PhNX7vuL3xVChQ1m2AB9Yg5AULVxXcg/SpIdNs6c5H0NE8XYXysP+DGNKHfuwvY="',
        "trace 4bf92f3577b34da6a3ce929d0e0e4736 span be49b151c9b438ce",
        "0192f0c1-7d3e-7abc-8def-0123456789ab",
        "ISBN 978-3-16-148410-0, EAN 4006381333931, ISSN 2049-3630",
        "tracking 1Z999AA10123456784, order 4539-5787, invoice INV-2024-000123",
        "1716900000123456789 1716900000.123456 2024-05-06T07:08:09.123456789Z",
        "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk",
        "EUR 1.234,56; 4,539.57; 1 234 567.89; 12.5 %",
        "docker run -u 1000:1000 -p 8080:80 alpine",
        "version 4.18.0-553.el8, python 3.11.9, ip 10.0.0.1:5432, 192.168.100.200",
        '{"usage":{"input_tokens":1234,"output_tokens":567,"total_tokens":1801}}',
        '{"name":"password","type":"string","description":"at least 12 characters"}',
        '["username","password","email"]',
        "passengers: 3, passed: 12, bypass=true, compass: north2024",
        "the token is expired, the password is required, the secret was out",
        "mailto:someone@host.example and git@github.com:org/repo.git",
        "http://localhost:8080/path?next=/a@b",
        "resp_0123456789abcdef msg_01XFDUDYJgAACzvnptvVoYEL toolu_01A09q90qw90lq917835lq9",
        "req_011CSHoEeqs5C35K2UUqR7Fy chatcmpl-123456789abcdef call_abc123def456",
        "4539 items, 5787 of them at 6362 m, and 1486 more",
    ],
)
def test_what_tools_often_give_is_left_alone(text) -> None:
    assert REDACTOR.clean(text) == text


def test_sixteen_random_digits_are_a_card_seldom() -> None:
    """One in ten has a right check digit, and about half begin like a card's number."""
    rng = random.Random(5)
    texts = [f"{rng.randrange(10**15, 10**16)}" for _ in range(20_000)]
    rate = sum(REDACTOR.clean(text) != text for text in texts) / len(texts)
    assert rate < 0.04


def real_files() -> list[Path]:
    return sorted(DATA.rglob("*.json"))[:6] if DATA.is_dir() else []


@pytest.mark.skipif(not real_files(), reason="the recorded runs of others are not here")
@pytest.mark.parametrize("path", real_files(), ids=lambda path: path.name)
def test_recorded_runs_of_others_lose_nearly_nothing(path: Path) -> None:
    with path.open(encoding="utf-8") as file:
        text = file.read(4_000_000)
    pieces = (
        text.split("\n")
        if "\n" in text[:100_000]
        else [text[at : at + 4_000] for at in range(0, len(text), 4_000)]
    )
    values = sum(REDACTOR.text(piece, REDACTOR.work(len(piece))).values for piece in pieces)
    assert values <= 2 + len(text) / 200_000
