"""Tries the servers of manifests from the person's own machine, without a cluster."""

import argparse
import asyncio
import json
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from mailsettings.api.conditions import Reason
from mailsettings.api.identity import CUSTOM_CLOUD
from mailsettings.api.mailservertest import MailServerTestSpec, MailServerTestStatus
from mailsettings.api.oauth2 import OAuth2
from mailsettings.api.trial import obstacle
from mailsettings.core.clock import format_time
from mailsettings.core.conditions import conditions
from mailsettings.core.credentials import Referenced, ResolvedSettings, referring_fields, resolve
from mailsettings.core.digest import Digester
from mailsettings.core.effective import EffectiveSettings
from mailsettings.core.egress import EgressPolicy
from mailsettings.core.finding import Finding, failed
from mailsettings.core.mail_testing import mode_of, probe_request, reported, state_findings, verdict
from mailsettings.core.oauth2.subject import token_subject
from mailsettings.core.oauth2.trial import token_wish
from mailsettings.core.probe import ProbeProgress, ProbeRequest, ProbeResult, Progress, TokenWish
from mailsettings.core.report import effective_status
from mailsettings.core.server import Source
from mailsettings.edges.oauth2.tokens import IdentityProviders
from mailsettings.edges.tls import is_usable_bundle
from mailsettings.edges.trial import probe
from mailsettings.plugin.command import FAILURE, SUCCESS
from mailsettings.plugin.terminal import Terminal
from mailsettings.plugin.test.outcome import document_of, state_of, title_of
from mailsettings.plugin.test.report import show_rest, show_stages, tell_verdict
from mailsettings.plugin.validate.check import Settings, own_server
from mailsettings.plugin.validate.objects import Found, referenced_by

TOKEN_DEADLINE: Final = timedelta(seconds=20)
NO_CLUSTER: Final = "none, from the command line"
"""What the test mail says in place of a cluster."""


@dataclass(frozen=True, slots=True)
class Trial:
    """Settings of a file."""

    file: str
    settings: Settings


def run(options: argparse.Namespace, terminal: Terminal, trials: Iterable[Trial], found: list[Found]) -> int:
    """Tries all settings that name a server of their own, one after the other; the exit status."""
    statuses = [_try(options, terminal, trial, found) for trial in trials]
    tried = [status for status in statuses if status is not None]
    if not tried:
        terminal.say("No settings here name a mail server, so there is nothing to probe.")
        return FAILURE
    return max(tried)


def _try(options: argparse.Namespace, terminal: Terminal, trial: Trial, found: list[Found]) -> int | None:
    """The exit status for one; None: there is no server to try."""
    settings = trial.settings
    effective = own_server(settings.spec)
    if effective is None:
        terminal.say(f"{settings.title}: it uses the system's server; probe the ClusterMailServerSettings.")
        return None
    effective = replace(effective, settings_name=settings.name)
    document = asyncio.run(_tested(options, terminal, settings, effective, found))
    if options.output == "json":
        said = {"file": trial.file, "object": settings.title, **document_of(document)}
        terminal.tell_document(json.dumps(said))
    else:
        terminal.tell_line(f"{trial.file}: {settings.title}")
        show_stages(terminal, document)
        show_rest(terminal, document, whole=not state_of(document).succeeded)
    tell_verdict(terminal, document, for_program=options.output == "json")
    return SUCCESS if state_of(document).succeeded else FAILURE


async def _tested(
    options: argparse.Namespace,
    terminal: Terminal,
    settings: Settings,
    effective: EffectiveSettings,
    found: list[Found],
) -> dict[str, Any]:
    """How a MailServerTest of the settings would end here, as the API server would show it."""
    spec = MailServerTestSpec.model_validate(
        {"settingsRef": {"name": settings.name or "settings"}, **({"recipient": options.to} if options.to else {})}
    )
    mode = mode_of(spec, has_auth=effective.auth is not None)
    status = MailServerTestStatus(mode=mode, effective=effective_status(effective, inherited=False))
    ready = _ready(settings, effective, referenced_by(settings, effective, found))
    if isinstance(ready, Finding):
        return _document(settings, status, ready)
    resolved, wish = ready
    request = probe_request(
        spec,
        resolved,
        mode,
        described_as=settings.title,
        cluster=NO_CLUSTER,
        wish=wish,
        checks_sender=options.check_sender,
    )
    title = title_of({"status": status.document()})

    def tick(progress: ProbeProgress) -> None:
        terminal.tick(f"{title}: {progress.stage} ...")

    result = await _probed(request, tick, options.timeout)
    return _document(settings, reported(status, result), verdict(mode, result, now=datetime.now(UTC)))


async def _probed(request: ProbeRequest, progress: Progress, deadline: timedelta) -> ProbeResult:
    policy = EgressPolicy.of_a_person()
    return await probe(
        # What a tenant may not do is a matter of the cluster's.
        replace(request, level=Source.SYSTEM),
        progress,
        obtain=IdentityProviders(policy, lambda: None, TOKEN_DEADLINE).obtain,
        policy=policy,
        deadline=deadline,
    )


def _ready(
    settings: Settings, effective: EffectiveSettings, referenced: Referenced
) -> tuple[ResolvedSettings, TokenWish | None] | Finding:
    """What can be tried; or why nothing can."""
    for path, ref in referring_fields(effective):
        if referenced[ref] is None:
            where = f" -n {settings.namespace}" if settings.namespace else ""
            return failed(
                Reason.SECRET_NOT_FOUND if ref.kind == "Secret" else Reason.CONFIG_MAP_NOT_FOUND,
                f"{path}: the {ref.kind} {ref.name!r} is in none of the files; give one that has it with another -f, "
                f"such as - for: kubectl get {ref.kind.lower()} {ref.name}{where} -o yaml",
            )
    finding, resolved = resolve(effective, referenced, is_usable_bundle=is_usable_bundle)
    if resolved is None:
        return finding
    if not isinstance(effective.auth, OAuth2):
        return resolved, None
    refusal = _refusal(effective.provider, effective.auth)
    return refusal if refusal is not None else (resolved, _wish(resolved, effective.auth))


def _refusal(provider: str, oauth2: OAuth2) -> Finding | None:
    remedy = "apply the settings, and use `kubectl mailsettings test`"
    if oauth2.cloud == CUSTOM_CLOUD:
        why = f"auth.oauth2.cloud: {CUSTOM_CLOUD} is defined in the cluster"
        return failed(Reason.SPEC_INVALID, f"{why}; {remedy}")
    found = obstacle(provider, oauth2)
    if found is None:
        return None
    reason = Reason.CONSENT_REQUIRED if oauth2.needs_consent else Reason.SPEC_INVALID
    return failed(reason, f"{found.field}: {found.why}; {remedy}")


def _wish(resolved: ResolvedSettings, oauth2: OAuth2) -> TokenWish:
    if resolved.oauth2 is None:
        raise ValueError("resolved settings with OAuth2 have its secrets")
    subject = token_subject(
        resolved.effective.provider,
        oauth2,
        resolved.oauth2,
        level=Source.SYSTEM,
        digest=Digester(secrets.token_bytes(32)),
        proxy=resolved.server.proxy,
    )
    return token_wish(subject)


def _document(settings: Settings, status: MailServerTestStatus, finding: Finding) -> dict[str, Any]:
    found = conditions(state_findings(finding), [], generation=1, now=format_time(datetime.now(UTC)))
    ended = status.model_copy(update={"conditions": found, "observed_generation": 1})
    return {"metadata": {"name": settings.name, "namespace": settings.namespace}, "status": ended.document()}
