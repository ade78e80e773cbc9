"""The base of every model of a spec, and the rules that span its fields, once for the models and for the CRDs.

Every model is strict (no `"587"` for a port, no `"yes"` for a boolean). A field that is null counts as absent, as on
the API server. Unknown fields are ignored here: the API server prunes or refuses them before the operator sees them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, GetJsonSchemaHandler, model_validator
from pydantic.alias_generators import to_camel
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError

from mailsettings.api.patterns import parse_duration

RULE_ERROR: Final = "rule"
"""The type of the error of a model whose rules are broken; `messages` in its context has those of all of them."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule over several fields, in two languages that a property test holds together."""

    cel: str
    """For the API server; `self` is the model's object."""
    holds: Callable[[Any], bool]
    """For the models."""
    message: str
    """Names the field and says what to do."""


class ApiModel(BaseModel):
    """A part of a spec."""

    model_config = ConfigDict(
        strict=True,
        frozen=True,
        extra="ignore",
        alias_generator=to_camel,
        use_attribute_docstrings=True,
    )
    rules: ClassVar[tuple[Rule, ...]] = ()

    @model_validator(mode="before")
    @classmethod
    def _null_is_absent(cls, data: Any) -> Any:  # noqa: ANN401 - whatever JSON holds
        return _without_nulls(data)

    @model_validator(mode="after")
    def _rules_hold(self) -> Self:
        broken = [rule.message for rule in self.rules if not rule.holds(self)]
        if broken:
            raise PydanticCustomError(RULE_ERROR, "{message}", {"message": broken[0], "messages": broken})
        return self

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Carries the rules into the schema that the CRDs are rendered from."""
        schema = handler.resolve_ref_schema(handler(core_schema))
        if cls.rules:
            schema["x-kubernetes-validations"] = [{"rule": rule.cel, "message": rule.message} for rule in cls.rules]
        return schema


def _without_nulls(data: Any) -> Any:  # noqa: ANN401 - whatever JSON holds
    """What the API server keeps: it drops the nulls of objects and of maps, but not those of lists."""
    if not isinstance(data, dict):
        return data
    return {key: _without_nulls(value) for key, value in data.items() if value is not None}


def between(least: str, most: str) -> Callable[[str], str]:
    """A validator for a `Duration` from `least` to `most`, both included."""

    def check(text: str) -> str:
        if not parse_duration(least) <= parse_duration(text) <= parse_duration(most):
            raise PydanticCustomError("duration", "must be from {least} to {most}", {"least": least, "most": most})
        return text

    return check


def duration_rule(least: str, most: str) -> dict[str, Any]:
    """What `between` checks, for the CRD."""
    return {
        "x-kubernetes-validations": [
            {
                "rule": f"duration(self) >= duration('{least}') && duration(self) <= duration('{most}')",
                "message": f"must be from {least} to {most}",
            }
        ]
    }


def _unique(items: list[Any]) -> list[Any]:
    if len(set(items)) < len(items):
        raise PydanticCustomError("unique", "must not name anything twice")
    return items


UNIQUE = (AfterValidator(_unique), Field(json_schema_extra={"x-kubernetes-list-type": "set"}))
"""A list in which the API server refuses duplicates."""

Lax = Field(strict=False)
"""Lets an enum be read from its text; everything else stays strict."""
