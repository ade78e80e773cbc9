"""Which namespaces may use a cluster object."""

from typing import Any

import pytest

from mailsettings.api.tenants import Tenants
from mailsettings.core.tenancy import Namespace, allows

OPERATOR = "mailsettings-system"
EVERYONE: dict[str, Any] = {"namespaceSelector": {}}


def admitted(name: str, tenants: dict[str, Any] | None, *, terminating: bool = False, **labels: str) -> bool:
    model = Tenants.model_validate({"delivery": "Credentials", **tenants}) if tenants is not None else None
    return allows(model, Namespace(name, labels, terminating), operator_namespace=OPERATOR)


@pytest.mark.parametrize(
    ("tenants", "expected"),
    [
        (None, False),
        ({}, False),
        (EVERYONE, True),
        ({"namespaces": ["shop"]}, True),
        ({"namespaces": ["mall"]}, False),
        ({**EVERYONE, "exclude": ["shop"]}, False),
        ({"namespaces": ["shop"], "exclude": ["shop"]}, False),
        ({"namespaceSelector": {"matchLabels": {"team": "a"}}}, True),
        ({"namespaceSelector": {"matchLabels": {"team": "b"}}}, False),
        ({"namespaceSelector": {"matchLabels": {"team": "b"}}, "namespaces": ["shop"]}, True),
    ],
)
def test_selected_or_named_and_not_excluded(tenants: dict[str, Any] | None, expected: bool) -> None:
    assert admitted("shop", tenants, team="a") is expected


@pytest.mark.parametrize(
    ("operator", "values", "expected"),
    [
        ("In", ["a", "b"], True),
        ("In", ["c"], False),
        ("NotIn", ["c"], True),
        ("NotIn", ["a"], False),
        ("Exists", None, True),
        ("DoesNotExist", None, False),
    ],
)
@pytest.mark.parametrize("present", [True, False])
def test_match_expressions_mean_what_kubernetes_means(
    operator: str, values: list[str] | None, expected: bool, present: bool
) -> None:
    expression = {"key": "team", "operator": operator, **({"values": values} if values else {})}
    tenants = {"namespaceSelector": {"matchExpressions": [expression]}}
    if present:
        assert admitted("shop", tenants, team="a") is expected
    else:
        assert admitted("shop", tenants) is (operator in ("NotIn", "DoesNotExist"))


@pytest.mark.parametrize("name", ["kube-system", "kube-public", "kube-anything", OPERATOR])
def test_the_systems_own_namespaces_never(name: str) -> None:
    assert not admitted(name, {**EVERYONE, "namespaces": [name]})


def test_a_namespace_that_is_being_deleted_never() -> None:
    assert not admitted("shop", EVERYONE, terminating=True)
