"""Takes secrets out of texts that others wrote, in whatever form they come back."""

import binascii
import html
import json
import re
from collections.abc import Iterable, Iterator
from functools import cached_property
from itertools import chain
from typing import Final
from urllib.parse import quote

MARK: Final = "[redacted]"
"""What stands in the place of a secret."""

SHORT: Final = 4
"""Shorter secrets are taken out only as whole words: as parts of words they are everywhere and tell nothing."""

_FRAGMENT: Final = 16
"""So many consecutive characters of a long secret give it away."""

_TOKEN_RUN: Final = re.compile(rf"[A-Za-z0-9._~+/-]{{{_FRAGMENT},}}=*")
"""What may be a piece of an access token or of a line in base64. Source: RFC 6750 §2.1."""

_BASE64_RUN: Final = re.compile(r"[A-Za-z0-9+/_-]+={0,2}")

_Span = tuple[int, int]


def redact(text: str, secrets: Iterable[str], *, tokens: Iterable[str] = ()) -> str:
    """The text without the secrets, whatever the case of their letters.

    Recognised forms: as it is, in base64 (standard and URL-safe, at any of the three alignments, so inside a longer
    encoded text such as SASL PLAIN's too), percent-encoded, hexadecimal, and with the escapes of JSON, Python, HTML
    and quoted strings.

    Args:
        text: What a server said.
        secrets: Passwords and the like. Empty ones are ignored. Of a base64 run that holds one nothing is left.
        tokens: Secrets so long that a server cuts or wraps them when it repeats them: each run of their characters that
            holds a piece of one is taken out.
    """
    return Redactor(secrets, tokens=tokens).redact(text)


class Redactor:
    """`redact` for several texts: what the secrets look like is worked out once."""

    def __init__(self, secrets: Iterable[str], *, tokens: Iterable[str] = ()) -> None:
        """Nothing is looked at yet.

        Args:
            secrets: As those of `redact`.
            tokens: Likewise.
        """
        self._hidden = list(dict.fromkeys(filter(None, secrets)))
        self._encoded = _Encoded(self._hidden)
        self._tokens = _Tokens(tokens)

    def redact(self, text: str) -> str:
        """The text without the secrets."""
        # All are looked for in the original text: taking one out first could cut another in two and leave a half.
        lowered = text.lower() if text.isascii() else None
        spans: list[_Span] = []
        if _may_be_written(self._hidden, lowered):
            spans += [span for form in self._plain if form.may_be_in(lowered) for span in form.spans(text)]
        if self._encoded.may_be_in(text):
            spans += [run.span() for run in _BASE64_RUN.finditer(text) if self._encoded.is_in(run[0])]
        if self._tokens:
            spans += [run.span() for run in _TOKEN_RUN.finditer(text) if self._tokens.share_with(run[0])]
        return _without(text, _merged(spans)) if spans else text

    @cached_property
    def _plain(self) -> list["_Plain"]:
        # A form that two secrets share is looked for as the longer one's, inside of words too.
        is_short = {form: len(secret) < SHORT for secret in sorted(self._hidden, key=len) for form in _forms(secret)}
        return [_Plain(form, is_short=short) for form, short in is_short.items()]


_ESCAPING: Final = re.compile(r"[%\\&]")
"""One of these is in each of `_forms`, unless it is the secret, the same with + for blanks, or in hexadecimal."""


def _may_be_written(secrets: Iterable[str], lowered: str | None) -> bool:
    """False if none of the secrets' forms is in a text, other than in base64: for most it is found so, at once.

    Args:
        secrets: What may be in it.
        lowered: The text in lower case if it is ASCII, or None.
    """
    if lowered is None or _ESCAPING.search(lowered):
        return True
    return any(
        not secret.isascii()
        or (folded := secret.casefold()) in lowered
        or folded.replace(" ", "+") in lowered
        or secret.encode().hex() in lowered
        for secret in secrets
    )


class _Tokens:
    """Secrets of which no piece may be shown."""

    def __init__(self, tokens: Iterable[str]) -> None:
        self._together = "\n".join(map(str.casefold, tokens))

    def __bool__(self) -> bool:
        """False: there are none."""
        return bool(self._together)

    def share_with(self, run: str) -> bool:
        """Whether a run of their characters, none of which ends a line, holds a piece of one.

        Most do not, which is found in few steps: whatever piece the run has, it has one of its halves' blocks whole.
        """
        folded = run.casefold()
        blocks = (folded[start : start + _BLOCK] for start in range(0, len(folded) - _BLOCK + 1, _BLOCK))
        return any(block in self._together for block in blocks) and not self._pieces.isdisjoint(_pieces(folded))

    @cached_property
    def _pieces(self) -> frozenset[str]:
        return frozenset(piece for token in self._together.split("\n") for piece in _pieces(token))


_BLOCK: Final = _FRAGMENT // 2
"""Wherever a piece begins in a run that is cut into blocks of this length, it holds one of them."""


def _pieces(folded: str) -> Iterator[str]:
    return (folded[start : start + _FRAGMENT] for start in range(len(folded) - _FRAGMENT + 1))


def _without(text: str, spans: Iterable[_Span]) -> str:
    parts, end = [], 0
    for start, stop in spans:
        parts += [text[end:start], MARK]
        end = stop
    return "".join((*parts, text[end:]))


def _merged(spans: Iterable[_Span]) -> list[_Span]:
    merged: list[_Span] = []
    for start, stop in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(stop, merged[-1][1]))
        else:
            merged.append((start, stop))
    return merged


class _Plain:
    """One of the forms of a secret that is not in base64."""

    def __init__(self, form: str, *, is_short: bool) -> None:
        self._form = form
        self._is_short = is_short
        self._folded = form.casefold()

    def may_be_in(self, lowered: str | None) -> bool:
        """False if it is not: most are not, which is found for next to nothing, and no expression is compiled.

        Args:
            lowered: The text in lower case if it is ASCII, or None: beyond ASCII only expressions know letters' cases.
        """
        return lowered is None or not self._folded.isascii() or self._folded in lowered

    def spans(self, text: str) -> Iterator[_Span]:
        """Where it is."""
        before, after = (r"(?<!\w)", r"(?!\w)") if self._is_short else ("", "")
        # Inside a look-ahead, so that occurrences which overlap are all found.
        for match in re.finditer(rf"{before}(?=({re.escape(self._form)}){after})", text, re.IGNORECASE):
            yield match.span(1)


_ESCAPED: Final = re.compile(r"""[^ -~]|["'&<>\\]""")
"""What JSON, Python, HTML or a quoted-string write otherwise than it is."""


def _forms(secret: str) -> Iterator[str]:
    data = secret.encode("utf-8", "surrogateescape")
    percent_encoded = quote(data, safe="")
    yield secret
    yield percent_encoded
    yield percent_encoded.replace("%2F", "/")
    yield percent_encoded.replace("%20", "+")
    yield f"%{data.hex('%')}"
    yield data.hex()
    if _ESCAPED.search(secret):
        yield json.dumps(secret)[1:-1]
        yield json.dumps(secret, ensure_ascii=False)[1:-1]
        yield repr(secret)[1:-1]
        yield repr(f'"{secret}')[2:-1]  # Python escapes no ' unless there is a ", which may stand before the secret.
        yield repr(data)[2:-1]
        yield repr(b'"' + data)[3:-1]
        yield html.escape(secret)
        yield re.sub(r'([\\"])', r"\\\1", secret)  # a quoted-string of RFC 5321 §4.1.2


class _Encoded:
    """The base64 forms of values."""

    def __init__(self, values: Iterable[str]) -> None:
        octets = {value: value.encode("utf-8", "surrogateescape") for value in values}
        self._wholes = frozenset(map(_unpadded, octets.values()))
        long = [data for value, data in octets.items() if len(value) >= SHORT]
        self._cores = tuple({_core(data, shift) for data in long for shift in range(3)})

    def may_be_in(self, text: str) -> bool:
        """False if none of the text's runs is or holds one, as is so of most."""
        folded = _standard(text)
        return any(form in folded for form in chain(self._cores, self._wholes))

    def is_in(self, run: str) -> bool:
        """Whether a run of base64 characters is one of these values or holds one."""
        folded = _standard(run.rstrip("="))
        return folded in self._wholes or any(core in folded for core in self._cores)


def _standard(text: str) -> str:
    """In the alphabet of RFC 4648 §4, whether it was in that of §5 or not."""
    return text.replace("-", "+").replace("_", "/").casefold()


def _core(data: bytes, shift: int) -> str:
    """The characters that stand for `data` alone where `shift` bytes precede it in its group of three.

    Each character holds six bits; those at the edges that hold a neighbour's bits too are left out.
    """
    encoded = _unpadded(b"\0" * shift + data)
    return encoded[-(-8 * shift // 6) : 8 * (shift + len(data)) // 6]


def _unpadded(data: bytes) -> str:
    return binascii.b2a_base64(data, newline=False).rstrip(b"=").lower().decode("ascii")
