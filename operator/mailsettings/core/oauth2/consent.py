"""From what a consent Secret holds to what is to be done with it. Pure and level-based.

A person's consent reaches the operator through a Secret, whichever way it was given: in a browser that came back to the
operator, or by `kubectl mailsettings authorize`, which asks first and is told what to open.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, Self
from urllib.parse import urlsplit

from mailsettings.api.conditions import Reason
from mailsettings.api.grants import Grant
from mailsettings.core.clock import parse_time
from mailsettings.core.oauth2.faults import TokenFault
from mailsettings.core.oauth2.state import LIFE, ConsentState, Flows, StateError
from mailsettings.core.oauth2.terms import ConsentTerms

KEPT: Final = timedelta(minutes=12)
"""After its creation a consent Secret is removed; by then the last state that it can hold has run out."""

REFUSED_KEPT: Final = timedelta(minutes=2)
"""After its creation a browser's answer that came to nothing is removed; the page has told it by then."""

REDEEMING: Final = timedelta(minutes=3)
"""How long the redeeming of a code can take at most, whatever the operator's deadline is set to."""

MAX_VALUE_BYTES: Final = 8 * 1024
"""Of each value in a consent Secret: no provider's code is nearly as long."""

MAX_OPEN: Final = 32
"""Consent Secrets of one object that are looked at; what more there are wait for these to go."""


class ConsentKey(StrEnum):
    """The keys of a consent Secret's data."""

    REDIRECT_URI = "redirect-uri"
    """By whoever asks: where the provider is to send the browser. Absent with grant DeviceCode."""
    AUTHORIZE_URL = "authorize-url"
    """By the operator: what the person is to open."""
    VERIFICATION_URI = "verification-uri"
    """By the operator: where the person enters the code (RFC 8628)."""
    VERIFICATION_URI_COMPLETE = "verification-uri-complete"
    """By the operator: the same with the code in it, where the provider has such a thing."""
    USER_CODE = "user-code"
    """By the operator: what the person enters."""
    SEALED = "sealed"
    """By the operator: what it needs to go on, which nobody else can read."""
    EXPIRES_AT = "expires-at"
    """By the operator: how long the person has."""
    CODE = "code"
    """By whoever asks, as the provider gave it in the redirect, as are the next four."""
    STATE = "state"
    ISS = "iss"
    ERROR = "error"
    ERROR_DESCRIPTION = "error-description"
    REDEEMED_AT = "redeemed-at"
    """By the operator: when it took the code out, to redeem it."""
    RESULT = "result"
    """By the operator: what has become of it, in JSON."""


ANSWER_PARAMETERS: Final = {
    "code": ConsentKey.CODE,
    "state": ConsentKey.STATE,
    "iss": ConsentKey.ISS,
    "error": ConsentKey.ERROR,
    "error_description": ConsentKey.ERROR_DESCRIPTION,
}
"""The parameters of an authorization response. Source: RFC 6749 §4.1.2, RFC 9207 §2."""


@dataclass(frozen=True, slots=True)
class ConsentResult:
    """What has become of a consent."""

    authorized: bool
    reason: str
    message: str

    @classmethod
    def of(cls, fault: TokenFault | None, account: str) -> Self:
        """The result for the person who consented, or tried to."""
        if fault is not None:
            return cls(False, str(fault.reason), fault.message)
        return cls(True, str(Reason.AUTHORIZED), f"Mail can be sent for {account}; its tokens are kept and renewed.")

    def text(self) -> str:
        """For the Secret."""
        return json.dumps({"authorized": self.authorized, "reason": self.reason, "message": self.message})

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """What `text` wrote; None: it is something else."""
        try:
            content = json.loads(text)
            return cls(content["authorized"] is True, str(content["reason"]), str(content["message"]))
        except (ValueError, TypeError, KeyError):
            return None


@dataclass(frozen=True, slots=True)
class Consent:
    """A consent Secret as it is at one version."""

    uid: str
    """The Secret's."""
    callback_flow: str
    """Of an answer that this operator's own HTTP endpoint took, and whose browser it has checked; else empty."""
    created_at: datetime
    values: Mapping[ConsentKey, str] = field(repr=False)

    def __getitem__(self, key: ConsentKey) -> str:
        """A value; empty: it is absent."""
        return self.values.get(key, "")

    @property
    def result(self) -> ConsentResult | None:
        """What has become of it; None: nothing yet."""
        return ConsentResult.parse(self[ConsentKey.RESULT]) if self[ConsentKey.RESULT] else None


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing is to be done before this time."""

    until: datetime


@dataclass(frozen=True, slots=True)
class Remove:
    """It has served its purpose."""


@dataclass(frozen=True, slots=True)
class Refuse:
    """It comes to nothing."""

    fault: TokenFault


@dataclass(frozen=True, slots=True)
class Offer:
    """The person is to be told what to open."""

    redirect_uri: str


@dataclass(frozen=True, slots=True)
class Redeem:
    """The code is to be exchanged for tokens."""

    code: str = field(repr=False)
    redirect_uri: str
    flow: str


@dataclass(frozen=True, slots=True)
class BeginDevice:
    """The provider is to be asked for a code that the person can enter."""


@dataclass(frozen=True, slots=True)
class PollDevice:
    """The provider is to be asked whether the person has entered the code."""

    sealed: str = field(repr=False)


Step = Wait | Remove | Refuse | Offer | Redeem | BeginDevice | PollDevice


def next_step(
    consent: Consent,
    terms: ConsentTerms | None,
    *,
    uid: str,
    flows: Flows,
    client_secret: str | None,
    now: datetime,
) -> Step:
    """What is to be done next.

    Args:
        consent: The Secret.
        terms: What the settings ask a person to consent to; None: nothing, as they are.
        uid: Of the settings.
        flows: Reads states.
        client_secret: What is not shown, should the provider say it; None: there is none.
        now: The present time.
    """
    if consent.created_at + KEPT <= now:
        return Remove()
    if consent.result is not None:
        return _ended_step(consent, consent.result, now)
    if terms is None:
        return Refuse(
            lapsed("these settings ask nobody for a consent, or cannot be used as they are: see their status")
        )
    if any(len(value.encode()) > MAX_VALUE_BYTES for value in consent.values.values()):
        return Refuse(lapsed(f"a value in the consent Secret is longer than {MAX_VALUE_BYTES} bytes"))
    if terms.oauth2.grant is Grant.DEVICE_CODE:
        return _device_step(consent)
    if any(consent[key] for key in (ConsentKey.CODE, ConsentKey.STATE, ConsentKey.ERROR)):
        step = _answer_step(consent, terms, uid=uid, flows=flows, client_secret=client_secret, now=now)
    else:
        step = _question_step(consent, now)
    return step


def _ended_step(consent: Consent, result: ConsentResult, now: datetime) -> Step:
    """A refused answer of a browser's goes soon: others of its kind may be waiting for its place."""
    is_short = bool(consent.callback_flow) and not result.authorized
    ends_at = consent.created_at + (REFUSED_KEPT if is_short else KEPT)
    return Remove() if ends_at <= now else Wait(ends_at)


def _device_step(consent: Consent) -> Step:
    sealed = consent[ConsentKey.SEALED]
    return PollDevice(sealed) if sealed else BeginDevice()


def _time(consent: Consent, key: ConsentKey) -> datetime:
    """A time, but none after the Secret's end: whoever may write to the Secret can have put any there.

    Raises:
        ValueError: It is none.
    """
    return min(parse_time(consent[key]), consent.created_at + KEPT)


def _question_step(consent: Consent, now: datetime) -> Step:
    ends_at = consent.created_at + LIFE
    if now >= ends_at:
        return Refuse(lapsed("nobody consented within ten minutes"))
    if consent[ConsentKey.AUTHORIZE_URL]:
        return Wait(ends_at)
    if not is_loopback(consent[ConsentKey.REDIRECT_URI]):
        return Refuse(lapsed("redirect-uri has to be http on localhost, 127.0.0.1 or [::1]"))
    return Offer(consent[ConsentKey.REDIRECT_URI])


def _answer_step(
    consent: Consent, terms: ConsentTerms, *, uid: str, flows: Flows, client_secret: str | None, now: datetime
) -> Step:
    try:
        state = flows.read(consent[ConsentKey.STATE])
    except StateError:
        return Refuse(lapsed("the address that the browser came back to has no state of this operator's"))
    if (refusal := _refusal(consent, state, terms, uid)) is not None:
        return Refuse(refusal)
    if consent[ConsentKey.ERROR]:
        fault = terms.fault_of(
            consent[ConsentKey.ERROR],
            consent[ConsentKey.ERROR_DESCRIPTION],
            redirect_uri=consent[ConsentKey.REDIRECT_URI],
            secrets=(
                consent[ConsentKey.STATE],
                consent[ConsentKey.CODE],
                flows.verifier(state.flow),
                flows.nonce(state.flow),
                client_secret or "",
            ),
            # Whoever knows the page's address can come back to it with any text, and conditions are read by many.
            quotes=not consent.callback_flow,
        )
        return Refuse(fault)
    if not consent[ConsentKey.CODE]:
        return _redeeming_step(consent, now)
    return Redeem(consent[ConsentKey.CODE], consent[ConsentKey.REDIRECT_URI], state.flow)


def _redeeming_step(consent: Consent, now: datetime) -> Step:
    """The code was taken out, to be redeemed: by another replica, or by one that ended over it."""
    try:
        ends_at = min(_time(consent, ConsentKey.REDEEMED_AT) + REDEEMING, consent.created_at + KEPT)
    except ValueError:
        return Refuse(lapsed("the answer holds no code"))
    return Wait(ends_at) if now < ends_at else Refuse(lapsed("the operator was interrupted while it redeemed the code"))


def _refusal(consent: Consent, state: ConsentState, terms: ConsentTerms, uid: str) -> TokenFault | None:
    """Why an answer is not for these settings, or not from whom it should be."""
    is_callback = consent.callback_flow == state.flow
    if state.uid != uid or not (is_callback or state.is_bound_to(consent.uid)):
        return lapsed("the answer belongs to another attempt")
    if consent.created_at > state.expires_at:
        return lapsed("it took longer than ten minutes")
    if not state.fits(terms.fingerprint):
        return lapsed("the settings were changed meanwhile")
    if not terms.is_issuer(consent[ConsentKey.ISS]):
        return TokenFault(
            Reason.PROVIDER_ANSWER_INVALID,
            f"The answer to the consent came from another issuer than {terms.host}, so its code was not used. Begin "
            "again; if it happens again, somebody in between redirects the browser.",
            is_transient=False,
        )
    return None


def is_loopback(uri: str) -> bool:
    """Whether a redirect URI leads to the person's own machine. Source: RFC 8252 §7.3."""
    try:
        parts = urlsplit(uri)
        parts.port  # noqa: B018 - raises where it is no number
    except ValueError:
        return False
    return (
        parts.scheme == "http"
        and parts.hostname in ("localhost", "127.0.0.1", "::1")
        and "@" not in parts.netloc
        and not parts.fragment
        and uri.isascii()
        and uri.isprintable()
    )


def lapsed(why: str) -> TokenFault:
    """What is said of a consent that came to nothing, so that the person has to begin again."""
    return TokenFault(Reason.CONSENT_EXPIRED, f"The consent came to nothing: {why}. Begin again.", is_transient=False)
