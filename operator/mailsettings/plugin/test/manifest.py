"""The server of a manifest, as a MailServerTest brings it. Pure."""

from typing import Any, Final

import yaml

from mailsettings.api import names
from mailsettings.plugin.command import CommandError

_KINDS: Final = (names.TENANT_KIND, names.CLUSTER_KIND)
_FIELDS: Final = ("mailFrom", "provider", "connection", "auth")
"""What of settings says where the server is and how to log in."""


def inline_settings(text: str, name: str | None) -> dict[str, Any]:
    """The `settings` of a test that tries the server of a manifest.

    Args:
        text: YAML or JSON: settings, among other documents perhaps, or a spec alone.
        name: which settings are meant, where there are several.

    Raises:
        CommandError: There are none, or too many, or they name no server.
    """
    try:
        documents = [document for document in yaml.safe_load_all(text) if isinstance(document, dict)]
    except yaml.YAMLError as error:
        raise CommandError("FileInvalid", f"The file is no YAML: {' '.join(str(error).split())}") from None
    specs = [spec for document in documents if (spec := _spec(document, name)) is not None]
    if len(specs) != 1:
        what = f"named {name!r}" if name else "of a mail server"
        many = "holds no settings" if not specs else "holds several settings"
        remedy = "" if name else "; name the ones that are meant"
        raise CommandError("FileInvalid", f"The file {many} {what}{remedy if specs else ''}.")
    settings = {field: specs[0][field] for field in _FIELDS if specs[0].get(field) is not None}
    if settings.keys() <= {"mailFrom"}:
        raise CommandError("FileInvalid", "These settings use the system's server, so there is nothing to try.")
    return settings


def _spec(document: dict[str, Any], name: str | None) -> dict[str, Any] | None:
    if "kind" not in document:
        return document if name is None else None
    if document["kind"] not in _KINDS or not isinstance(document.get("spec"), dict):
        return None
    called = (document.get("metadata") or {}).get("name")
    return document["spec"] if name in (None, called) else None
