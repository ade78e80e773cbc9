"""Which namespaces may use a cluster object."""

import re
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mailsettings.api.tenants import Tenants
from mailsettings.core.tenancy import Namespace, allows, sender_permitted

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


def permitted(pattern: str, address: str, *, namespace: str = "shop") -> bool:
    return sender_permitted(address, patterns=[pattern], system_from="no-reply@acme.example", namespace=namespace)


@pytest.mark.parametrize(
    ("pattern", "address", "expected"),
    [
        ("*@acme.example", "a@acme.example", True),
        ("*@acme.example", "a@b.acme.example", False),
        ("*@*.acme.example", "a@b.c.acme.example", True),
        ("*@*.acme.example", "a@acme.example", False),
        ("{namespace}@acme.example", "shop@acme.example", True),
        ("{namespace}+*@acme.example", "shop+x@acme.example", True),
        ("{namespace}@acme.example", "mall@acme.example", False),
        ("A*@Acme.example", "Shop <aBc@ACME.example>", True),
        ("ab*ba@x.y", "aba@x.y", False),
        ("*a*b@x.y", "ba@x.y", False),
        ("a**b@x.y", "ab@x.y", True),
    ],
)
def test_stars_and_namespaces_in_patterns(pattern: str, address: str, expected: bool) -> None:
    assert permitted(pattern, address) is expected


@example("*a*ab@*", "aaab@a")
@given(
    st.from_regex(r"[ab*]{1,8}@[ab*]{1,5}", fullmatch=True, alphabet="ab*@"),
    st.from_regex(r"[ab]{1,9}@[ab]{1,5}", fullmatch=True, alphabet="ab@"),
)
def test_a_star_stands_for_any_text_without_at(pattern: str, address: str) -> None:
    naive = "[^@]*".join(map(re.escape, pattern.split("*")))
    assert permitted(pattern, address) is (re.fullmatch(naive, address) is not None)


def test_many_stars_cost_nothing() -> None:
    """A regular expression would try more divisions of the text than could ever be tried; so this would not end."""
    assert not permitted(f"{'*a' * 120}*b@acme.example", f"{'a' * 300}@acme.example")
    assert permitted(f"{'*a' * 120}*b@acme.example", f"{'a' * 300}b@acme.example")
