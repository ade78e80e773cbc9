"""What a person is asked to consent to: what a settings object says, without any secret of it."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from urllib.parse import urlsplit

from mailsettings.api.grants import Grant
from mailsettings.api.identity import Cloud, Family
from mailsettings.api.oauth2 import OAuth2
from mailsettings.api.providers import PROVIDERS
from mailsettings.core.oauth2.account import ExpectedAccount, is_issuer, issuers_of
from mailsettings.core.oauth2.authorization import authorization_url, has_id_token
from mailsettings.core.oauth2.clouds import authorization_endpoint_of, cloud_of
from mailsettings.core.oauth2.faults import TokenFault, diagnose_redirect
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
class ConsentPage:
    """Where a person consents in a browser, when the operator can be reached at an address of its own."""

    url: str
    """What the person opens; it stays the same as long as the object lives."""
    redirect_uri: str
    """What has to be registered at the provider."""


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
    """Where a consent begins: the authorization endpoint; with grant DeviceCode the device authorization endpoint."""

    @property
    def family(self) -> Family:
        """Whose rules the provider follows."""
        return family_of(self.provider)

    @property
    def host(self) -> str:
        """Of the provider, with its port where it has an unusual one."""
        return urlsplit(self.endpoint).netloc.lower()

    def page(self, uid: str, external_url: str) -> ConsentPage | None:
        """The page for an object; None: there is none.

        Args:
            uid: The object's.
            external_url: Where browsers reach the operator; empty: nowhere.
        """
        if not external_url or self.oauth2.grant is not Grant.AUTHORIZATION_CODE:
            return None
        redirect_uri = f"{external_url}{CALLBACK_PATH}/{self.host}"
        return ConsentPage(f"{external_url}{START_PATH}/{uid}", redirect_uri)

    def is_issuer(self, issuer: str) -> bool:
        """Whether an answer that names its issuer is this provider's; one that names none is. Source: RFC 9207 §2.4."""
        return not issuer or is_issuer(issuer, issuers_of(self.family, self.endpoint))

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

    def expected_account(self, nonce: str | None) -> ExpectedAccount:
        """Who has to have consented, and to what.

        Args:
            nonce: The one that the person was sent to the provider with; None: the person was not (device code).
        """
        check = self.oauth2.account_check
        return ExpectedAccount(
            family=self.family,
            username=self.oauth2.username,
            client_id=self.oauth2.client_id or "",
            issuers=issuers_of(self.family, self.endpoint),
            nonce=nonce if nonce is not None and has_id_token(self.request("")) else None,
            directory_id=self.oauth2.directory_id or "",
            claim=check.claim if check is not None else None,
            scopes=self.scopes,
        )

    def fault_of(
        self, error: str, description: str, *, redirect_uri: str, secrets: Iterable[str], quotes: bool
    ) -> TokenFault:
        """What it means that the provider sent an error in place of a code; as `diagnose_redirect` has it."""
        return diagnose_redirect(error, description, self.request(redirect_uri), secrets=secrets, quotes=quotes)


def consent_terms(provider: str, oauth2: OAuth2, *, custom_cloud: Cloud | None = None) -> ConsentTerms:
    """What these settings, whose grant needs a person, ask for.

    Raises:
        LookupError: They name the cloud that an administrator defines, and it is not defined.
    """
    cloud = cloud_of(provider, oauth2.cloud, custom=custom_cloud)
    given = oauth2.authorization_uri or oauth2.device_authorization_uri
    return ConsentTerms(
        provider=provider,
        oauth2=oauth2,
        fingerprint=fingerprint(provider, oauth2),
        scopes=default_scopes(provider, oauth2, custom_cloud=custom_cloud),
        endpoint=given or authorization_endpoint_of(family_of(provider), cloud, oauth2.directory_id or ""),
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
