"""The files that are made from the models, and what every schema has to have."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from mailsettings.api import admission, crd, names, reference
from mailsettings.api.conditions import ConditionType, Reason
from mailsettings.api.providers import PROVIDERS
from mailsettings.render import files, render

ROOT: Final = Path(__file__).parents[2]


def _root(kind: crd.Kind) -> dict[str, Any]:
    schema: dict[str, Any] = crd.manifest(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return schema


def _nodes(path: str, node: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, node
    for name, child in node.get("properties", {}).items():
        yield from _nodes(f"{path}.{name}", child)
    for name in ("items", "additionalProperties"):
        if name in node:
            yield from _nodes(f"{path}[]", node[name])


NODES: Final = [
    pytest.param(node, id=f"{kind.short}.{path}")
    for kind in crd.KINDS
    for part in ("spec", "status")
    for path, node in _nodes(part, _root(kind)["properties"][part])
]
SPEC_NODES: Final = [param for param in NODES if ".spec" in str(param.id)]


def test_files_on_disk_are_what_the_code_renders() -> None:
    assert render(ROOT, check=True) == []


def test_render_writes_what_is_missing_or_differs_and_nothing_else(tmp_path: Path) -> None:
    everything = {tmp_path / path for path in files()}
    assert set(render(tmp_path, check=True)) == everything
    assert not any(path.exists() for path in everything)
    assert set(render(tmp_path, check=False)) == everything
    stale = tmp_path / "docs/reference.md"
    stale.write_text("drift")
    assert render(tmp_path, check=True) == [stale]
    assert stale.read_text() == "drift"
    assert render(tmp_path, check=False) == [stale]
    assert render(tmp_path, check=True) == []


@pytest.mark.parametrize("node", NODES)
def test_every_field_has_a_description(node: dict[str, Any]) -> None:
    assert all(child.get("description") for child in node.get("properties", {}).values())


@pytest.mark.parametrize("node", NODES)
def test_every_node_is_structural(node: dict[str, Any]) -> None:
    assert isinstance(node["type"], str)
    assert not {"anyOf", "oneOf", "allOf", "not", "$ref", "title", "nullable"} & node.keys()


@pytest.mark.parametrize("node", SPEC_NODES)
def test_every_string_list_map_and_number_of_a_spec_is_bounded(node: dict[str, Any]) -> None:
    bounds = {
        "string": "maxLength",
        "array": "maxItems",
        "integer": "maximum",
        "object": "properties",
        "boolean": "type",
    }
    bound = "maxProperties" if "additionalProperties" in node else bounds.get(node["type"], "type")
    assert bound in node or "enum" in node


@pytest.mark.parametrize("kind", crd.KINDS, ids=lambda kind: kind.kind)
def test_only_the_age_is_a_date_column(kind: crd.Kind) -> None:
    """`kubectl` shows a future time in such a column as <invalid>."""
    columns = crd.manifest(kind)["spec"]["versions"][0]["additionalPrinterColumns"]
    assert [column["name"] for column in columns if column["type"] == "date"] == ["Age"]


@pytest.mark.parametrize("kind", crd.KINDS, ids=lambda kind: kind.kind)
def test_conditions_are_a_map_by_type(kind: crd.Kind) -> None:
    conditions = _root(kind)["properties"]["status"]["properties"]["conditions"]
    assert conditions["x-kubernetes-list-type"] == "map"
    assert conditions["x-kubernetes-list-map-keys"] == ["type"]


def test_reference_names_everything() -> None:
    page = reference.render()
    paths = {str(param.id).partition(".")[2] for param in NODES if not str(param.id).endswith("[]")} - {
        "spec",
        "status",
    }
    keys = {value for name, value in vars(names).items() if name.startswith(("LABEL_", "ANNOTATION_"))}
    wanted = {*(path for path in paths if not path.endswith("[]")), *ConditionType, *Reason, *keys}
    assert {name for name in wanted if f"`{name}`" not in page} == set()
    hosts = {server.host for provider in PROVIDERS.values() for server in provider.endpoints.values()}
    assert {host for host in hosts if host not in page} == set()


def test_every_retired_login_warns_at_admission() -> None:
    policy, binding = admission.basic_warning_documents()
    warnings = [validation["message"] for validation in policy["spec"]["validations"]]
    assert warnings == [provider.basic_warning for provider in PROVIDERS.values() if provider.basic_warning]
    assert binding["spec"]["validationActions"] == ["Warn"]
