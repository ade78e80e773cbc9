"""The operator's own random key, kept in a Secret so that every replica and every restart has the same."""

import base64
import secrets
from typing import Final

from mailsettings.api import names
from mailsettings.edges.kubernetes import ApiError, Json, KubernetesApi, core_collection_path, core_path

KEY_BYTES: Final = 32
_DATA_KEY: Final = "key"


class OperatorKeyError(Exception):
    """The Secret exists but holds no usable key."""


async def operator_key(api: KubernetesApi, namespace: str) -> bytes:
    """The key; it is made at the first start.

    Raises:
        ApiError: the API server refused.
        OperatorKeyError: the Secret was tampered with; the message says how to mend it.
    """
    path = core_path("secrets", namespace, names.OPERATOR_KEY_NAME)
    document = await api.get(path)
    if document is None:
        document = await _create(api, namespace, path)
    key = base64.b64decode((document.get("data") or {}).get(_DATA_KEY, ""))
    if len(key) < KEY_BYTES:
        raise OperatorKeyError(
            f"the Secret {namespace}/{names.OPERATOR_KEY_NAME} holds no key of {KEY_BYTES} bytes; delete it and restart"
        )
    return key


async def _create(api: KubernetesApi, namespace: str, path: str) -> Json:
    body = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": names.OPERATOR_KEY_NAME,
            "namespace": namespace,
            "labels": {names.LABEL_MANAGED_BY: names.MANAGED_BY},
        },
        "type": names.OPERATOR_KEY_TYPE,
        "immutable": True,
        "data": {_DATA_KEY: base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode("ascii")},
    }
    try:
        return await api.create(core_collection_path("secrets", namespace), body, fenced=False)
    except ApiError as error:
        if not error.is_conflict:
            raise
    document = await api.get(path)  # another replica was faster
    if document is None:
        raise OperatorKeyError(f"the Secret {namespace}/{names.OPERATOR_KEY_NAME} comes and goes; restart")
    return document
