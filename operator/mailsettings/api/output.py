"""`spec.output`: what the delivered Secret looks like."""

from typing import Annotated

from pydantic import Field

from mailsettings.api import names
from mailsettings.api.delivery import Delivery
from mailsettings.api.model import UNIQUE, ApiModel, Lax, Rule
from mailsettings.api.scalars import AnnotationValue, DataKey, LabelKey, LabelValue, ObjectName
from mailsettings.api.template import PLACEHOLDER_TEXT_PATTERN, RESERVED_KEYS, Preset


def _is_reserved(key: str) -> bool:
    return key.startswith(names.RESERVED_PREFIX) or key == names.LABEL_MANAGED_BY


def _own_keys_rule(field: str) -> Rule:
    def holds(metadata: "OutputMetadata") -> bool:
        return not any(map(_is_reserved, getattr(metadata, field) or ()))

    return Rule(
        cel=f"!has(self.{field}) || !self.{field}.exists(k, k.startsWith('{names.RESERVED_PREFIX}') || "
        f"k == '{names.LABEL_MANAGED_BY}')",
        holds=holds,
        message=f"output.metadata.{field}: keys that begin with {names.RESERVED_PREFIX} and "
        f"{names.LABEL_MANAGED_BY} are the operator's own; remove them",
    )


class OutputMetadata(ApiModel):
    """What to add to the delivered Secret's metadata, for reloaders and the like."""

    labels: Annotated[dict[LabelKey, LabelValue], Field(max_length=32)] | None = None
    """Labels to add."""
    annotations: Annotated[dict[LabelKey, AnnotationValue], Field(max_length=32)] | None = None
    """Annotations to add."""

    rules = tuple(_own_keys_rule(field) for field in ("labels", "annotations"))


class OutputTemplate(ApiModel):
    """Extra keys in the delivered Secret, in the form that the application reads."""

    presets: Annotated[list[Annotated[Preset, Lax]], Field(max_length=len(Preset)), *UNIQUE] | None = None
    """Ready-made sets of keys for well-known applications and libraries."""
    data: (
        Annotated[
            dict[DataKey, Annotated[str, Field(max_length=2048, pattern=PLACEHOLDER_TEXT_PATTERN)]],
            Field(max_length=32),
        ]
        | None
    ) = None
    """Keys of your own. In a value ${host}, ${port}, ${protocol}, ${tls}, ${from}, ${from-address}, ${from-name},
    ${reply-to}, ${username}, ${password} and ${uri} stand for the settings, ${username:url} and ${password:url} for
    their percent-encoded forms, and $$ for a dollar sign."""

    rules = (
        Rule(
            cel=f"!has(self.data) || !self.data.exists(k, k in {[*RESERVED_KEYS]})",
            holds=lambda s: s.data is None or not set(s.data) & set(RESERVED_KEYS),
            message=f"output.template.data: {', '.join(RESERVED_KEYS)} are the Secret's own keys; choose others",
        ),
    )


class ClusterOutput(ApiModel):
    """What the Secrets look like that `tenants.provision: Always` delivers."""

    metadata: OutputMetadata | None = None
    """What to add to the Secrets' metadata."""
    template: OutputTemplate | None = None
    """Extra keys in the Secrets."""


class Output(ClusterOutput):
    """What the delivered Secret looks like."""

    secret_name: ObjectName | None = None
    """The Secret's name. When absent the settings' name followed by -smtp."""
    delivery: Annotated[Delivery, Lax] | None = None
    """Credentials puts the login at the mail server into the Secret, Relay one at the relay in the cluster, which sends
    for the application: it needs no OAuth2. When absent Credentials, or what the system's settings say."""
