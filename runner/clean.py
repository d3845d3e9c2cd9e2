"""Texts from outside, made fit to store, to log and to show.

PostgreSQL refuses NUL and lone surrogates, a terminal obeys escape sequences, and an error message may carry
a secret or be megabytes long. What is taken out leaves a mark, so that no cleaned text equals a text that
was never sent.
"""

import base64
import math
import re
from collections.abc import Callable, Iterator
from typing import TypeAlias
from urllib.parse import quote

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"

_MARK = "\N{REPLACEMENT CHARACTER}"
_CUT = "…"

# Of a long text only this many times the limit is looked at: enough for any honest escape sequences in it.
_LOOKED_AT = 4

_BLANKS = re.compile(r"[\t\n\v\f\r\x85\u2028\u2029]+")
_ESCAPES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?"  # CSI: colours, cursor
    # OSC, DCS and their kin with their text, when they end: an open one must not swallow the rest
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c]{0,256}(?:\x07|\x1b\\|\x9c)"
    r"|\x1b[ -/]*[0-~]?"  # the short ones
)
# Names, numbers, ids: nothing in them to be cleaned but secrets, which all of these could be.
_PLAIN = re.compile(r"[A-Za-z0-9_.:+-]*")
# Control characters, lone surrogates, and the marks that turn the reading direction round.
_HOSTILE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\u200e\u200f\u202a-\u202e\u2066-\u2069]")

_KEYS = re.compile(r"(?<![A-Za-z0-9])((?:[srpe]k_(?:test|live|org)|whsec)_)[A-Za-z0-9_+/=*]+")
_AUTHORIZATION = re.compile(r"(?i)(authorization\W{1,6}(?:bearer|basic)\s+)[^\s'\"]+")
# password=… of a conninfo or of a URL's query, quoted or not
_PASSWORD = re.compile(r"(?i)(pass(?:word|wd|phrase)\s{0,3}=\s{0,3})(?:'(?:[^'\\]|\\.)*'?|[^\s&'\"]+)")
# scheme://user:password@host. It matches without an @ too, and so never goes over the same text twice.
_USERINFO = re.compile(r"(://[^\s:/?#@]*:)([^\s\"'<>]{1,500})")

# A secret of ours is known by any part of this many characters, in every spelling; a shorter one only by its looks.
_KNOWN_PART = 12
_known_parts: set[str] = set()

# What neither text nor jsonb can hold.
_UNSTORABLE = re.compile(r"[\x00\ud800-\udfff]")

_BIGINT = 2**63


def remember_secret(secret: str) -> None:
    """Have every text that is cleaned from now on freed of this secret, quoted whole or in part, by whomever.

    Patterns know what looks like a secret; this one is known even without its prefix, percent-encoded or in base64.
    """
    for spelling in _spellings(secret):
        _known_parts.update(spelling[at : at + _KNOWN_PART] for at in range(len(spelling) - _KNOWN_PART + 1))


def _spellings(secret: str) -> Iterator[str]:
    yield secret
    yield quote(secret, safe="")
    for before in range(3):  # what stands before it in what was encoded decides where its bits fall
        encoded = base64.b64encode(b"\0" * before + secret.encode(errors="replace")).decode()
        yield encoded[-(-before * 8 // 6) : (before + len(secret)) * 8 // 6]


def _mask_known(text: str) -> str:
    kept, masked_to = [], 0
    for at in range(len(text) - _KNOWN_PART + 1):
        if text[at : at + _KNOWN_PART] in _known_parts:
            if at >= masked_to:
                kept += [text[masked_to:at], "***"]
            masked_to = at + _KNOWN_PART
    return "".join([*kept, text[masked_to:]])


def clean_text(value: str, limit: int) -> str:
    """Give `value` in at most `limit` (≥ 1) characters: one line, encodable, nothing a terminal obeys.

    Line breaks and tabs become a space, every other control character, terminal escape and lone surrogate
    becomes U+FFFD; what was cut ends in an ellipsis. Remembered secrets are masked. Quick for any length: only the
    beginning is read.
    """
    beginning = _mask_known(value[: limit * _LOOKED_AT])
    is_cut = len(value) > limit * _LOOKED_AT
    text = _HOSTILE.sub(_MARK, _BLANKS.sub(" ", _ESCAPES.sub(_MARK, beginning)))
    if len(text) > limit or is_cut:
        return text[: limit - 1] + _CUT
    return text


def redact(text: str) -> str:
    """Mask what looks like a secret: Stripe keys, webhook secrets, authorizations, passwords in URLs and conninfo."""
    text = _KEYS.sub(r"\1***", text)
    text = _AUTHORIZATION.sub(r"\1***", text)
    text = _PASSWORD.sub(r"\1***", text)
    return _USERINFO.sub(_mask_userinfo, text)


def _mask_userinfo(match: re.Match[str]) -> str:
    _, at, host = match[2].rpartition("@")  # the last @: a password may hold one
    return f"{match[1]}***@{host}" if at else match[0]


def safe_text(value: str, limit: int) -> str:
    """`clean_text` with secrets masked first: for messages that others wrote."""
    if len(value) <= limit and _PLAIN.fullmatch(value) and "k_" not in value and "whsec_" not in value:
        return _mask_known(value)  # as nearly everything that is logged
    beginning = value[: limit * _LOOKED_AT]
    return clean_text(redact(beginning) + (_CUT if len(beginning) < len(value) else ""), limit)


def storable_text(value: str) -> str:
    """Give `value` as it is, but for what cannot be stored and for keys: of data, where every character may count."""
    if value.isascii() and value.isprintable() and "k_" not in value and "whsec_" not in value:  # nearly always
        return value
    return _KEYS.sub(r"\1***", _UNSTORABLE.sub(_MARK, value))


def clean_json(
    value: object,
    *,
    text_limit: int = 1000,
    item_limit: int = 100,
    depth_limit: int = 5,
    clean: Callable[[str, int], str] = clean_text,
) -> Json:
    """Give `value` as JSON that PostgreSQL takes: texts and keys cleaned, size and nesting bounded.

    What JSON or a bigint cannot hold becomes text.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        # Python refuses to print very long integers, so their text is not an option.
        return value if -_BIGINT <= value < _BIGINT else "(a number out of range)"
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if not isinstance(value, dict | list | tuple):
        return clean(str(value), text_limit)
    if depth_limit == 0:
        return _CUT

    def inner(item: object) -> Json:
        return clean_json(item, text_limit=text_limit, item_limit=item_limit, depth_limit=depth_limit - 1, clean=clean)

    if isinstance(value, dict):
        return {clean(str(key), text_limit): inner(item) for key, item in list(value.items())[:item_limit]}
    return [inner(item) for item in value[:item_limit]]
