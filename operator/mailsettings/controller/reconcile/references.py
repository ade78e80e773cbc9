"""Reads what settings refer to."""

import asyncio
import base64
import binascii
from collections.abc import Iterable

from mailsettings.api import names
from mailsettings.core.credentials import ObjectRef, Referenced, ReferencedObject
from mailsettings.edges.kubernetes import Json, KubernetesApi, core_path

_PLURALS = {"Secret": "secrets", "ConfigMap": "configmaps"}


async def read_references(api: KubernetesApi, namespace: str, refs: Iterable[ObjectRef]) -> Referenced:
    """The referenced objects of a namespace, read now, all at the same time.

    Raises:
        ApiError: the API server refused.
    """
    wanted = [*refs]
    reads = (api.get(core_path(_PLURALS[ref.kind], namespace, ref.name)) for ref in wanted)
    documents = await asyncio.gather(*reads)
    return {ref: _content(document) for ref, document in zip(wanted, documents, strict=True)}


def _content(document: Json | None) -> ReferencedObject | None:
    if document is None:
        return None
    labels = document["metadata"].get("labels") or {}
    annotations = document["metadata"].get("annotations") or {}
    return ReferencedObject(
        _data(document),
        referable=labels.get(names.LABEL_REFERABLE) == "true",
        delivered=document.get("type") == names.SECRET_TYPE and labels.get(names.LABEL_MANAGED_BY) == names.MANAGED_BY,
        expires_at=annotations.get(names.ANNOTATION_EXPIRES_AT),
    )


def _data(document: Json) -> dict[str, bytes]:
    """A Secret's data and a ConfigMap's binaryData are base64; a ConfigMap's data is text."""
    if document.get("kind") == "ConfigMap":
        texts = {key: value.encode("utf-8") for key, value in (document.get("data") or {}).items()}
        return texts | _decoded(document.get("binaryData"))
    return _decoded(document.get("data"))


def _decoded(data: Json | None) -> dict[str, bytes]:
    try:
        return {key: base64.b64decode(value, validate=True) for key, value in (data or {}).items()}
    except binascii.Error:
        raise ValueError("the API server sent data that is not base64") from None
