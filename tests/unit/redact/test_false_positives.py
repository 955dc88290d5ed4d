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
