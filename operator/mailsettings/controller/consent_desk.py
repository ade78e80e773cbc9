"""What the consent pages ask and are told: from the store alone, so that any replica can answer."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from os import urandom
from typing import Final

from mailsettings.api import names
from mailsettings.api.grants import Grant
from mailsettings.api.identity import Cloud
from mailsettings.api.providers import CUSTOM, PROVIDERS
from mailsettings.api.spec import ClusterMailServerSettingsSpec, MailServerSettingsSpec, ServerSpec
from mailsettings.controller.keys import Kind
from mailsettings.controller.store import SettingsRecord, Store
from mailsettings.core.acceptance import parse_spec
from mailsettings.core.finding import Finding
from mailsettings.core.oauth2.consent import KEPT, MAX_OPEN, ConsentKey, ConsentResult
from mailsettings.core.oauth2.state import FLOW_BYTES, Flows, StateError
from mailsettings.core.oauth2.terms import ConsentPage, ConsentTerms, begin, consent_terms
from mailsettings.edges.consent_server.app import Problem, ProblemError
from mailsettings.edges.consent_server.pages import Settings
from mailsettings.edges.consents import ConsentStore

_MODELS: Final[dict[Kind, type[ServerSpec]]] = {
    Kind.CLUSTER: ClusterMailServerSettingsSpec,
    Kind.TENANT: MailServerSettingsSpec,
}

MAX_UNSEEN: Final = 1024
"""Answers in all that are kept while the watch has not told of them: it tells within moments, or not at all."""

LAG_S: Final = 1.0
"""For how long a flow that nobody knows is looked for: another replica may just have accepted its answer."""

_LAG_PAUSE: Final = 0.1


@dataclass(slots=True)
class _Unseen:
    """The answers that this process has kept, or is keeping, and that the watch has not told of yet."""

    store: Store
    namespace: str
    _ends: dict[str, tuple[str, datetime]] = field(default_factory=dict)
    """By the Secret's name: the uid of the settings, and until when the Secret is there."""

    def __contains__(self, name: str) -> bool:
        return name in self._ends

    def __len__(self) -> int:
        return len(self._ends)

    def of(self, uid: str, now: datetime) -> set[str]:
        """The names of those for the settings of this uid; what the watch has told of since is forgotten."""
        self._ends = {
            name: (of, until)
            for name, (of, until) in self._ends.items()
            if until > now and self.store.secret(self.namespace, name) is None
        }
        return {name for name, (of, _) in self._ends.items() if of == uid}

    def add(self, name: str, uid: str, now: datetime) -> None:
        self._ends[name] = (uid, now + KEPT)

    def discard(self, name: str) -> None:
        self._ends.pop(name, None)


class ConsentDesk:
    """Knows the settings, begins consents and keeps the answers; the reconcilers do the rest."""

    def __init__(
        self,
        store: Store,
        consents: ConsentStore,
        flows: Flows,
        *,
        namespace: str,
        external_url: str,
        custom_cloud: Cloud | None,
    ) -> None:
        """Nothing is known yet but what the store holds.

        Args:
            store: What the watches have told.
            consents: Where answers are kept.
            flows: Makes and reads states.
            namespace: The operator's.
            external_url: Where browsers reach the pages.
            custom_cloud: The cloud that the operator is told of, if any.
        """
        self._store = store
        self._consents = consents
        self._flows = flows
        self._namespace = namespace
        self._unseen = _Unseen(store, namespace)
        self._external_url = external_url
        self._custom_cloud = custom_cloud

    def settings(self, uid: str) -> Settings:
        """What a person is shown before consenting.

        Raises:
            ProblemError: No settings of this uid ask for a consent in a browser.
        """
        record, terms, _ = self._asking(uid)
        return Settings(
            kind=str(record.key.kind),
            namespace=record.key.namespace,
            name=record.key.name,
            account=terms.oauth2.username,
            provider=PROVIDERS[terms.provider].title,
            host=terms.host,
            client_id=terms.oauth2.client_id or "",
            scopes=terms.scopes,
        )

    def form_token(self, uid: str, browser: str) -> str:
        """Shows that a form was loaded, and by which browser."""
        return self._flows.form_token(uid, browser)

    def begin(self, uid: str, browser: str) -> str:
        """The provider's address with a new state, which this browser has to bring back.

        Raises:
            ProblemError: No settings of this uid ask for a consent in a browser.
        """
        _, terms, page = self._asking(uid)
        flow, now = urandom(FLOW_BYTES), datetime.now(UTC)
        return begin(terms, self._flows, flow=flow, uid=uid, holder=browser, redirect_uri=page.redirect_uri, now=now)

    async def accept(self, host: str, answer: Mapping[ConsentKey, str], browser: str) -> str:
        """Keeps a provider's answer; the name of the flow that it ends. One that is there already stays.

        Args:
            host: Of the provider, by the redirect URI that was used.
            answer: The parameters of the redirect.
            browser: The cookie's value; empty: there was none.

        Raises:
            ProblemError: The answer is not kept.
            ApiError: The API server is in trouble.
        """
        try:
            state = self._flows.read(answer.get(ConsentKey.STATE, ""))
        except StateError:
            raise ProblemError(Problem.STATE) from None
        if not browser or not state.is_bound_to(browser):
            raise ProblemError(Problem.BROWSER)
        record, terms, page = self._asking(state.uid)
        if host.lower() != terms.host:
            raise ProblemError(Problem.HOST)
        name = self._reserve(state.flow, state.uid)
        try:
            await self._consents.create_callback(
                state.flow,
                uid=state.uid,
                source="/".join(filter(None, record.key)),
                values={**answer, ConsentKey.REDIRECT_URI: page.redirect_uri},
            )
        except BaseException:
            self._unseen.discard(name)
            raise
        return state.flow

    def _reserve(self, flow: str, uid: str) -> str:
        """Counts an answer before it is kept, so that many at once cannot pass the limit; its Secret's name."""
        name, now = names.consent_secret_name(flow), datetime.now(UTC)
        # Anybody may put the label on Secrets of their own: only the operator's count.
        seen = {
            secret.name
            for secret in self._store.consents_of(uid)
            if secret.namespace == self._namespace and secret.name.startswith(names.CONSENT_PREFIX)
        }
        if len((seen | self._unseen.of(uid, now)) - {name}) >= MAX_OPEN:
            raise ProblemError(Problem.MANY)
        if len(self._unseen) >= MAX_UNSEEN:
            raise ProblemError(Problem.UNAVAILABLE)
        self._unseen.add(name, uid, now)
        return name

    async def result(self, flow: str) -> ConsentResult | None:
        """What has become of an answer; None: nothing yet.

        Raises:
            ProblemError: There is none, or no longer.
            ApiError: The API server is in trouble.
        """
        held = await self._consents.read_callback(flow) if await self._is_known(flow) else None
        if held is None:
            raise ProblemError(Problem.GONE)
        return held.consent.result

    async def _is_known(self, flow: str) -> bool:
        """Whether there is such an answer as far as is known here: the API server is not asked what anybody invents."""
        name, loop = names.consent_secret_name(flow), asyncio.get_running_loop()
        until = loop.time() + LAG_S
        while not (known := name in self._unseen or self._store.secret(self._namespace, name) is not None):
            if loop.time() >= until:
                break
            await asyncio.sleep(_LAG_PAUSE)
        return known

    def _asking(self, uid: str) -> tuple[SettingsRecord, ConsentTerms, ConsentPage]:
        record = self._store.settings_by_uid(uid)
        if record is None or record.deleting:
            raise ProblemError(Problem.UNKNOWN)
        spec = parse_spec(_MODELS[record.key.kind], record.spec, custom_cloud=self._custom_cloud)
        oauth2 = spec.auth.oauth2 if not isinstance(spec, Finding) and spec.auth is not None else None
        if isinstance(spec, Finding) or oauth2 is None or oauth2.grant is not Grant.AUTHORIZATION_CODE:
            raise ProblemError(Problem.UNKNOWN)
        terms = consent_terms(spec.provider or CUSTOM, oauth2, custom_cloud=self._custom_cloud)
        page = terms.page(uid, self._external_url)
        if page is None:
            raise ProblemError(Problem.UNKNOWN)
        return record, terms, page
