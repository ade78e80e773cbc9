"""A token as it is kept between renewals."""

from datetime import UTC, datetime, timedelta
from typing import Final, Self
from uuid import uuid4

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from mailsettings.api.identity import Family
from mailsettings.core.oauth2.request import Token
from mailsettings.core.oauth2.subject import TokenSubject

REFRESH_TOKEN_LIFE: Final = {Family.MICROSOFT: timedelta(days=90)}
"""Since its last use, where it is documented. Source: Microsoft identity platform, Refresh tokens."""


class StoredToken(BaseModel):
    """What is known of the token that is held. Written as one JSON document, so that no half of it can be there."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    serial: str
    """Its name, which tells nothing: by it one sees whether somebody else has renewed the token meanwhile."""
    fingerprint: str
    """Of the configuration that it belongs to."""
    client: str
    """A keyed digest of the client's authentication by which it was got."""
    seed: str
    """A digest of the refresh token that was brought, where one was."""
    access_token: str = Field(repr=False)
    refresh_token: str | None = Field(default=None, repr=False)
    issued_at: AwareDatetime
    expires_at: AwareDatetime
    refresh_token_expires_at: AwareDatetime | None = None
    refresh_token_since: AwareDatetime | None = None
    """Since when that end has been known: it stays where renewals do not prolong the refresh token's life."""
    scopes: tuple[str, ...] = ()
    account: str | None = None
    request: str | None = None
    """The annotation by which a person asks for a renewal, as it was when this token was asked for."""

    @property
    def token(self) -> Token:
        """As the rules of renewal take it: with the refresh token's end only if renewals may prolong it."""
        is_prolonged = self.refresh_token_since == self.issued_at
        return Token(
            access_token=self.access_token,
            issued_at=self.issued_at,
            expires_at=self.expires_at,
            refresh_token_expires_at=self.refresh_token_expires_at if is_prolonged else None,
        )

    def belongs_to(self, subject: TokenSubject) -> bool:
        """Whether it is a token of the configuration."""
        return self.fingerprint == subject.fingerprint

    def was_got_by(self, subject: TokenSubject) -> bool:
        """Whether the client's authentication and the brought refresh token are still those by which it was got."""
        return (self.client, self.seed) == (subject.client, subject.seed)

    def is_live(self, now: datetime) -> bool:
        """Whether a mail server takes it still."""
        return now < self.expires_at

    @classmethod
    def of(
        cls,
        token: Token,
        subject: TokenSubject,
        *,
        sent: str | None,
        before: "StoredToken | None" = None,
        request: str | None = None,
    ) -> Self:
        """What is to be kept of an answer.

        Args:
            token: The answer.
            subject: What it was got for.
            sent: The refresh token that was sent: without a new one in the answer it stays good.
            before: What was kept until then.
            request: The annotation by which a person asks for a renewal, as it was when the token was asked for.
        """
        predecessor = before if before is not None and sent is not None and before.refresh_token == sent else None
        ends_at = _refresh_token_end(token, subject.family, sent, predecessor)
        return cls(
            serial=uuid4().hex,
            fingerprint=subject.fingerprint,
            client=subject.client,
            seed=subject.seed,
            access_token=token.access_token,
            refresh_token=token.refresh_token or sent,
            issued_at=token.issued_at.astimezone(UTC),
            expires_at=token.expires_at.astimezone(UTC),
            refresh_token_expires_at=ends_at,
            refresh_token_since=_since(token, ends_at, predecessor),
            scopes=token.scopes or (predecessor.scopes if predecessor else ()),
            account=token.account or (predecessor.account if predecessor else None),
            request=request,
        )

    @classmethod
    def parse(cls, document: bytes) -> Self | None:
        """What was kept; None: it cannot be read."""
        try:
            return cls.model_validate_json(document)
        except ValidationError:
            return None


def _refresh_token_end(
    token: Token, family: Family, sent: str | None, predecessor: StoredToken | None
) -> datetime | None:
    """What the answer says, else what is documented, else what was known, while the refresh token is the same."""
    if token.refresh_token_expires_at is not None:
        return token.refresh_token_expires_at.astimezone(UTC)
    life = REFRESH_TOKEN_LIFE.get(family)
    if life is not None and (sent or token.refresh_token):
        return token.issued_at.astimezone(UTC) + life
    is_same = predecessor is not None and token.refresh_token is None
    return predecessor.refresh_token_expires_at if is_same and predecessor is not None else None


def _since(token: Token, ends_at: datetime | None, predecessor: StoredToken | None) -> datetime | None:
    """An end that moves by clearly less than the time that has passed stands still: providers count in seconds left."""
    if ends_at is None:
        return None
    if predecessor is not None and predecessor.refresh_token_expires_at is not None:
        passed = token.issued_at - predecessor.issued_at
        if ends_at - predecessor.refresh_token_expires_at < passed / 2:
            return predecessor.refresh_token_since
    return token.issued_at.astimezone(UTC)
