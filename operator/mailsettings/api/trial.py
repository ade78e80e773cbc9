"""Which OAuth2 settings can be tried before they are saved: an access token is got for that alone and not kept."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from mailsettings.api.grants import CONSENT_GRANTS, Grant
from mailsettings.api.model import Rule
from mailsettings.api.oauth2 import OAuth2
from mailsettings.api.providers import PROVIDERS


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Why a token cannot be got for a trial."""

    cel: str
    """That it is not there; `self` is a spec with `provider` and `auth.oauth2`."""
    absent: Callable[[str | None, OAuth2], bool]
    """The same of a provider's name and the settings."""
    field: str
    why: str


_KEEPING: Final = [name for name, each in PROVIDERS.items() if each.identity and each.identity.keeps_refresh_tokens]

_OBSTACLES: Final = (
    Obstacle(
        cel=f"!(self.auth.oauth2.grant in {[str(grant) for grant in CONSENT_GRANTS]})",
        absent=lambda _, oauth2: not oauth2.needs_consent,
        field="auth.oauth2.grant",
        why="a person has to consent first, and a consent belongs to saved settings",
    ),
    Obstacle(
        cel=f"self.auth.oauth2.grant != '{Grant.REFRESH_TOKEN}' || (has(self.provider) && self.provider in {_KEEPING})",
        absent=lambda provider, oauth2: oauth2.grant is not Grant.REFRESH_TOKEN or provider in _KEEPING,
        field="auth.oauth2.grant",
        why="this provider may replace the refresh token when it is used, and the new one would be lost",
    ),
    Obstacle(
        cel="!has(self.auth.oauth2.clientAuth) || !has(self.auth.oauth2.clientAuth.federation)",
        absent=lambda _, oauth2: oauth2.client_auth is None or oauth2.client_auth.federation is None,
        field="auth.oauth2.clientAuth.federation",
        why="the operator's own token is sent for saved settings of the system only",
    ),
)


def obstacle(provider: str | None, oauth2: OAuth2) -> Obstacle | None:
    """The first reason why no token can be got for a trial of these settings; None: there is none."""
    return next((each for each in _OBSTACLES if not each.absent(provider, oauth2)), None)


def trial_rules(prefix: str, remedy: str) -> tuple[Rule, ...]:
    """The same as rules over a spec with `provider` and `auth`.

    Args:
        prefix: What stands before the spec's fields in their names.
        remedy: What to do instead.
    """
    return tuple(_rule(each, prefix, remedy) for each in _OBSTACLES)


def _rule(each: Obstacle, prefix: str, remedy: str) -> Rule:
    def holds(spec: Any) -> bool:  # noqa: ANN401 - as rules have it
        oauth2 = spec.auth.oauth2 if spec.auth is not None else None
        return oauth2 is None or each.absent(spec.provider, oauth2)

    return Rule(
        cel=f"!has(self.auth) || !has(self.auth.oauth2) || {each.cel}",
        holds=holds,
        message=f"{prefix}{each.field}: {each.why}; {remedy}",
    )
