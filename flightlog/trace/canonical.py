"""The canonical form of tool arguments and the digests of everything (canon/1).

Two calls that mean the same have the same canonical text: keys sorted, white
space gone, schema defaults filled, volatile paths dropped, integral floats
written as integers. The recorder and the replay matcher both call
`canonical_args`, so they cannot disagree. Text that is not clean JSON
(duplicate keys, NaN or infinities, unparsable) is kept as it is and flagged.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from flightlog.trace.slices import SLICE_CHARS, clean_slice, text_slices, utf8_size
from flightlog.trace.versions import CANON_VERSION

DIGEST_BYTES: Final = 16
MAX_SAFE_INTEGER: Final = 2**53
MAX_PARTS: Final = 2_000_000
"""Most items of lists and objects in one value: a list that holds another twice, and that one
another twice, and so on, is small in memory and endless as JSON."""
_blake2b = hashlib.blake2b
FLAG_DUPLICATE_KEYS: Final = "duplicate_keys"
FLAG_NON_FINITE: Final = "non_finite"
FLAG_UNPARSABLE: Final = "unparsable"
FLAG_NOT_AN_OBJECT: Final = "not_an_object"


@dataclass(frozen=True, slots=True)
class CanonicalArgs:
    """Canonical arguments of one tool call.

    Attributes:
        text: canonical JSON, or the raw text where `flag` is set.
        digest: 32 hex digits, blake2b-128 of version and text.
        value: the parsed object; empty where `flag` is set.
        flag: why the text stayed raw; None for clean arguments.
    """

    text: str
    digest: str
    value: Mapping[str, Any]
    flag: str | None = None


class _UncleanError(ValueError):
    """Parsing found something that canonical JSON cannot hold."""

    def __init__(self, flag: str) -> None:
        super().__init__(flag)
        self.flag = flag


def clean_text(text: str) -> str:
    """The text with lone surrogates replaced by U+FFFD, so that it is valid UTF-8."""
    if text.isascii():
        return text
    if len(text) <= SLICE_CHARS:
        return clean_slice(text)
    pieces = [clean_slice(piece) for piece in text_slices(text)]
    is_same = sum(map(len, pieces)) == len(text)  # a cleaned surrogate is three signs
    return text if is_same else "".join(pieces)


def digest_of(*parts: str | bytes) -> str:
    """blake2b-128 in hex over length-prefixed parts, so that no two lists collide by joining."""
    content = b""
    for part in parts:
        raw = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
        content += len(raw).to_bytes(8, "little") + raw
    return _blake2b(content, digest_size=DIGEST_BYTES).hexdigest()


def digest_of_bytes(raw: bytes) -> str:
    """`digest_of` of one part; shorter, for the recording of every observation."""
    content = len(raw).to_bytes(8, "little") + raw
    return _blake2b(content, digest_size=DIGEST_BYTES).hexdigest()


def digest_of_text(text: str) -> str:
    """`digest_of` of one text, without a copy of a long one."""
    if len(text) <= SLICE_CHARS:
        return digest_of_bytes(text.encode("utf-8", "surrogatepass"))
    raw = (piece.encode("utf-8", "surrogatepass") for piece in text_slices(text))
    return digest_of_pieces(utf8_size(text), raw)


def digest_of_pieces(size: int, pieces: Iterable[bytes]) -> str:
    """`digest_of` of one part that comes in pieces of so many bytes together."""
    found = _blake2b(size.to_bytes(8, "little"), digest_size=DIGEST_BYTES)
    for piece in pieces:
        found.update(piece)
    return found.hexdigest()


def canonical_json(value: Any) -> str:
    """Canonical JSON of a JSON-like value.

    Keys sorted by code point, no white space, integral floats up to 2^53 as
    integers (booleans stay booleans, -0.0 becomes 0).

    Raises:
        ValueError: NaN or an infinity, a key that is not a string, a type that JSON lacks, or
            more than `MAX_PARTS` parts.
    """
    return _encode(_normalise(value, [MAX_PARTS]))


def canonical_args(
    raw: str | Mapping[str, Any],
    *,
    schema: Mapping[str, Any] | None = None,
    volatile: Sequence[str] = (),
) -> CanonicalArgs:
    """The canonical form of one call's arguments.

    Args:
        raw: the JSON text that the model wrote, or an object already parsed.
        schema: the tool's input JSON Schema; top-level `default`s are filled in.
        volatile: dotted paths that never take part in identity, such as `meta.request_id`.
    """
    try:
        value = _parse(raw) if isinstance(raw, str) else dict(raw)
        if not isinstance(value, dict):
            raise _UncleanError(FLAG_NOT_AN_OBJECT)
        is_normal = isinstance(raw, str) and len(raw) <= MAX_PARTS  # parsing saw to the numbers
        for name, field in _properties(schema):
            if name not in value and isinstance(field, Mapping) and "default" in field:
                value[name] = field["default"]
                is_normal = False
        for path in volatile:
            _drop(value, path.split("."))
        text = _encode(value) if is_normal else canonical_json(value)
        if (clean := clean_text(text)) != text:
            # What is read back from a recording is the clean text: scopes come from it too.
            return canonical_args(clean)
    except _UncleanError as error:
        return _raw_args(raw, error.flag)
    except (ValueError, TypeError, RecursionError):
        return _raw_args(raw, FLAG_NON_FINITE if not isinstance(raw, str) else FLAG_UNPARSABLE)
    return CanonicalArgs(text, digest_of(CANON_VERSION, text), value)


def _raw_args(raw: str | Mapping[str, Any], flag: str) -> CanonicalArgs:
    if not isinstance(raw, str):
        try:
            raw = repr(raw)
        except Exception:  # a value that cannot even be shown, such as an endless number
            raw = f"<{type(raw).__name__} that cannot be shown>"
    text = clean_text(raw)
    return CanonicalArgs(text, digest_of(CANON_VERSION, "raw", text), {}, flag)


def _parse(text: str) -> Any:
    if not text.strip():
        return {}
    return _decode(text)


def _unique_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise _UncleanError(FLAG_DUPLICATE_KEYS)
    return value


def _no_constant(name: str) -> Any:
    raise _UncleanError(FLAG_NON_FINITE)


def _float(text: str) -> float:
    return _plain_number(float(text))


def _plain_number(value: float) -> float:
    """The number, an integral one as an integer where that is exact."""
    if not math.isfinite(value):
        raise _UncleanError(FLAG_NON_FINITE)
    return int(value) if value.is_integer() and abs(value) <= MAX_SAFE_INTEGER else value


_decode: Final = json.JSONDecoder(
    object_pairs_hook=_unique_pairs, parse_constant=_no_constant, parse_float=_float
).decode
_encode: Final = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
).encode


def _properties(schema: Mapping[str, Any] | None) -> list[tuple[str, Any]]:
    properties = (schema or {}).get("properties")
    return list(properties.items()) if isinstance(properties, Mapping) else []


def _drop(value: dict[str, Any], path: list[str]) -> None:
    node: Any = value
    for name in path[:-1]:
        node = node.get(name) if isinstance(node, dict) else None
    if isinstance(node, dict):
        node.pop(path[-1], None)


_AS_IT_IS: Final = frozenset({str, int, bool, type(None)})


def _normalise(value: Any, left: list[int]) -> Any:
    kind = type(value)
    if kind in _AS_IT_IS or isinstance(value, (bool, str, int)):
        return value
    if isinstance(value, float):
        return _plain_number(value)
    if kind is dict or isinstance(value, Mapping):  # the look at a plain type spares the slow one
        if not all(isinstance(key, str) for key in value):
            raise ValueError("keys of a JSON object are strings")
        _count(value, left)
        return {key: _normalise(item, left) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        _count(value, left)
        return [_normalise(item, left) for item in value]
    raise ValueError(f"JSON has no {type(value).__name__}")


def _count(container: Mapping[str, Any] | Sequence[Any], left: list[int]) -> None:
    left[0] -= len(container)
    if left[0] < 0:
        raise ValueError(f"more than {MAX_PARTS} parts")
