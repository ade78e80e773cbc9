"""The API server and the models accept and refuse the same specs, and read the same from them."""

import os
from collections import Counter
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings

from dev.cluster import Cluster
from mailsettings.api import crd, names
from mailsettings.api.spec import MailServerSettingsSpec
from mailsettings.plugin.validate.check import Severity, content_of
from mailsettings.plugin.validate.source import Document
from tests.support import specs
from tests.support.client import DRY_RUN, Answer, Client
from tests.support.manifests import read

ROOT: Final = Path(__file__).parents[2]
CASES: Final = int(os.environ.get("MAILSETTINGS_AGREEMENT_CASES", "2000"))
"""How many specs are generated, for all kinds together."""

STRATEGIES: Final = {
    crd.CLUSTER.kind: specs.CLUSTER_SPECS,
    crd.TENANT.kind: specs.TENANT_SPECS,
    crd.TEST.kind: specs.TEST_SPECS,
}
PRUNE: Final = {"fieldValidation": "Ignore"}
REFUSE: Final = {"fieldValidation": "Strict"}
"""What kubectl asks for."""


@pytest.fixture(scope="module")
def client(control_plane: Cluster) -> Client:
    control_plane.apply(ROOT / "crds")
    return Client(control_plane.kubeconfig)


def offer(client: Client, kind: crd.Kind, name: str, spec: object, unknown: dict[str, str] = PRUNE) -> Answer:
    """Has the API server judge an object without storing it."""
    namespace = "namespaces/default/" if kind.namespaced else ""
    body = {"apiVersion": names.API_VERSION, "kind": kind.kind, "metadata": {"name": name}, "spec": spec}
    answer = client.call("POST", f"/apis/{names.API_VERSION}/{namespace}{kind.plural}", body, query=DRY_RUN | unknown)
    assert answer.status in (201, 400, 409, 422), answer
    return answer


def check(client: Client, kind: crd.Kind, name: str, spec: object) -> bool:
    """Fails where the two disagree; says whether they accept.

    What comes back from the API server lacks nulls and unknown fields and has the defaults; the models must read from
    it what they read from what was sent. (409: somebody else has an object of that name; it comes after validation.)
    """
    answer = offer(client, kind, name, spec)
    accepted = answer.accepted or answer.status == 409
    model = read(kind, name, spec)
    assert accepted == (model is not None), answer.message or "only the API server accepts this"
    if answer.accepted:
        stored = answer.body["spec"]
        assert kind.spec.model_validate(stored) == model
        if isinstance(model, MailServerSettingsSpec):
            inherited = model.system_settings_name if model.inherits else None
            assert MailServerSettingsSpec.inherits_from(stored) == inherited
    return accepted


@pytest.mark.parametrize("kind", crd.KINDS, ids=lambda kind: kind.kind)
def test_generated_specs_get_the_same_verdict(client: Client, kind: crd.Kind) -> None:
    verdicts = Counter[bool]()

    @settings(
        max_examples=CASES // len(crd.KINDS),
        derandomize=True,
        database=None,
        suppress_health_check=[*HealthCheck],
    )
    @given(name=specs.NAMES, spec=STRATEGIES[kind.kind])
    def agree(name: str, spec: object) -> None:
        verdicts[check(client, kind, name, spec)] += 1

    agree()
    share = verdicts[True] / verdicts.total()
    assert 0.25 < share < 0.65, f"{share:.0%} were accepted: too lopsided to prove much"


@pytest.mark.parametrize("kind", crd.KINDS, ids=lambda kind: kind.kind)
def test_validate_gives_the_verdict_that_kubectl_would_get(client: Client, kind: crd.Kind) -> None:
    @settings(
        max_examples=CASES // 4,
        derandomize=True,
        database=None,
        suppress_health_check=[*HealthCheck],
    )
    @given(name=specs.NAMES, spec=STRATEGIES[kind.kind])
    def agree(name: str, spec: object) -> None:
        answer = offer(client, kind, name, spec, REFUSE)
        body = {"apiVersion": names.API_VERSION, "kind": kind.kind, "metadata": {"name": name}, "spec": spec}
        (found,) = content_of(Document(body, {(): 1})).settings
        errors = [problem for problem in found.problems if problem.severity is Severity.ERROR]
        assert (answer.accepted or answer.status == 409) == (not errors), errors or answer.message

    agree()


SERVER: Final = {"mailFrom": "a@b", "connection": {"host": "h"}}
"""A spec that both kinds accept."""

_KEYS: Final = [f"{'a' * 186}{number:03}/{'b' * 60}{number:03}" for number in range(32)]
_LARGEST_PROXY: Final = {
    "protocol": "SOCKS5",
    "host": ".".join(["a" * 63] * 3 + ["b" * 61]),
    "port": 65535,
    "basic": {"username": "u" * 255, "passwordSecretRef": {"name": "a" * 253, "key": "k" * 253}},
}
_LARGEST: Final[dict[str, Any]] = {
    "mailFrom": f"{'n' * 394} <a@b>",
    "replyTo": f"{'🎉' * 394} <a@b>",
    "connection": {
        "host": ".".join(["a" * 63] * 3 + ["b" * 61]),
        "port": 65535,
        "timeout": "99999ms",
        "proxy": _LARGEST_PROXY,
    },
    "auth": {"basic": {"username": "🎉" * 320, "passwordSecretRef": {"name": "a" * 253, "key": "k" * 253}}},
    "output": {
        "metadata": {"labels": dict.fromkeys(_KEYS, "v" * 63), "annotations": dict.fromkeys(_KEYS, "v" * 4096)},
        "template": {"data": {f"{'k' * 250}{number:03}": "x" * 2048 for number in range(32)}},
    },
}
_LARGEST_OAUTH2: Final[dict[str, Any]] = {
    "mailFrom": "a@b",
    "provider": "Office365",
    "auth": {
        "oauth2": {
            "username": "🎉" * 320,
            "grant": "RefreshToken",
            "clientID": "x" * 256,
            "clientAuth": {"certificateRef": {"name": "a" * 253}},
            "directoryID": "d" * 253,
            "cloud": "China",
            "scopes": [f"{'s' * 254}{number:02}" for number in range(32)],
            "refreshTokenSecretRef": {"name": "a" * 253, "key": "k" * 253},
        }
    },
}
_LARGEST_TEST: Final[dict[str, Any]] = {
    "settings": {key: _LARGEST[key] for key in ("mailFrom", "connection", "auth")},
    "recipient": "a@b",
    "ttlSecondsAfterFinished": 604800,
}
_NAMESPACES: Final = [f"{'t' * 59}{number:04}" for number in range(1024)]
_LARGEST_TENANTS: Final = {
    "delivery": "Credentials",
    "namespaces": _NAMESPACES,
    "exclude": _NAMESPACES,
    "allowedFrom": [f"{'x' * 315}{number:03}@b" for number in range(64)],
    "testRecipients": [f"{'x' * 315}{number:03}@b" for number in range(64)],
    "namespaceSelector": {
        "matchLabels": dict.fromkeys(_KEYS, "v" * 63),
        "matchExpressions": [{"key": key, "operator": "In", "values": ["v" * 63] * 64} for key in _KEYS],
    },
}


def _labels(labels: object) -> dict[str, Any]:
    return {**SERVER, "output": {"metadata": {"labels": labels}}}


EXAMPLES: Final[tuple[tuple[str, bool, crd.Kind, object], ...]] = (
    ("a whole number written as a float", True, crd.TENANT, {**SERVER, "connection": {"host": "h", "port": 587.0}}),
    ("a null in a map", True, crd.CLUSTER, _labels({"team": None})),
    ("a null under a key that would be refused", True, crd.CLUSTER, _labels({"no key": None})),
    ("an empty key in a map", False, crd.CLUSTER, _labels({"": "x"})),
    ("a null in a list", False, crd.CLUSTER, {**SERVER, "tenants": {"delivery": "Credentials", "exclude": [None]}}),
    ("no spec", False, crd.TENANT, None),
    ("an empty tenant", True, crd.TENANT, {}),
    ("only nulls", True, crd.TENANT, {"provider": None, "connection": None, "auth": None, "probe": None}),
    ("an empty connection means an own server", False, crd.TENANT, {"connection": {}}),
    ("every bound of the cluster kind", True, crd.CLUSTER, {**_LARGEST, "tenants": _LARGEST_TENANTS}),
    ("every bound of the tenant kind", True, crd.TENANT, _LARGEST),
    ("every bound of OAuth2", True, crd.TENANT, _LARGEST_OAUTH2),
    ("every bound of a test", True, crd.TEST, _LARGEST_TEST),
    ("no time to live", False, crd.TEST, {"settingsRef": {"name": "mail"}, "ttlSecondsAfterFinished": 0}),
    ("a time to live as a float", True, crd.TEST, {"settingsRef": {"name": "mail"}, "ttlSecondsAfterFinished": 60.0}),
    ("a test that tests nothing", False, crd.TEST, {"settingsRef": {"name": "mail"}, "mode": "Disabled"}),
    ("a test of nothing", False, crd.TEST, {}),
    ("the password grant", False, crd.TENANT, {"auth": {"oauth2": {"username": "u", "grant": "Password"}}}),
    ("a Secret key that Kubernetes refuses", False, crd.TENANT, {"output": {"template": {"data": {"..a": "x"}}}}),
)


@pytest.mark.parametrize(("accepted", "kind", "spec"), [row[1:] for row in EXAMPLES], ids=[row[0] for row in EXAMPLES])
def test_telling_specs_get_the_same_verdict(client: Client, accepted: bool, kind: crd.Kind, spec: object) -> None:
    """Counter-examples that were once found, and the largest specs, which must fit into the cost limits of CEL."""
    assert check(client, kind, "x", spec) is accepted
