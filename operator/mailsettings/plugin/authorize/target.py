"""Whose consent is asked for: from a settings object to what the flow needs of it. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mailsettings.api import names
from mailsettings.api.grants import Grant
from mailsettings.api.identity import Family
from mailsettings.api.providers import CUSTOM
from mailsettings.api.spec import ClusterMailServerSettingsSpec, MailServerSettingsSpec
from mailsettings.core.acceptance import parse_spec
from mailsettings.core.finding import Finding
from mailsettings.core.oauth2.terms import family_of
from mailsettings.plugin.advice import Known, known_of
from mailsettings.plugin.command import PROGRAM, CommandError


@dataclass(frozen=True, slots=True)
class Target:
    """Settings that wait for a person's consent."""

    kind: str
    namespace: str
    """Empty for a cluster object."""
    name: str
    uid: str
    provider: str
    account: str
    grant: Grant

    @property
    def title(self) -> str:
        """For people."""
        return title_of(self.kind, self.namespace, self.name)

    @property
    def source(self) -> str:
        """For the annotation of the consent Secret."""
        return "/".join(filter(None, (self.kind, self.namespace, self.name)))

    @property
    def owner(self) -> dict[str, Any]:
        """The owner reference of the consent Secret, which goes with the settings. It holds nothing up."""
        return {"apiVersion": names.API_VERSION, "kind": self.kind, "name": self.name, "uid": self.uid}

    @property
    def known(self) -> Known:
        """For commands about it."""
        return known_of({"kind": self.kind, "metadata": {"name": self.name, "namespace": self.namespace}})

    def redirect_uri(self, port: int) -> str:
        """Where the provider sends the browser: to this machine. The port may be any (RFC 8252 §7.3).

        Microsoft overlooks the port of `http://localhost` only; RFC 8252 §8.3 advises everybody else against that name.
        """
        host = "localhost" if family_of(self.provider) is Family.MICROSOFT else "127.0.0.1"
        return f"http://{host}:{port}"


def title_of(kind: str, namespace: str, name: str) -> str:
    """What people are told of an object."""
    return f"{kind} {namespace}/{name}" if namespace else f"{kind} {name}"


def target_of(document: Mapping[str, Any]) -> Target:
    """What a settings object, as the API server gives it, waits for.

    Raises:
        CommandError: Nobody's consent would help it; the message says what would.
    """
    kind, metadata = document["kind"], document["metadata"]
    name, namespace = metadata["name"], metadata.get("namespace", "")
    title = title_of(kind, namespace, name)
    model = ClusterMailServerSettingsSpec if kind == names.CLUSTER_KIND else MailServerSettingsSpec
    spec: Any = parse_spec(model, document.get("spec") or {})
    if isinstance(spec, Finding):
        raise CommandError("SpecInvalid", f"The spec of {title} cannot be used: {spec.message}")
    if metadata.get("deletionTimestamp"):
        raise CommandError("NotFound", f"{title} is being deleted.")
    if isinstance(spec, MailServerSettingsSpec) and spec.inherits:
        raise _inherited(title, spec.system_settings_name)
    oauth2 = spec.auth.oauth2 if spec.auth is not None else None
    if oauth2 is None:
        raise CommandError("ConsentNotNeeded", f"{title} has no auth.oauth2, so there is nothing to consent to.")
    if not oauth2.needs_consent:
        raise CommandError(
            "ConsentNotNeeded",
            f"{title} has grant {oauth2.grant}, with which the operator gets tokens without a person. If it has none, "
            "the condition Authorized says why.",
        )
    return Target(
        kind=kind,
        namespace=namespace,
        name=name,
        uid=metadata["uid"],
        provider=spec.provider or CUSTOM,
        account=oauth2.username,
        grant=oauth2.grant,
    )


def _inherited(title: str, system: str) -> CommandError:
    return CommandError(
        "ConsentNotNeeded",
        f"{title} uses the system's settings, {names.CLUSTER_KIND} {system}, so the consent is theirs, once for all "
        "tenants. An administrator of the mail server gives it:",
        f"{PROGRAM} authorize --cluster {system}",
    )
