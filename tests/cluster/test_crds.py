"""What the API server makes of the CRDs: messages, defaults, pruning, status, discovery and columns."""

import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import pytest
from pydantic import ValidationError

from dev.cluster import Cluster
from mailsettings.api import crd, names
from mailsettings.api.reference import rules
from tests.support.client import DRY_RUN, MERGE_PATCH, Answer, Client

ROOT: Final = Path(__file__).parents[2]
TABLE: Final = "application/json;as=Table;v=v1;g=meta.k8s.io"
BASE: Final = f"/apis/{names.API_VERSION}"

REF: Final = {"name": "smtp", "key": "password"}
BASIC: Final = {"username": "u@acme.example", "passwordSecretRef": REF}
SERVER: Final[dict[str, Any]] = {"mailFrom": "a@acme.example", "connection": {"host": "smtp.acme.example"}}
"""A spec that both kinds of settings accept."""
SAVED: Final[dict[str, Any]] = {"settingsRef": {"name": "mail"}}
BASES: Final = {crd.CLUSTER.kind: SERVER, crd.TENANT.kind: SERVER, crd.TEST.kind: SAVED}
"""For each kind a spec that it accepts."""


@dataclass(frozen=True)
class Refusal:
    """A spec that breaks one rule."""

    path: str
    """The field that the rule belongs to."""
    message: str
    """How its message begins."""
    spec: dict[str, Any]
    """What differs from the kind's spec in `BASES`."""
    name: str = field(default="x")


def _template(data: dict[str, str]) -> dict[str, Any]:
    return {"output": {"template": {"data": data}}}


def _metadata(name: str, key: str) -> dict[str, Any]:
    return {"output": {"metadata": {name: {key: "x"}}}}


def _tenants(selector: dict[str, Any]) -> dict[str, Any]:
    return {"tenants": {"delivery": "Credentials", "namespaceSelector": selector}}


def _tls(**tls: object) -> dict[str, Any]:
    return {"connection": {"host": "h", "tls": tls}}


def _server(provider: str, **basic: object) -> dict[str, Any]:
    return {"provider": provider, "auth": {"basic": {"passwordSecretRef": REF, **basic}}}


OAUTH2: Final[dict[str, Any]] = {
    "username": "u@acme.example",
    "grant": "ClientCredentials",
    "clientID": "x",
    "clientAuth": {"secretRef": REF},
    "tokenURI": "https://login.acme.example/token",
}
"""What provider Custom accepts."""
_OFFICE: Final = {**OAUTH2, "tokenURI": None, "directoryID": "acme.example"}
_SERVICE_ACCOUNT: Final = {"username": "u", "grant": "ServiceAccount", "serviceAccountKeyRef": REF}
_CODE: Final = {
    **OAUTH2,
    "grant": "AuthorizationCode",
    "authorizationURI": "https://login.acme.example/authorize",
    "accountCheck": {"claim": "email"},
}
_DEVICE: Final = {
    **OAUTH2,
    "grant": "DeviceCode",
    "clientAuth": None,
    "deviceAuthorizationURI": "https://login.acme.example/device",
    "accountCheck": {"skip": True},
}
_REFRESH: Final = {**OAUTH2, "grant": "RefreshToken", "refreshTokenSecretRef": REF}


def _oauth2(provider: str | None = None, base: dict[str, Any] = OAUTH2, **changed: object) -> dict[str, Any]:
    return {"provider": provider, "auth": {"oauth2": {**base, **changed}}}


def _brought(**changed: object) -> dict[str, Any]:
    return {"settingsRef": None, "settings": {**SERVER, **changed}}


BAD_KEY: Final = "a key is not of the form"


def _proxy(basic: dict[str, Any]) -> dict[str, Any]:
    proxy = {"protocol": "HTTP", "host": "proxy.acme.example", "port": 3128, "basic": basic}
    return {"connection": {"host": "smtp.acme.example", "proxy": proxy}}


def _named(username: str) -> dict[str, Any]:
    return {"username": username, "passwordSecretRef": REF}


_REFUSALS: Final = (
    Refusal("", "metadata.name: at most 63", {}, name="d" * 64),
    Refusal("", "tenants.provision: only", {"tenants": {"delivery": "Credentials", "provision": "Always"}}),
    Refusal("spec", "auth: this provider needs a login", {"provider": "Google"}),
    Refusal("spec", "auth.basic.username: set it", _server("Google")),
    Refusal("spec", "auth.basic.username: with SendGrid", _server("SendGrid", username="me")),
    Refusal("spec", "auth.basic.username: personal Outlook", _server("Office365", username="Me@Live.co.UK")),
    Refusal("spec", "auth.oauth2.username: personal Outlook", _oauth2("Office365", _OFFICE, username="Me@LIVE.com")),
    Refusal("spec", "auth.oauth2.grant: with Custom", _oauth2(base=_SERVICE_ACCOUNT, tokenURI="https://h")),
    Refusal("spec", "auth.oauth2: SendGrid has no", _oauth2("SendGrid")),
    Refusal("spec", "auth.oauth2.grant: with Google", _oauth2("Google")),
    Refusal("spec", "auth.oauth2.grant: with Office365", _oauth2("Office365", _SERVICE_ACCOUNT, directoryID="a")),
    Refusal("spec", "auth.oauth2.directoryID: Office365", _oauth2("Office365", _OFFICE, directoryID=None)),
    Refusal("spec", "auth.oauth2.cloud: only", _oauth2(cloud="Public")),
    Refusal(
        "spec",
        "connection.host: with auth.oauth2.cloud Custom",
        {"connection": {"port": 587}, **_oauth2("Office365", _OFFICE, cloud="Custom")},
    ),
    Refusal("spec", "auth.oauth2.tokenURI: provider Custom", _oauth2(tokenURI=None)),
    Refusal("spec", "auth.oauth2.tokenURI: with Office365", _oauth2("Office365", _OFFICE, tokenURI="https://h/token")),
    Refusal(
        "spec",
        "auth.oauth2.revocationURI: only",
        _oauth2("Google", _REFRESH, tokenURI=None, revocationURI="https://login.acme.example/revoke"),
    ),
    Refusal(
        "spec",
        "auth.oauth2.clientAuth: Google takes",
        _oauth2("Google", _REFRESH, clientAuth={"certificateRef": {"name": "a"}}),
    ),
    Refusal(
        "spec",
        "auth.oauth2.clientAuth.federation: it",
        _oauth2(clientAuth={"federation": {"audience": "api://AzureADTokenExchange"}}),
    ),
    Refusal("spec.auth", "auth: set exactly one", {"auth": {}}),
    Refusal("spec.auth.oauth2", "auth.oauth2.grant: Password hands", _oauth2(grant="Password")),
    Refusal("spec.auth.oauth2", "auth.oauth2.clientID: grant", _oauth2(clientID=None)),
    Refusal("spec.auth.oauth2", "auth.oauth2.clientAuth: grant", _oauth2(clientAuth=None)),
    Refusal(
        "spec.auth.oauth2",
        "auth.oauth2.revocationURI: it and",
        _oauth2(base=_REFRESH, revocationURI="https://login.acme.example:8443/revoke"),
    ),
    Refusal(
        "spec.auth.oauth2",
        "auth.oauth2.revocationURI: this grant",
        _oauth2(revocationURI="https://login.acme.example/revoke"),
    ),
    Refusal("spec.auth.oauth2", "auth.oauth2.serviceAccountKeyRef", _oauth2(serviceAccountKeyRef=REF)),
    Refusal("spec.auth.oauth2", "auth.oauth2.refreshTokenSecretRef", _oauth2(refreshTokenSecretRef=REF)),
    Refusal("spec.auth.oauth2", "auth.oauth2.directoryID: common", _oauth2("Office365", _OFFICE, directoryID="Common")),
    Refusal("spec.auth.oauth2.clientAuth", "auth.oauth2.clientAuth: set exactly", _oauth2(clientAuth={})),
    Refusal("spec", "auth.oauth2.accountCheck: Custom", _oauth2(base=_CODE, accountCheck=None)),
    Refusal(
        "spec",
        "auth.oauth2.clientAuth: with Office365",
        _oauth2("Office365", {**_OFFICE, "grant": "DeviceCode"}),
    ),
    Refusal(
        "spec.auth.oauth2",
        "auth.oauth2.authorizationURI: only",
        _oauth2(authorizationURI="https://login.acme.example/authorize"),
    ),
    Refusal("spec.auth.oauth2", "auth.oauth2.authorizationURI: grant", _oauth2(base=_CODE, authorizationURI=None)),
    Refusal(
        "spec.auth.oauth2",
        "auth.oauth2.authorizationURI: it and",
        _oauth2(base=_CODE, authorizationURI="https://login.acme.example:444/authorize"),
    ),
    Refusal(
        "spec.auth.oauth2",
        "auth.oauth2.deviceAuthorizationURI: only",
        _oauth2(deviceAuthorizationURI="https://login.acme.example/device"),
    ),
    Refusal(
        "spec.auth.oauth2",
        "auth.oauth2.deviceAuthorizationURI: grant",
        _oauth2(base=_DEVICE, deviceAuthorizationURI=None),
    ),
    Refusal(
        "spec.auth.oauth2",
        "auth.oauth2.deviceAuthorizationURI: it and",
        _oauth2(base=_DEVICE, deviceAuthorizationURI="https://login.acme.example.evil/device"),
    ),
    Refusal(
        "spec.auth.oauth2.accountCheck",
        "auth.oauth2.accountCheck: set either",
        _oauth2(base=_CODE, accountCheck={"claim": "email", "skip": True}),
    ),
    Refusal(
        "spec.auth.oauth2.clientAuth",
        "auth.oauth2.clientAuth.secretMethod: only a client secret",
        _oauth2(clientAuth={"certificateRef": {"name": "a"}, "secretMethod": "Post"}),
    ),
    Refusal(
        "spec",
        "auth.oauth2.clientAuth.secretMethod: only provider",
        _oauth2("Office365", _OFFICE, clientAuth={"secretRef": REF, "secretMethod": "Basic"}),
    ),
    Refusal("spec", "connection.host: set it", {"connection": None}),
    Refusal("spec", "connection.host: a server of your own", {"connection": {"port": 25}}),
    Refusal("spec", "mailFrom: a server of your own", {"mailFrom": None}),
    Refusal("spec", "useSystemSettings: with true", {"useSystemSettings": True}),
    Refusal("spec", "systemSettingsRef: it has no meaning", {"systemSettingsRef": {"name": "default"}}),
    Refusal("spec.connection.timeout", "must be from 100ms to 2m", {"connection": {"host": "h", "timeout": "3m"}}),
    Refusal("spec.connection.tls", "tls: with mode Disabled", _tls(mode="Disabled", serverName="h")),
    Refusal("spec.connection.tls", "tls: insecureSkipVerify", _tls(insecureSkipVerify=True, serverName="h")),
    Refusal("spec.connection.tls.caBundle", "caBundle: set exactly one", _tls(caBundle={})),
    Refusal("spec.auth.basic", "auth.basic: set username or", _server("Google", username="u", usernameSecretRef=REF)),
    Refusal("spec.probe", "probe.recipient: mode Send", {"probe": {"mode": "Send"}}),
    Refusal("spec.probe.interval", "must be from 1m to 720h", {"probe": {"interval": "59s"}}),
    Refusal("spec.output.metadata", "output.metadata.labels", _metadata("labels", "mailsettings.dev/settings")),
    Refusal("spec.output.metadata", "output.metadata.annot", _metadata("annotations", "app.kubernetes.io/managed-by")),
    Refusal(
        "spec.connection.proxy.basic",
        "connection.proxy.basic: set exactly one of",
        _proxy({"passwordSecretRef": REF}),
    ),
    Refusal("spec.connection.proxy.basic", "connection.proxy.basic.username: it is longer", _proxy(_named("ü" * 128))),
    Refusal("spec.connection.proxy", "connection.proxy.basic.username: HTTP has no way", _proxy(_named("a:b"))),
    Refusal("spec.output.metadata.labels", BAD_KEY, _metadata("labels", "no key")),
    Refusal("spec.output.metadata.annotations", BAD_KEY, _metadata("annotations", "a/b/c")),
    Refusal("spec.output.template", "output.template.data: type", _template({"password": "x"})),
    Refusal("spec.output.template.data", BAD_KEY, _template({"a/b": "x"})),
    Refusal("spec.tenants.namespaceSelector.matchLabels", BAD_KEY, _tenants({"matchLabels": {"-": "x"}})),
    Refusal(
        "spec.tenants.namespaceSelector.matchExpressions[]",
        "matchExpressions: In and NotIn",
        _tenants({"matchExpressions": [{"key": "team", "operator": "In"}]}),
    ),
    Refusal("spec.tenants", "tenants.policy: only", {"tenants": {"delivery": "Credentials", "policy": {}}}),
    Refusal(
        "spec",
        "output.delivery: with the system's",
        {"mailFrom": None, "connection": None, "output": {"delivery": "Credentials"}},
    ),
    Refusal("spec", "policy: only", {"policy": {"sending": "Blocked"}}),
    Refusal("spec", "set exactly one of settingsRef", {"settings": SERVER}),
    Refusal("spec", "recipient: mode Send", {"mode": "Connect", "recipient": "a@acme.example"}),
    Refusal("spec.settings", "settings.connection.host", _brought(connection={"port": 25})),
    Refusal("spec.settings", "settings.auth.oauth2.grant: a person has to", _brought(**_oauth2(base=_CODE))),
    Refusal(
        "spec.settings", "settings.auth.oauth2.grant: this provider may replace", _brought(**_oauth2(base=_REFRESH))
    ),
    Refusal(
        "spec.settings",
        "settings.auth.oauth2.clientAuth.federation: the operator's own",
        _brought(**_oauth2(clientAuth={"federation": {"audience": "api://AzureADTokenExchange"}})),
    ),
)
REFUSALS: Final = (
    *_REFUSALS,
    # What holds for settings that are saved holds for those that a test brings, too.
    *(
        replace(row, path=f"spec.settings{row.path.removeprefix('spec')}", spec=_brought(**row.spec))
        for row in _REFUSALS
        if row.path.startswith("spec") and "settings" not in row.spec
    ),
)


def _stated(kind: crd.Kind, refusal: Refusal) -> list[str]:
    """The messages of the kind's rules that a row is about."""
    return [
        rule["message"]
        for path, rule in rules(kind)
        if path == refusal.path and rule["message"].startswith(refusal.message) and "oldSelf" not in rule["rule"]
    ]


ROWS: Final = [(kind, row) for kind in crd.KINDS for row in REFUSALS if _stated(kind, row)]


@pytest.fixture(scope="module")
def client(control_plane: Cluster) -> Client:
    control_plane.apply(ROOT / "crds")
    return Client(control_plane.kubeconfig)


@pytest.fixture(params=crd.SETTINGS_KINDS, ids=lambda kind: kind.kind)
def kind(request: pytest.FixtureRequest) -> crd.Kind:
    chosen: crd.Kind = request.param
    return chosen


def collection(kind: crd.Kind) -> str:
    return f"{BASE}/namespaces/default/{kind.plural}" if kind.namespaced else f"{BASE}/{kind.plural}"


def offer(client: Client, kind: crd.Kind, name: str, spec: object, **query: str) -> Answer:
    body = {"apiVersion": names.API_VERSION, "kind": kind.kind, "metadata": {"name": name}, "spec": spec}
    return client.call("POST", collection(kind), body, query=query)


@pytest.fixture
def stored(client: Client, kind: crd.Kind) -> Iterator[str]:
    """The path of an object that exists while the test runs.

    The operator of another test may write its status at any time: what is asked of it is asked by dry runs.
    """
    name = f"test-{secrets.token_hex(4)}"
    assert offer(client, kind, name, {**SERVER, "suspend": True}).status == 201
    yield f"{collection(kind)}/{name}"
    client.call("DELETE", f"{collection(kind)}/{name}")


@pytest.mark.parametrize("kind", crd.KINDS, ids=lambda kind: kind.kind)
def test_every_rule_has_one_row(kind: crd.Kind) -> None:
    """A rule without a row in `REFUSALS` is a rule without a test."""
    stated = sorted((row.path, message) for row in REFUSALS for message in _stated(kind, row))
    assert stated == sorted((path, rule["message"]) for path, rule in rules(kind) if "oldSelf" not in rule["rule"])


@pytest.mark.parametrize(("kind", "row"), ROWS, ids=[f"{kind.short}-{row.path}-{row.message}" for kind, row in ROWS])
def test_broken_rule_is_refused_with_its_message_at_its_field(client: Client, kind: crd.Kind, row: Refusal) -> None:
    (message,) = _stated(kind, row)
    answer = offer(client, kind, row.name, BASES[kind.kind] | row.spec, **DRY_RUN)
    assert answer.status == 422
    causes = {(cause.get("field", ""), cause["message"]) for cause in answer.body["details"]["causes"]}
    wanted = row.path.replace("[]", "[0]") or "<nil>"
    assert [told for at, told in causes if at == wanted and message in told], causes


@pytest.mark.parametrize(("kind", "row"), ROWS, ids=[f"{kind.short}-{row.path}-{row.message}" for kind, row in ROWS])
def test_broken_rule_is_refused_by_the_models_with_the_same_message(kind: crd.Kind, row: Refusal) -> None:
    (message,) = _stated(kind, row)
    if row.path == "":
        named = (row.name, kind.spec.model_validate(BASES[kind.kind] | row.spec))
        assert [rule.message for rule in kind.root_rules if not rule.holds(named)] == [message]
        return
    with pytest.raises(ValidationError) as caught:
        kind.spec.model_validate(BASES[kind.kind] | row.spec)
    if row.message != BAD_KEY:  # the models say it in Pydantic's words
        assert message in {error["msg"] for error in caught.value.errors()}


@pytest.mark.parametrize("kind", crd.KINDS, ids=lambda kind: kind.kind)
def test_crds_are_accepted_without_warnings(client: Client, kind: crd.Kind) -> None:
    """A rule whose estimated cost is beyond the budget, or a schema that is not structural, is refused here."""
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    name = f"{kind.plural}.{names.GROUP}"
    found = client.call("GET", f"{path}/{name}").body
    conditions = {condition["type"]: condition["status"] for condition in found["status"]["conditions"]}
    assert conditions == {"NamesAccepted": "True", "Established": "True"}
    again = client.call("PUT", f"{path}/{name}", {**crd.manifest(kind), "metadata": found["metadata"]}, query=DRY_RUN)
    assert (again.status, again.warnings) == (200, "")


def test_defaults_are_only_those_that_nothing_else_may_fill(client: Client, kind: crd.Kind) -> None:
    tenants = {} if kind.namespaced else {"tenants": {"delivery": "Credentials"}}
    answer = offer(client, kind, "x", {**SERVER, **tenants}, **DRY_RUN)
    provision = {} if kind.namespaced else {"tenants": {"delivery": "Credentials", "provision": "OnRequest"}}
    assert answer.body["spec"] == {**SERVER, "suspend": False, **provision}
    assert answer.body["status"] == {"observedGeneration": -1}


@pytest.mark.parametrize("spec", [{"password": "x"}, {"connection": {"host": "h", "hots": "x"}}])
def test_unknown_field_is_pruned_or_refused(client: Client, kind: crd.Kind, spec: dict[str, Any]) -> None:
    pruned = offer(client, kind, "x", SERVER | spec, fieldValidation="Ignore", **DRY_RUN)
    assert pruned.status == 201
    assert "password" not in pruned.body["spec"]
    assert "hots" not in pruned.body["spec"]["connection"]
    strict = offer(client, kind, "x", SERVER | spec, fieldValidation="Strict", **DRY_RUN)
    assert strict.status == 400
    assert "unknown field" in strict.message
    warned = offer(client, kind, "x", SERVER | spec, fieldValidation="Warn", **DRY_RUN)
    assert "unknown field" in warned.warnings


def _condition(**changed: object) -> dict[str, Any]:
    return {
        "type": "Ready",
        "status": "True",
        "reason": "Ready",
        "message": "",
        "lastTransitionTime": "2026-01-02T03:04:05Z",
        "observedGeneration": 1,
        **changed,
    }


def test_status_is_written_through_its_subresource_only(client: Client, stored: str) -> None:
    """The spec cannot be changed that way, nor the status the other way."""
    status = {"observedGeneration": 77, "conditions": [_condition()]}
    both = {"spec": {"mailFrom": "other@acme.example"}, "status": status}

    through_main = client.call("PATCH", stored, both, content_type=MERGE_PATCH, query=DRY_RUN).body
    assert through_main["spec"]["mailFrom"] == "other@acme.example"
    assert through_main["status"]["observedGeneration"] != 77

    through_status = client.call("PATCH", f"{stored}/status", both, content_type=MERGE_PATCH, query=DRY_RUN).body
    assert through_status["spec"]["mailFrom"] == SERVER["mailFrom"]
    assert through_status["metadata"]["generation"] == 1
    assert through_status["status"].items() >= status.items()


@pytest.mark.parametrize(
    "conditions",
    [
        [_condition(), _condition(status="False")],
        [_condition(status="Yes")],
        [_condition(reason="Not a word")],
        [_condition(lastTransitionTime="yesterday")],
        [{"type": "Ready"}],
    ],
    ids=["one type twice", "status", "reason", "time", "fields missing"],
)
def test_malformed_conditions_are_refused(client: Client, stored: str, conditions: list[dict[str, Any]]) -> None:
    patch = {"status": {"observedGeneration": 1, "conditions": conditions}}
    assert client.call("PATCH", f"{stored}/status", patch, content_type=MERGE_PATCH, query=DRY_RUN).status == 422


def test_kinds_are_discovered_by_short_name_and_category(client: Client) -> None:
    resources = {entry["name"]: entry for entry in client.call("GET", BASE).body["resources"]}
    for kind in crd.KINDS:
        entry = resources[kind.plural]
        assert entry["shortNames"] == [kind.short]
        assert entry.get("categories", []) == (["mailsettings"] if kind.namespaced else [])
        assert entry["namespaced"] is kind.namespaced
        assert f"{kind.plural}/status" in resources


def test_of_a_test_nothing_is_defaulted(client: Client) -> None:
    answer = offer(client, crd.TEST, "x", SAVED, **DRY_RUN)
    assert answer.body["spec"] == SAVED
    assert answer.body["status"] == {"observedGeneration": -1}


@pytest.fixture
def stored_test(client: Client) -> Iterator[str]:
    """The path of a test that exists while the test runs."""
    name = f"test-{secrets.token_hex(4)}"
    assert offer(client, crd.TEST, name, SAVED | {"mode": "Connect"}).status == 201
    yield f"{collection(crd.TEST)}/{name}"
    client.call("DELETE", f"{collection(crd.TEST)}/{name}")


@pytest.mark.parametrize("change", [{"mode": "Authenticate"}, {"mode": None}, {"ttlSecondsAfterFinished": 60}])
def test_a_test_cannot_be_changed(client: Client, stored_test: str, change: dict[str, Any]) -> None:
    def patch(body: dict[str, Any]) -> Answer:
        return client.call("PATCH", stored_test, body, content_type=MERGE_PATCH, query=DRY_RUN)

    answer = patch({"spec": change})
    assert answer.status == 422
    assert "runs once and cannot be changed" in answer.message
    assert patch({"metadata": {"labels": {"a": "b"}}, "spec": {"mode": "Connect"}}).status == 200


def test_columns_of_a_test_show_what_its_status_says(client: Client, stored_test: str) -> None:
    condition = _condition(type="Succeeded", status="False", reason="BadCredentials", message="Renew the password.")
    status = {"observedGeneration": 1, "mode": "Connect", "conditions": [condition]}
    table = client.call(
        "PATCH", f"{stored_test}/status", {"status": status}, content_type=MERGE_PATCH, query=DRY_RUN, accept=TABLE
    ).body
    cells = dict(zip((column["name"] for column in table["columnDefinitions"]), table["rows"][0]["cells"], strict=True))
    assert {column: cells[column] for column in cells if column not in ("Name", "Age", "Recipient")} == {
        "Settings": "mail",
        "Mode": "Connect",
        "Succeeded": "False",
        "Reason": "BadCredentials",
        "Message": "Renew the password.",
    }


def test_columns_show_what_the_status_says(client: Client, kind: crd.Kind, stored: str) -> None:
    status = {
        "observedGeneration": 1,
        "conditions": [_condition(reason="BadCredentials", status="False", message="Renew the password.")],
        "effective": {
            "source": "Tenant",
            "settingsName": "x",
            "settingsGeneration": 1,
            "provider": "Custom",
            "mailFrom": "a@acme.example",
            "host": "smtp.acme.example",
            "port": 587,
            "protocol": "smtp",
            "tls": "StartTLS",
            "auth": "Basic",
        },
        "binding": {"name": "x-smtp"},
        "tenants": {"allowed": 4, "inheriting": 3},
    }
    table = client.call(
        "PATCH", f"{stored}/status", {"status": status}, content_type=MERGE_PATCH, query=DRY_RUN, accept=TABLE
    ).body
    cells = dict(zip((column["name"] for column in table["columnDefinitions"]), table["rows"][0]["cells"], strict=True))
    own = {"Source": "Tenant", "Secret": "x-smtp"} if kind.namespaced else {"Provider": "Custom", "Tenants": 3}
    assert {column: cells[column] for column in cells if column not in ("Name", "Age")} == {
        "Ready": "False",
        "Reason": "BadCredentials",
        "Host": "smtp.acme.example",
        "From": "a@acme.example",
        "Message": "Renew the password.",
        **own,
    }
