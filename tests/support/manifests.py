"""What the models say of an object."""

from pydantic import BaseModel, ValidationError

from mailsettings.api import crd


def read(kind: crd.Kind, name: str, spec: object) -> BaseModel | None:
    """The model of a spec; None when the models refuse it."""
    try:
        model = kind.spec.model_validate(spec)
    except ValidationError:
        return None
    return model if all(rule.holds((name, model)) for rule in kind.root_rules) else None
