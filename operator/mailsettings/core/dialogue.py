"""The whole SMTP dialogue of a probe, fit to be shown: without secrets, in bounds, legible. Pure."""

import base64
import binascii
import contextlib
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from mailsettings.core.probe import Line, ProbeRequest, Speaker
from mailsettings.core.redact import MARK, SHORT, Redactor
from mailsettings.core.sasl import Mechanism, initial_response
from mailsettings.core.server import BearerToken

MAX_BYTES: Final = 16 * 1024
"""Of the whole, in UTF-8; the beginning and the end are kept."""

MAX_LINE: Final = 400
"""Of a line, in characters."""

MAX_LINES: Final = 24
"""Of one reply."""

MAX_REPLY: Final = 4096
"""Of a reply, in characters; real ones are shorter. A longer one is not searched for secrets: none of it is shown."""

_SHOWN_MECHANISM: Final = re.compile(r"[A-Za-z0-9_-]{1,20}")
"""Source: RFC 4422 §3.1."""


@dataclass(frozen=True, slots=True)
class Said:
    """What was said, as it was: of many lines, and with everything in it."""

    speaker: Speaker
    text: str = field(repr=False)
    at: timedelta
    code: int | None = None
    """Of a server's reply."""


def shown(events: Iterable[Said], request: ProbeRequest) -> tuple[Line, ...]:
    """The dialogue without secrets and without the mail, in bounds.

    Whatever the client says from AUTH to the end of that exchange is left out, and what the server makes of it is
    looked for in all that it says: secrets are looked for before anything is cut, so that no half of one is left.

    Args:
        events: All that was said, in its order. What the client says after DATA is the mail.
        request: With the secrets.
    """
    events = list(events)
    payloads = dict(_auth_payloads(events))
    secrets = _Secrets(request, payloads.values())
    are_clean = secrets.are_in_none([said.text for said in events if said.speaker is not Speaker.CLIENT])
    cleaned = str if are_clean else secrets.without
    mail: _Mail | None = None
    lines: list[Line] = []
    for index, said in enumerate(events):
        speaker = said.speaker
        if index in payloads:
            texts = [_login_text(said.text)]
        elif speaker is Speaker.CLIENT and index and events[index - 1].text == DATA:
            mail, speaker = _Mail(said.text), Speaker.NOTE
            texts = [f"[the message, {len(said.text.encode('utf-8', 'replace'))} bytes]"]
        elif speaker is Speaker.CLIENT:
            texts = [_legible(said.text)]
        elif said.code == 334 and index - 1 in payloads:
            texts = [f"334 {said.text if said.text in _PROMPTS else MARK}"]
        else:
            texts = _reply_texts(said, cleaned, mail)
        lines += [Line(speaker, _shortened(text), said.at) for text in texts]
    return bounded(lines, MAX_BYTES)


QUICK: Final = 2048
"""In characters: so much ASCII is searched for secrets in less than a millisecond."""


def is_quickly_shown(events: Sequence[Said], request: ProbeRequest) -> bool:
    """Whether `shown` takes next to no time, which what was said decides, and how long the secrets are."""
    together = "".join([*_secrets_of(request), *(said.text for said in events)])
    return len(together) <= QUICK and together.isascii()


def _secrets_of(request: ProbeRequest) -> list[str]:
    """The login and the proxy's, as they are written in the settings' Secrets."""
    login, proxy = request.credentials, request.server.proxy
    secrets = list(proxy.secrets) if proxy else []
    if login is not None:
        secrets += [login.username, login.access_token if isinstance(login, BearerToken) else login.password]
    return secrets


DATA: Final = "DATA"
"""The command. Source: RFC 5321 §4.1.1.4."""


_PROMPTS: Final = frozenset({"", *(base64.b64encode(each).decode("ascii") for each in (b"Username:", b"Password:"))})
"""Challenges that hold nothing; others may say anything, and what they say of a token is in the failure's message."""


def _auth_payloads(events: Sequence[Said]) -> Iterator[tuple[int, str]]:
    """What the client says to log in, and where: the words behind AUTH's mechanism, and answers to challenges."""
    answering = False
    for index, said in enumerate(events):
        if said.speaker is Speaker.SERVER:
            answering = answering and said.code == 334
        elif said.speaker is Speaker.CLIENT:
            words = said.text.split(" ")
            if answering:
                yield index, said.text
            elif words[0].upper() == "AUTH":
                answering = True
                yield index, " ".join(words[2:])


def _login_text(text: str) -> str:
    """What of an AUTH command may be shown; of an answer to a challenge nothing."""
    words = text.split(" ")
    if words[0].upper() != "AUTH":
        return MARK
    mechanism = words[1] if len(words) > 1 and _SHOWN_MECHANISM.fullmatch(words[1]) else ""
    return " ".join(filter(None, ("AUTH", mechanism, MARK if len(words) > 2 else "")))


def _reply_texts(said: Said, cleaned: Callable[[str], str], mail: "_Mail | None") -> list[str]:
    """A reply's lines, each with its code as servers write it, or a note's."""
    if len(said.text) > MAX_REPLY:
        return [f"{said.code or ''} [{len(said.text)} characters are left out]".lstrip()]
    text = mail.without(said.text) if mail is not None else said.text
    texts = cleaned(text).splitlines() or [""]
    if said.code is None:
        return texts
    more = [f"[{len(texts) - MAX_LINES} more lines]"] if len(texts) > MAX_LINES else []
    texts = [*texts[:MAX_LINES], *more]
    return [f"{said.code}{'-' if number < len(texts) else ' '}{text}" for number, text in enumerate(texts, 1)]


class _Secrets:
    """What no line may show."""

    def __init__(self, request: ProbeRequest, payloads: Iterable[str]) -> None:
        """Collects it.

        Args:
            request: With the login and the proxy's.
            payloads: What was sent to log in, in base64; a hash of the password would let it be guessed.
        """
        login, values = request.credentials, _secrets_of(request)
        tokens: list[str] = []
        if isinstance(login, BearerToken):
            responses = [initial_response(each, login, request.server).decode("ascii") for each in Mechanism]
            values += responses
            tokens += [login.access_token, *responses]
        elif login is not None and min(len(login.username), len(login.password)) < SHORT:
            values.append(f"\0{login.username}\0{login.password}")  # a short part is not found in what holds both
        for payload in filter(None, payloads):
            if payload not in _KNOWN_PAYLOADS:
                values += [payload, *_digest(payload)]
                tokens.append(payload)
        forms = (form for value in values for form in (value, _legible(value), _together(value)))
        self._redactor = Redactor(forms, tokens=tokens)

    def are_in_none(self, texts: Sequence[str]) -> bool:
        """True if all texts can be shown as they are: as most can, and they are looked through together.

        Such as are longer than `MAX_REPLY` together, or not of printable ASCII, have to be looked through one by one.
        """
        said = "\n".join(texts)
        if len(said) > MAX_REPLY or not _is_plain(said):
            return False
        searched = "\n".join((said, *map(_together, texts)))
        return self._redactor.redact(searched) == searched

    def without(self, text: str) -> str:
        """The text without them, legible, whatever lines and blanks the server has put into them."""
        plain = self._redactor.redact(text)
        legible = "\n".join(map(_legible, plain.splitlines()))
        found = plain if legible == plain else self._redactor.redact(legible)
        # Before it is legible, too: what stands in the place of a tab or of another control character is no blank.
        return MARK if any(self._is_spread(each) for each in {plain, found}) else found

    def _is_spread(self, text: str) -> bool:
        together = _together(text.replace(MARK, "\n"))
        return self._redactor.redact(together) != together


_ECHO: Final = 24
"""So many characters of the mail in one line, blanks aside, are no chance."""


class _Mail:
    """A mail that was sent, which a server may repeat when it refuses it."""

    def __init__(self, text: str) -> None:
        self._whole = _folded(text)
        self._lines = [line for each in text.splitlines() if len(line := _folded(each)) >= _ECHO]

    def without(self, text: str) -> str:
        """The text without the lines that hold a line of the mail, or a piece of one."""
        return "\n".join(MARK if self._has(_folded(line)) else line for line in text.splitlines())

    def _has(self, line: str) -> bool:
        return (len(line) >= _ECHO and line in self._whole) or any(each in line for each in self._lines)


def _folded(text: str) -> str:
    return _together(text).casefold()


_ENHANCED: Final = re.compile(r"(?m)^[245]\.[0-9]{1,3}\.[0-9]{1,3}[ ]")
"""Servers repeat it on every line. Source: RFC 2034 §4."""


def _together(text: str) -> str:
    """Without what a server may put into a long word to wrap it."""
    joined = "".join(_ENHANCED.sub("", text).split())
    return joined if joined.isprintable() else "".join(filter(str.isprintable, joined))


_KNOWN_PAYLOADS: Final = frozenset({"=", "*", base64.b64encode(b"\x01").decode("ascii")})
"""Payloads that hold nothing. Source: RFC 4954 §4, RFC 7628 §3.2.3."""


def _digest(payload: str) -> Iterator[str]:
    """What CRAM-MD5 makes of the password. What else a payload holds is looked for anyway. Source: RFC 2195 §2."""
    with contextlib.suppress(binascii.Error):
        text = base64.b64decode(payload, validate=True).decode("utf-8", "surrogateescape")
        yield from _DIGEST.findall(text)


_DIGEST: Final = re.compile(r"(?<= )[0-9a-f]{32}$")


def _is_plain(text: str) -> bool:
    return text.isascii() and text.replace("\n", "").isprintable()


def _legible(text: str) -> str:
    """Without what could hide or reorder what a person reads."""
    if text.isprintable():  # as nearly all are, and this is a hundred times as fast
        return text
    return "".join("\N{REPLACEMENT CHARACTER}" if _is_hidden(char) else char for char in text)


def _is_hidden(char: str) -> bool:
    return unicodedata.category(char)[0] == "C"


def _shortened(text: str) -> str:
    return text if len(text) <= MAX_LINE else f"{text[: MAX_LINE - 1]}…"


def bounded(lines: Sequence[Line], max_bytes: int) -> tuple[Line, ...]:
    """The first and the last lines that have room together; what failed is at the end.

    Args:
        lines: In their order; they may have been bounded before.
        max_bytes: Of the whole, in UTF-8 and with an end for each line; at least 4096, so that any line has room.
    """
    sizes = [len(f"{line}\n".encode("utf-8", "replace")) for line in lines]
    if sum(sizes) <= max_bytes:
        return tuple(lines)
    half = (max_bytes - 64) // 2
    first = _fitting(sizes, half)
    end = len(lines) - _fitting(sizes[::-1], half)
    left_out = sum(line.stands_for for line in lines[first:end])
    text = f"[{left_out} lines are left out]"
    gap = lines[first]._replace(speaker=Speaker.NOTE, text=text, stands_for=left_out)
    return (*lines[:first], gap, *lines[end:])


def _fitting(sizes: Sequence[int], room: int) -> int:
    count = 0
    for size in sizes:
        room -= size
        if room < 0:
            break
        count += 1
    return count
