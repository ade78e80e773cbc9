"""The Secrets and ConfigMaps that stand in manifests beside settings. Pure."""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

from mailsettings.api import names
from mailsettings.core.credentials import ObjectKind, ObjectRef, Referenced, ReferencedObject, references
from mailsettings.core.effective import EffectiveSettings
from mailsettings.plugin.validate.check import Settings
from mailsettings.plugin.validate.source import Document, Path

_KINDS: Final = ("Secret", "ConfigMap")


@dataclass(frozen=True, slots=True)
class Found:
    """A Secret or ConfigMap of a manifest."""

    ref: ObjectRef
    namespace: str
    """Empty where the manifest leaves it to whoever applies it."""
    content: ReferencedObject


def objects_of(document: Document, at: Path = ()) -> list[Found]:
    """The Secrets and ConfigMaps of a document; what is malformed counts as not there."""
    value = document.value
    for step in at:
        value = value[step]
    return _found(value)


def _found(value: Any) -> list[Found]:  # noqa: ANN401 - JSON
    if not isinstance(value, dict):
        return []
    items = value.get("items")
    if str(value.get("kind", "")).endswith("List") and isinstance(items, list):
        return [found for item in items for found in _found(item)]
    metadata = value.get("metadata")
    if value.get("kind") not in _KINDS or value.get("apiVersion") != "v1" or not isinstance(metadata, dict):
        return []
    ref = ObjectRef(cast("ObjectKind", value["kind"]), str(metadata.get("name", "")))
    data = _texts(value, "data"), _texts(value, "binaryData"), _texts(value, "stringData")
    plain, encoded = (data[2], data[0]) if ref.kind == "Secret" else (data[0], data[1])
    content = {key: decoded for key, text in encoded.items() if (decoded := _decoded(text)) is not None}
    content |= {key: text.encode() for key, text in plain.items()}
    return [Found(ref, str(metadata.get("namespace") or ""), ReferencedObject(content))]


def _texts(value: Mapping[str, Any], field: str) -> dict[str, str]:
    found = value.get(field)
    return {key: text for key, text in found.items() if isinstance(text, str)} if isinstance(found, dict) else {}


def _decoded(text: str) -> bytes | None:
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        return None


def referenced_by(settings: Settings, effective: EffectiveSettings, found: list[Found]) -> Referenced:
    """What the settings refer to, as far as the manifests have it.

    A namespace that one of the two leaves out is the other's. The Secrets of a cluster object are in the operator's
    namespace, whatever its name is: the usual one goes first.
    """
    return {ref: _best(ref, settings, found) for ref in references(effective)}


def _best(ref: ObjectRef, settings: Settings, found: list[Found]) -> ReferencedObject | None:
    named = [each for each in found if each.ref == ref]
    if settings.kind.namespaced:
        wanted = settings.namespace
        named = [each for each in named if not wanted or not each.namespace or each.namespace == wanted]
    else:
        wanted = names.OPERATOR_NAMESPACE
    named.sort(key=lambda each: each.namespace != wanted)
    return named[0].content if named else None
