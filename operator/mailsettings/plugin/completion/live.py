"""What there is that can be typed: in the cluster, and words."""

import argparse
import asyncio
import os
from pathlib import Path
from typing import Final

import yaml

from mailsettings.api import names
from mailsettings.edges.kubernetes import UNREACHABLE, ApiError, settings_collection_path
from mailsettings.plugin.command import CommandError
from mailsettings.plugin.connection import connected
from mailsettings.plugin.explain.terms import TERMS
from mailsettings.plugin.kubeconfig import find_kubeconfig

PATIENCE_S: Final = 3.0
"""A shell that hangs is worse than one that offers nothing."""


def there_are(what: str, options: argparse.Namespace) -> list[str]:
    """What `completion.words.Live` gives; nothing where it cannot be had."""
    if what == "words":
        return sorted({term.name for term in TERMS})
    try:
        if what == "contexts":
            return _contexts(options)
        return sorted(asyncio.run(_listed(what, options)))
    except (CommandError, ApiError, yaml.YAMLError, *UNREACHABLE):
        return []


def _contexts(options: argparse.Namespace) -> list[str]:
    found = find_kubeconfig(options.kubeconfig, None, os.environ, Path.home())
    contents = [yaml.safe_load(Path(file).read_text(encoding="utf-8")) for file in found.files.split(os.pathsep)]
    entries = [entry for content in contents for entry in content.get("contexts") or ()]
    return sorted({str(entry["name"]) for entry in entries if "name" in entry})


async def _listed(what: str, options: argparse.Namespace) -> list[str]:
    async with asyncio.timeout(PATIENCE_S), connected(options) as connection:
        if what == "namespaces":
            path = "/api/v1/namespaces"
        elif options.cluster:
            path = settings_collection_path(names.CLUSTER_KIND)
        else:
            path = settings_collection_path(names.TENANT_KIND, options.namespace or connection.namespace)
        items, _ = await connection.api.list_metadata(path, record=dict)
        return [str(item["name"]) for item in items]
