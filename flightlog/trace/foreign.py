"""Any Python value as text: what a foreign agent's tools take and give.

Plain JSON becomes its JSON, everything else the nearest thing to it, with a flag that says
in which way the text is less than the value. Nothing here raises, iterates what can be
iterated only once, or grows without end: a value is cut at `MAX_VALUE_BYTES` and `MAX_PARTS`.
"""

from __future__ import annotations

import json
from typing import Any, Final

from flightlog.trace.canonical import canonical_args, digest_of_text
from flightlog.trace.foreign_writer import (
    FLAG_JSON,
    LOSSY,
    MAX_VALUE_BYTES,
    ForeignWriter,
    is_plain,
    type_name,
)
from flightlog.trace.slices import is_valid_utf8

MAX_ARGS_BYTES: Final = 1 << 19
"""Longest arguments, in UTF-8: they stand in their row, and are compared as a whole."""


def value_text(value: Any, *, max_bytes: int = MAX_VALUE_BYTES) -> tuple[str, str | None]:
    """The value as text, and how the text differs from it.

    Args:
        value: anything. Methods of its class may run (`__repr__`, fields of a dataclass,
            `model_dump`); what they raise is part of the flag.
        max_bytes: cuts the text of a value that is not text; in UTF-8.

    Returns:
        The text, valid UTF-8 unless the value is a text that is not, and None for a text,
        `json` for plain JSON (`json.loads` gives the value back), or `lossy: ...`.
    """
    if type(value) is str:
        return value, None
    try:
        if issubclass(type(value), str):
            return str.__str__(value), None
        if is_plain(value, max_bytes):
            text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
            if is_valid_utf8(text):
                return text, FLAG_JSON
        writer = ForeignWriter(max_bytes)
        return writer.text_of(value), writer.flag
    except Exception as error:  # the value's own code, or a value that changes meanwhile
        name = type_name(value)
        return f"<{name} that cannot be shown>", f"{LOSSY}{type_name(error)} while it was read"


def args_fields(value: Any) -> dict[str, str | None]:
    """The columns args, args_digest and args_flag of arguments that are not text.

    An object comes out canonical, as `canonical_args` has it, with no flag where it was
    plain JSON; all else is flagged `lossy: ...`, or `not_an_object` where it is JSON.
    """
    text, flag = value_text(value, max_bytes=MAX_ARGS_BYTES)
    args = canonical_args(text) if len(text) <= MAX_ARGS_BYTES else None
    if args is None:  # a long text, which the recorder cuts
        return {"args": text, "args_digest": digest_of_text(text), "args_flag": flag}
    clean_flag = args.flag if flag == FLAG_JSON else flag
    return {"args": args.text, "args_digest": args.digest, "args_flag": clean_flag}
