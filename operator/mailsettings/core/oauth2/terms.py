"""What a person is asked to consent to: what a settings object says, without any secret of it."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final
from urllib.parse import urlsplit

from mailsettings.api.grants import Grant
from mailsettings.api.identity import Family
from mailsettings.api.oauth2 import OAuth2
from mailsettings.api.providers import PROVIDERS
from mailsettings.core.digest import Digester
from mailsettings.core.oauth2.authorization import authorization_url, has_id_token
from mailsettings.core.oauth2.clouds import authorization_endpoint_of, cloud_of
from mailsettings.core.oauth2.fingerprint import fingerprint
from mailsettings.core.oauth2.request import AuthorizationRequest
from mailsettings.core.oauth2.state import Flows
from mailsettings.core.oauth2.subject import default_scopes

START_PATH: Final = "/oauth2/start"
CALLBACK_PATH: Final = "/oauth2/callback"
"""The authorization endpoint's host follows: each provider has a redirect URI of its own.

So a provider cannot have the code of another one sent to itself. Source: RFC 9700 §4.4.2.2.
"""


@dataclass(frozen=True, slots=True)
class ConsentTerms:
    """What a person is asked to consent to."""

    provider: str
    oauth2: OAuth2
    fingerprint: str
    """Of the configuration that the tokens will belong to."""
    scopes: tuple[str, ...]
    """For the mail."""
    endpoint: str
    """Where the person logs in, with grant AuthorizationCode; else empty."""

    @property
    def family(self) -> Family:
        """Whose rules the provider follows."""
        return family_of(self.provider)

    @property
    def host(self) -> str:
        """Of the provider, with its port where it has an unusual one."""
        return urlsplit(self.endpoint).netloc.lower()

    @property
    def origin(self) -> str:
        """Of the provider. What calls itself an issuer has to be there."""
        return f"https://{self.host}"

    def redirect_uri(self, external_url: str) -> str:
        """Where the provider sends the browser, when the operator can be reached at an address of its own."""
        return f"{external_url}{CALLBACK_PATH}/{self.host}"

    def is_issuer(self, issuer: str) -> bool:
        """Whether an answer that names its issuer is this provider's; one that names none is. Source: RFC 9207 §2.4."""
        return not issuer or _origin(issuer) == self.origin

    def request(self, redirect_uri: str) -> AuthorizationRequest:
        """What the person is sent to the provider with."""
        return AuthorizationRequest(
            family=self.family,
            endpoint=self.endpoint,
            client_id=self.oauth2.client_id or "",
            redirect_uri=redirect_uri,
            scopes=self.scopes,
            login_hint=self.oauth2.username,
        )

    def nonce(self, flows: Flows, flow: str) -> str | None:
        """What the ID token of an attempt has to repeat; None: there will be no ID token."""
        is_sent = self.oauth2.grant is Grant.AUTHORIZATION_CODE and has_id_token(self.request(""))
        return flows.nonce(flow) if is_sent else None


def consent_terms(provider: str, oauth2: OAuth2, digest: Digester) -> ConsentTerms:
    """What these settings, whose grant needs a person, ask for."""
    cloud = cloud_of(provider, oauth2.cloud)
    family = family_of(provider)
    endpoint = oauth2.authorization_uri or authorization_endpoint_of(family, cloud, oauth2.directory_id or "")
    return ConsentTerms(
        provider=provider,
        oauth2=oauth2,
        fingerprint=fingerprint(provider, oauth2, digest),
        scopes=default_scopes(provider, oauth2),
        endpoint=endpoint if oauth2.grant is Grant.AUTHORIZATION_CODE else "",
    )


def begin(
    terms: ConsentTerms, flows: Flows, *, flow: bytes, uid: str, holder: str, redirect_uri: str, now: datetime
) -> str:
    """The address that the person is to open: the authorization endpoint with a new state.

    Args:
        terms: What is asked for.
        flows: Makes the state.
        flow: `FLOW_BYTES` random bytes.
        uid: Of the settings.
        holder: Who has to bring the answer, as `Flows.mint` has it.
        redirect_uri: Where the provider sends the answer.
        now: The present time.
    """
    state = flows.mint(flow=flow, uid=uid, fingerprint=terms.fingerprint, holder=holder, now=now)
    name = flow.hex()
    return authorization_url(
        terms.request(redirect_uri), state=state, verifier=flows.verifier(name), nonce=flows.nonce(name)
    )


def family_of(provider: str) -> Family:
    """Whose rules a provider follows.

    Raises:
        ValueError: It knows no OAuth2.
    """
    identity = PROVIDERS[provider].identity
    if identity is None:
        raise ValueError(f"{provider} has no OAuth2")
    return identity.family


def _origin(uri: str) -> str:
    """Scheme, host and port; empty: it is no URI."""
    try:
        parts = urlsplit(uri)
    except ValueError:
        return ""
    return f"{parts.scheme}://{parts.netloc}".lower()
