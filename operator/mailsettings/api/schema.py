"""Pydantic's JSON Schema as the structural schema that a CRD wants.

Structural means: no references, no titles, no `anyOf` for an optional field, one `type` for each node.
Source: Kubernetes, Extend the API with CustomResourceDefinitions, "Specifying a structural schema".
"""

from typing import Any

from pydantic import BaseModel

Schema = dict[str, Any]

_DROPPED = ("title", "$defs")


def structural(model: type[BaseModel]) -> Schema:
    """The structural schema of a model."""
    schema = model.model_json_schema(by_alias=True)
    return _node(schema, schema.get("$defs", {}))


def _node(schema: Schema, definitions: dict[str, Schema]) -> Schema:
    schema = _resolved(schema, definitions)
    node = {key: value for key, value in schema.items() if key not in _DROPPED}
    if node.get("default", ...) is None:
        del node["default"]
    if "description" in node:
        node["description"] = " ".join(node["description"].split())
    if "const" in node:
        node["enum"] = [node.pop("const")]
    if "properties" in node:
        node["properties"] = {key: _node(value, definitions) for key, value in node["properties"].items()}
    if "items" in node:
        node["items"] = _node(node["items"], definitions)
    if "additionalProperties" in node:
        node["additionalProperties"] = _node(node["additionalProperties"], definitions)
    if "patternProperties" in node:
        _describe_map(node, definitions)
    return node


def _resolved(schema: Schema, definitions: dict[str, Schema]) -> Schema:
    """The node without a reference and without the null that an optional field allows.

    What stands beside a reference or an `anyOf`, such as the field's own description, wins.
    """
    if "$ref" in schema:
        target = definitions[schema["$ref"].removeprefix("#/$defs/")]
        return _resolved({**target, **_without(schema, "$ref")}, definitions)
    if "anyOf" in schema:
        (option,) = [option for option in schema["anyOf"] if option != {"type": "null"}]
        return _resolved({**option, **_without(schema, "anyOf")}, definitions)
    return schema


def _without(schema: Schema, key: str) -> Schema:
    return {k: v for k, v in schema.items() if k != key}


def _describe_map(node: Schema, definitions: dict[str, Schema]) -> None:
    """Turns a map whose keys have a pattern into what a structural schema can say: CEL looks at the keys."""
    ((pattern, values),) = node.pop("patternProperties").items()
    keys = node.pop("propertyNames", {})
    node["additionalProperties"] = _node(values, definitions)
    bounds = [f"size(k) <= {keys['maxLength']}"] if "maxLength" in keys else []
    quoted = pattern.replace("\\", "\\\\")
    rule = " && ".join([*bounds, f"k.matches('{quoted}')"])
    node.setdefault("x-kubernetes-validations", []).append(
        {"rule": f"self.all(k, {rule})", "message": "a key is not of the form that Kubernetes wants here"}
    )
