"""What a provider's redirect says, as it arrives at the loopback port or is pasted. Pure.

No message of this module holds anything of what it has read.
"""

import hmac
from collections.abc import Mapping
from typing import Final
from urllib.parse import SplitResult, parse_qsl, urlsplit

from mailsettings.core.oauth2.consent import ANSWER_PARAMETERS, MAX_VALUE_BYTES, ConsentKey
from mailsettings.plugin.command import CommandError

MAX_PARAMETERS: Final = 32
"""Providers send about half a dozen."""

Answer = Mapping[ConsentKey, str]


class AnswerError(ValueError):
    """It is not the answer that is waited for; the text says why."""


def state_of(authorize_url: str) -> str:
    """The state in the address that the operator made.

    Raises:
        CommandError: It is no such address, so it must not be opened.
    """
    try:
        parts = urlsplit(authorize_url)
        asked = dict(parse_qsl(parts.query))
    except ValueError:
        asked, parts = {}, SplitResult("", "", "", "", "")
    if not (is_web_address(authorize_url) and asked.get("state")):
        raise CommandError(
            "ProviderAnswerInvalid", f"The operator gave no address of a consent, but one at {_where(parts)}."
        )
    return asked["state"]


def is_web_address(text: str) -> bool:
    """Whether a text can be given to a browser: https, and nothing but an address."""
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return parts.scheme == "https" and bool(parts.hostname) and text.isascii() and text.isprintable()


def parse_query(query: str, state: str) -> Answer:
    """The answer in a redirect's query.

    Args:
        query: What follows the question mark.
        state: The one that the answer has to bring back.

    Raises:
        AnswerError: It is not the answer to this attempt.
    """
    try:
        pairs = parse_qsl(query, max_num_fields=MAX_PARAMETERS)
    except ValueError:
        raise AnswerError("it has too many parameters") from None
    known = [(ANSWER_PARAMETERS[name], value) for name, value in pairs if name in ANSWER_PARAMETERS]
    answer = dict(known)
    if len(answer) != len(known):  # RFC 6749 §3.1
        raise AnswerError("it says something twice")
    if any(len(value.encode("utf-8", "surrogatepass")) > MAX_VALUE_BYTES for value in answer.values()):
        raise AnswerError(f"a value in it is longer than {MAX_VALUE_BYTES} bytes")
    if ConsentKey.STATE not in answer:
        raise AnswerError("it has no state, so it is not the end of a consent")
    if not hmac.compare_digest(answer[ConsentKey.STATE].encode(), state.encode()):
        raise AnswerError("it belongs to another attempt; use the address that was printed last")
    if ConsentKey.CODE not in answer and ConsentKey.ERROR not in answer:
        raise AnswerError("it has neither a code nor an error")
    return answer


def parse_pasted(text: str, redirect_uri: str, state: str) -> Answer:
    """The answer in an address that a person has copied from the browser.

    Args:
        text: What was pasted.
        redirect_uri: Where the provider was to send the browser.
        state: The one that the answer has to bring back.

    Raises:
        AnswerError: It is not the answer to this attempt.
    """
    address = text.strip().strip("<>\"'")
    if not address:
        raise AnswerError("there is nothing in it")
    if "://" not in address:  # browsers hide it, and some copy what they show
        address = f"http://{address}"
    try:
        pasted, expected = urlsplit(address), urlsplit(redirect_uri)
        if _place(pasted) != _place(expected):
            raise AnswerError(
                f"it does not begin with {redirect_uri}; finish at the provider first, then copy the whole address "
                "that the browser ends at"
            )
    except ValueError as error:
        raise error if isinstance(error, AnswerError) else AnswerError("it is no address") from None
    return parse_query(pasted.query, state)


def _place(parts: SplitResult) -> tuple[str, str, int | None, str]:
    """What tells whether two addresses are the same place."""
    return parts.scheme.lower(), parts.hostname or "", parts.port, parts.path or "/"


def _where(parts: SplitResult) -> str:
    return f"{parts.hostname}" if parts.hostname else "no host"
