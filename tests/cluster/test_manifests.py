"""`manifests/` on a real API server: what the roles permit, what the policies refuse, and what the Pod may be."""

import base64
import os
import secrets
import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import pytest
import yaml

from dev.cluster import Cluster, load
from mailsettings.__main__ import DEFAULT_LIVENESS
from mailsettings.api import crd, names
from mailsettings.api.providers import OFFICE365, PROVIDERS
from mailsettings.config import Config
from mailsettings.controller.renewals import STORE_GRACE
from mailsettings.core.lease import Terms
from mailsettings.edges.health import READY_PATH
from tests.support.client import DRY_RUN, MERGE_PATCH, Answer, Client
from tests.support.components import REVOKE_TOKENS, revoke_tokens
from tests.support.waiting import eventually

ROOT: Final = Path(__file__).parents[2]
MANIFESTS: Final = ROOT / "manifests"
SYSTEM: Final = names.OPERATOR_NAMESPACE
OPERATOR: Final = f"system:serviceaccount:{SYSTEM}:mailsettings-operator"
SETTINGS: Final = f"/apis/{names.API_VERSION}"
RBAC: Final = "/apis/rbac.authorization.k8s.io/v1"

Right = tuple[str, str, str]
"""API group, resource (with its subresource), verb."""

_READ: Final = ("get", "list", "watch")
OPERATOR_RIGHTS: Final[dict[tuple[str, str], tuple[str, ...]]] = {
    (names.GROUP, names.CLUSTER_PLURAL): _READ,
    (names.GROUP, names.TENANT_PLURAL): _READ,
    (names.GROUP, f"{names.CLUSTER_PLURAL}/status"): ("patch",),
    (names.GROUP, names.TEST_PLURAL): ("list", "watch", "delete"),
    (names.GROUP, f"{names.TENANT_PLURAL}/status"): ("patch",),
    (names.GROUP, f"{names.TEST_PLURAL}/status"): ("patch",),
    ("", "namespaces"): ("list", "watch"),
    ("", "configmaps"): _READ,
    ("", "secrets"): (*_READ, "create", "patch", "delete"),
    ("events.k8s.io", "events"): ("create",),
}
LEASE_RIGHTS: Final = {("coordination.k8s.io", "leases", verb) for verb in ("get", "watch", "patch", "create")}
"""In its own namespace; all but the last of its own Lease only."""


@pytest.fixture(scope="module")
def client(control_plane: Cluster) -> Client:
    control_plane.apply(MANIFESTS)
    return Client(control_plane.kubeconfig)


def manifest(kind: str, name: str = "mailsettings-operator") -> dict[str, Any]:
    (found,) = [entry for entry in load(MANIFESTS) if (entry["kind"], entry["metadata"]["name"]) == (kind, name)]
    return found


RELAY: Final = names.RELAY_SERVICE
RELAY_SYSTEM: Final = names.RELAY_NAMESPACE
RELAY_USER: Final = f"system:serviceaccount:{RELAY_SYSTEM}:{RELAY}"
DEPLOYMENTS: Final = ("mailsettings-operator", RELAY)


# --- the files ---


def test_kustomizations_list_every_file() -> None:
    for folder in (MANIFESTS, MANIFESTS / "admission", MANIFESTS / "relay", REVOKE_TOKENS, ROOT / "crds"):
        content = yaml.safe_load((folder / "kustomization.yaml").read_text())
        listed = {(folder / entry).resolve() for entry in content["resources"]}
        there = {path for path in folder.glob("*.yaml") if path.name != "kustomization.yaml"}
        assert there <= listed
        assert all(path.exists() for path in listed)


def test_applying_again_changes_nothing(control_plane: Cluster, client: Client) -> None:
    def versions() -> list[str]:
        roles = ("clusterroles/mailsettings-operator", f"namespaces/{SYSTEM}/roles/mailsettings-cluster-admin")
        return [client.call("GET", f"{RBAC}/{role}").body["metadata"]["resourceVersion"] for role in roles]

    before = versions()
    assert len(control_plane.apply(MANIFESTS)) == len(load(MANIFESTS))
    assert versions() == before


# --- RBAC ---


def rights(client: Client, user: str, namespace: str) -> set[Right]:
    """Everything that a user may do in a namespace and cluster-wide, as the API server says."""
    body = {"spec": {"namespace": namespace}}
    answer = client.call("POST", "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", body, user=user)
    return {
        (group, resource, verb)
        for rule in answer.body["status"]["resourceRules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def may(client: Client, user: str, verb: str, resource: str, group: str = "", namespace: str = "") -> bool:
    name, _, subresource = resource.partition("/")
    asked = {"verb": verb, "group": group, "resource": name, "subresource": subresource, "namespace": namespace}
    body = {"spec": {"user": user, "groups": ["system:authenticated"], "resourceAttributes": asked}}
    answer = client.call("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", body)
    return bool(answer.body["status"]["allowed"])


# In one group with the tests that give the operator one more right for a while.
alone = pytest.mark.xdist_group("operator")


@alone
@pytest.mark.parametrize("place", [SYSTEM, "default", "kube-system"])
def test_operator_has_exactly_the_rights_it_needs(client: Client, place: str) -> None:
    wanted = {(group, resource, verb) for (group, resource), verbs in OPERATOR_RIGHTS.items() for verb in verbs}
    wanted |= LEASE_RIGHTS if place == SYSTEM else set()
    anybody = rights(client, "system:serviceaccount:default:default", place)
    found = eventually(lambda: rights(client, OPERATOR, place) - anybody, lambda found: found >= wanted)
    assert found == wanted


@alone
@pytest.mark.parametrize(
    ("verb", "resource", "group"),
    [
        ("create", "pods", ""),
        ("create", "pods/exec", ""),
        ("get", "nodes", ""),
        ("delete", "namespaces", ""),
        ("get", "namespaces", ""),
        ("patch", "namespaces", ""),
        ("update", "secrets", ""),
        ("deletecollection", "secrets", ""),
        ("create", "configmaps", ""),
        ("create", "serviceaccounts/token", ""),
        ("impersonate", "users", ""),
        ("update", names.TENANT_PLURAL, names.GROUP),
        ("patch", names.TENANT_PLURAL, names.GROUP),
        ("patch", names.CLUSTER_PLURAL, names.GROUP),
        ("delete", names.TENANT_PLURAL, names.GROUP),
        ("get", f"{names.CLUSTER_PLURAL}/status", names.GROUP),
        ("get", f"{names.TENANT_PLURAL}/status", names.GROUP),
        ("update", f"{names.TENANT_PLURAL}/status", names.GROUP),
        ("create", names.TEST_PLURAL, names.GROUP),
        ("patch", names.TEST_PLURAL, names.GROUP),
        ("deletecollection", names.TEST_PLURAL, names.GROUP),
        ("get", f"{names.TEST_PLURAL}/status", names.GROUP),
        ("list", "customresourcedefinitions", "apiextensions.k8s.io"),
        ("get", "events", "events.k8s.io"),
        ("patch", "events", "events.k8s.io"),
        ("create", "events", ""),
        ("escalate", "clusterroles", "rbac.authorization.k8s.io"),
        ("bind", "clusterroles", "rbac.authorization.k8s.io"),
        ("delete", "validatingadmissionpolicies", "admissionregistration.k8s.io"),
        ("patch", "leases", "coordination.k8s.io"),
        ("delete", "leases", "coordination.k8s.io"),
    ],
)
def test_operator_may_not(client: Client, verb: str, resource: str, group: str) -> None:
    assert not may(client, OPERATOR, verb, resource, group)
    assert not may(client, OPERATOR, verb, resource, group, namespace=SYSTEM)


@pytest.mark.parametrize(("name", "allowed"), [(names.LEASE_NAME, True), ("kube-scheduler", False)])
def test_operator_may_touch_one_lease(client: Client, name: str, allowed: bool) -> None:
    path = f"/apis/coordination.k8s.io/v1/namespaces/{SYSTEM}/leases"
    client.call("POST", path, {"metadata": {"name": name}, "spec": {}})
    patch = {"metadata": {"labels": {"a": "b"}}}

    def attempt() -> Answer:
        return client.call("PATCH", f"{path}/{name}", patch, query=DRY_RUN, user=OPERATOR, content_type=MERGE_PATCH)

    assert eventually(attempt, lambda answer: answer.accepted is allowed).status == (200 if allowed else 403)


def binding(role: str, user: str) -> dict[str, Any]:
    group = "rbac.authorization.k8s.io"
    return {
        "metadata": {"name": user},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": role},
        "subjects": [{"apiGroup": group, "kind": "User", "name": user}],
    }


@pytest.fixture
def member(client: Client, namespace: str) -> Callable[[str], str]:
    """Makes a user who holds a ClusterRole in the test's namespace."""

    def bind(role: str) -> str:
        user = f"{role}-of-{namespace}"
        path = f"{RBAC}/namespaces/{namespace}/rolebindings"
        assert client.call("POST", path, binding(role, user)).status == 201
        return user

    return bind


_WRITE: Final = ("create", "update", "patch", "delete", "deletecollection")


@pytest.mark.parametrize(
    ("role", "writes", "reads_secrets"),
    [
        ("view", False, False),
        ("edit", True, True),
        ("admin", True, True),
        ("mailsettings-view", False, False),
        ("mailsettings-edit", True, True),
    ],
)
def test_role_in_a_namespace_gives_what_is_meant_and_no_more(
    client: Client, member: Callable[[str], str], namespace: str, role: str, writes: bool, reads_secrets: bool
) -> None:
    """Writing settings comes only with reading Secrets, and nobody but the operator writes a status."""
    user = member(role)

    def allowed(verb: str, resource: str, group: str = names.GROUP) -> bool:
        return may(client, user, verb, resource, group, namespace)

    for plural in (names.TENANT_PLURAL, names.TEST_PLURAL):
        for verb in _READ:
            eventually(partial(allowed, verb, plural))
        if writes:
            eventually(partial(allowed, "create", plural))
        assert [verb for verb in _WRITE if allowed(verb, plural)] == ([*_WRITE] if writes else [])
        assert allowed("get", f"{plural}/status")
        assert not any(allowed(verb, f"{plural}/status") for verb in _WRITE)
    assert allowed("get", "secrets", "") is reads_secrets
    assert not any(allowed(verb, names.CLUSTER_PLURAL) for verb in (*_READ, *_WRITE))


def test_test_role_creates_tests_and_reads_nothing_else(
    client: Client, member: Callable[[str], str], namespace: str
) -> None:
    user = member("mailsettings-test")

    def allowed(verb: str, resource: str, group: str = names.GROUP) -> bool:
        return may(client, user, verb, resource, group, namespace)

    for verb in (*_READ, "create", "delete"):
        eventually(partial(allowed, verb, names.TEST_PLURAL))
    assert allowed("get", f"{names.TEST_PLURAL}/status")
    assert not any(allowed(verb, names.TEST_PLURAL) for verb in ("update", "patch", "deletecollection"))
    assert not any(allowed(verb, f"{names.TEST_PLURAL}/status") for verb in _WRITE)
    assert not any(allowed(verb, names.TENANT_PLURAL) for verb in (*_READ, *_WRITE))
    assert not any(allowed(verb, "secrets", "") for verb in (*_READ, *_WRITE))


def offer_test(client: Client, user: str, namespace: str, spec: dict[str, Any]) -> Answer:
    body = {"apiVersion": names.API_VERSION, "kind": names.TEST_KIND, "metadata": {"name": "test"}, "spec": spec}
    path = f"{SETTINGS}/namespaces/{namespace}/{names.TEST_PLURAL}"
    return client.call("POST", path, body, query=DRY_RUN, user=user)


@pytest.mark.parametrize(
    ("role", "accepted"), [("mailsettings-test", False), ("edit", True), ("mailsettings-edit", True)]
)
def test_server_of_its_own_takes_the_right_to_get_secrets(
    client: Client, member: Callable[[str], str], namespace: str, role: str, accepted: bool
) -> None:
    """Such a test has any Secret of the namespace sent to a server of one's choice."""
    user = member(role)
    saved = {"settingsRef": {"name": "mail"}}
    brought = {"settings": {"mailFrom": "a@acme.example", "connection": {"host": "smtp.acme.example"}}}
    assert eventually(lambda: offer_test(client, user, namespace, saved), lambda answer: answer.accepted)
    answer = eventually(
        lambda: offer_test(client, user, namespace, brought), lambda answer: answer.accepted is accepted
    )
    assert accepted or (answer.status == 403 and "the right to get Secrets" in answer.message)


def test_right_to_get_one_secret_is_not_enough(client: Client, member: Callable[[str], str], namespace: str) -> None:
    user = member("mailsettings-test")
    rule = {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"], "resourceNames": ["smtp"]}
    role = {"metadata": {"name": "one-secret"}, "rules": [rule]}
    path = f"{RBAC}/namespaces/{namespace}"
    assert client.call("POST", f"{path}/roles", role).status == 201
    bound = binding("one-secret", user)
    bound["metadata"]["name"] = "one-secret"
    bound["roleRef"]["kind"] = "Role"
    assert client.call("POST", f"{path}/rolebindings", bound).status == 201
    eventually(lambda: offer_test(client, user, namespace, {"settingsRef": {"name": "mail"}}).accepted)
    brought = {"settings": {"mailFrom": "a@acme.example", "connection": {"host": "smtp.acme.example"}}}
    assert (
        eventually(lambda: offer_test(client, user, namespace, brought), lambda answer: not answer.accepted).status
        == 403
    )


def test_cluster_admin_role_manages_the_cluster_kind_only(client: Client) -> None:
    user = f"user-{secrets.token_hex(4)}"
    assert client.call("POST", f"{RBAC}/clusterrolebindings", binding("mailsettings-cluster-admin", user)).status == 201
    try:
        for verb in (*_READ, *_WRITE):
            eventually(partial(may, client, user, verb, names.CLUSTER_PLURAL, names.GROUP))
        assert not may(client, user, "patch", f"{names.CLUSTER_PLURAL}/status", names.GROUP)
        assert not may(client, user, "get", names.TENANT_PLURAL, names.GROUP)
        assert not may(client, user, "create", names.TEST_PLURAL, names.GROUP)
        assert not may(client, user, "get", "secrets")
    finally:
        client.call("DELETE", f"{RBAC}/clusterrolebindings/{user}")


# --- the Pod ---


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_deployment_is_accepted_without_a_warning(client: Client, name: str) -> None:
    """Pod Security only warns about a Deployment; a Pod it refuses."""
    deployment = manifest("Deployment", name)
    deployment["metadata"]["name"] = "another"
    path = f"/apis/apps/v1/namespaces/{deployment['metadata']['namespace']}/deployments"
    answer = client.call("POST", path, deployment, query=DRY_RUN | {"fieldValidation": "Strict"})
    assert (answer.status, answer.warnings) == (201, "")


def pod(name: str = "mailsettings-operator", **changed: object) -> dict[str, Any]:
    template = manifest("Deployment", name)["spec"]["template"]
    return {
        "metadata": {"name": "operator", "labels": template["metadata"]["labels"]},
        "spec": {**template["spec"], **changed},
    }


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_pod_passes_the_restricted_standard(client: Client, name: str) -> None:
    namespace = manifest("Deployment", name)["metadata"]["namespace"]
    answer = client.call("POST", f"/api/v1/namespaces/{namespace}/pods", pod(name), query=DRY_RUN)
    assert (answer.status, answer.warnings) == (201, ""), answer.message


@pytest.mark.parametrize("changed", [{"hostNetwork": True}, {"securityContext": {}}], ids=["host network", "as root"])
def test_lesser_pod_is_refused(client: Client, changed: dict[str, Any]) -> None:
    """The namespace does enforce the standard."""
    answer = client.call("POST", f"/api/v1/namespaces/{SYSTEM}/pods", pod(**changed), query=DRY_RUN)
    assert answer.status == 403
    assert "PodSecurity" in answer.message


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_container_can_write_nowhere(name: str) -> None:
    (container,) = manifest("Deployment", name)["spec"]["template"]["spec"]["containers"]
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert all(mount["readOnly"] for mount in container.get("volumeMounts", ()))
    assert {"cpu", "memory"} <= container["resources"]["limits"].keys() & container["resources"]["requests"].keys()


# --- the relay ---


@alone
def test_relay_works_in_its_own_namespace_and_has_tokens_checked_and_nothing_else(client: Client) -> None:
    """Refresh tokens are in the operator's namespace, tenants' Secrets in theirs; of Secrets it writes none."""
    reviews = ("authentication.k8s.io", "tokenreviews", "create")
    own = {
        ("", "secrets"): ("list", "watch"),
        ("", "configmaps"): ("create", "patch"),
        ("coordination.k8s.io", "leases"): ("get", "list", "create", "patch"),
        ("discovery.k8s.io", "endpointslices"): ("list", "watch"),
    }
    places = {
        RELAY_SYSTEM: {reviews, *((group, plural, verb) for (group, plural), verbs in own.items() for verb in verbs)},
        SYSTEM: {reviews},
        "default": {reviews},
    }
    for place, wanted in places.items():
        anybody = rights(client, "system:serviceaccount:default:default", place)
        found = eventually(partial(_beyond, client, place, anybody), partial(wanted.__le__))
        assert found == wanted


def _beyond(client: Client, place: str, anybody: set[Right]) -> set[Right]:
    return rights(client, RELAY_USER, place) - anybody


def test_operator_sees_whether_the_relay_is_there(client: Client) -> None:
    group = "discovery.k8s.io"
    for verb in ("list", "watch"):
        eventually(partial(may, client, OPERATOR, verb, "endpointslices", group, RELAY_SYSTEM))
    assert not may(client, OPERATOR, "list", "endpointslices", group, "default")


def test_relays_service_and_budget_lead_to_its_pods(client: Client) -> None:
    template = manifest("Deployment", RELAY)["spec"]["template"]
    (container,) = template["spec"]["containers"]
    ports = {each["name"]: each["containerPort"] for each in container["ports"]}
    service = client.call("GET", f"/api/v1/namespaces/{RELAY_SYSTEM}/services/{RELAY}").body["spec"]
    assert {each["port"]: ports[each["targetPort"]] for each in service["ports"]} == {587: 8587, 465: 8465}
    budget = manifest("PodDisruptionBudget", RELAY)["spec"]
    for selector in (service["selector"], budget["selector"]["matchLabels"]):
        assert selector.items() <= template["metadata"]["labels"].items()
    assert manifest("Deployment", RELAY)["spec"]["replicas"] > budget["minAvailable"]


# --- replicas ---


def test_replicas_elect_one_of_them_and_know_their_names() -> None:
    deployment = manifest("Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    values = {entry["name"]: entry.get("value", "") for entry in container["env"]}
    paths = {
        entry["name"]: entry["valueFrom"]["fieldRef"]["fieldPath"] for entry in container["env"] if "valueFrom" in entry
    }
    assert deployment["spec"]["replicas"] == 2
    assert Config.from_environment(values).lease_terms is not None
    assert paths["MAILSETTINGS_POD_NAME"] == "metadata.name"
    assert "strategy" not in deployment["spec"], "a new one is there before an old one goes"


def test_end_of_a_replica_waits_for_what_it_has_begun() -> None:
    pod_spec = manifest("Deployment")["spec"]["template"]["spec"]
    config = Config()
    lasts = Terms(config.lease_seconds).margin_s * 2 + (config.oauth2_deadline + STORE_GRACE).total_seconds()
    assert pod_spec["terminationGracePeriodSeconds"] >= lasts


def test_disruption_budget_is_of_the_operators_pods(client: Client) -> None:
    budget = manifest("PodDisruptionBudget")
    labels = manifest("Deployment")["spec"]["template"]["metadata"]["labels"]
    assert budget["spec"]["selector"]["matchLabels"] == labels
    path = f"/apis/policy/v1/namespaces/{SYSTEM}/poddisruptionbudgets/{budget['metadata']['name']}"
    assert client.call("GET", path).body["spec"]["maxUnavailable"] == 1


def test_health_checks_ask_for_what_is_answered() -> None:
    (container,) = manifest("Deployment")["spec"]["template"]["spec"]["containers"]
    live = urlsplit(DEFAULT_LIVENESS)
    ports = {each["name"]: each["containerPort"] for each in container["ports"]}
    for probe, path in (("livenessProbe", live.path), ("startupProbe", live.path), ("readinessProbe", READY_PATH)):
        asked = container[probe]["httpGet"]
        assert (asked["path"], ports[asked["port"]]) == (path, live.port)


# --- the consent pages ---


def test_consent_service_leads_to_where_the_pages_are_served(client: Client) -> None:
    service, template = manifest("Service", "mailsettings-consent"), manifest("Deployment")["spec"]["template"]
    (container,) = template["spec"]["containers"]
    (port,) = service["spec"]["ports"]
    ports = {each["name"]: each["containerPort"] for each in container["ports"]}

    stored = client.call("GET", f"/api/v1/namespaces/{SYSTEM}/services/{service['metadata']['name']}").body

    assert stored["spec"]["selector"].items() <= template["metadata"]["labels"].items()
    assert ports[port["targetPort"]] == int(Config().consent_listen.rpartition(":")[2])
    assert stored["spec"]["ports"][0]["port"] == 80


def test_consent_is_published_only_when_an_administrator_does_so(client: Client) -> None:
    (container,) = manifest("Deployment")["spec"]["template"]["spec"]["containers"]
    stored = client.call("GET", f"/api/v1/namespaces/{SYSTEM}/services/mailsettings-consent").body
    assert stored["spec"]["type"] == "ClusterIP"
    assert "externalIPs" not in stored["spec"]
    assert Config().external_url == ""
    assert "MAILSETTINGS_EXTERNAL_URL" not in {variable["name"] for variable in container["env"]}
    assert not [entry for entry in load(MANIFESTS) if entry["kind"] in ("Ingress", "HTTPRoute", "Gateway")]


# --- components ---


COMPONENTS: Final = {
    "federation": "MAILSETTINGS_OAUTH2_TOKEN_FILE",
    "oauth2-authorities": "MAILSETTINGS_OAUTH2_CA_FILE",
}
"""Each of `manifests/components`, and the variable that it sets."""
STRATEGIC_MERGE_PATCH: Final = "application/strategic-merge-patch+json"


def test_every_component_is_tested() -> None:
    found = {path.name for path in (MANIFESTS / "components").iterdir()}
    assert found == {*COMPONENTS, "revoke-tokens"}, "the last one mounts nothing and has tests of its own"


def patches(component: str) -> list[dict[str, Any]]:
    folder = MANIFESTS / "components" / component
    content = yaml.safe_load((folder / "kustomization.yaml").read_text())
    assert content["kind"] == "Component"
    return [yaml.safe_load((folder / patch["path"]).read_text()) for patch in content["patches"]]


def check_components(client: Client, deployment: dict[str, Any], components: Iterable[str]) -> None:
    """The operator finds the file of each variable in a volume, and its Pod passes the restricted standard."""
    template = deployment["spec"]["template"]
    (container,) = template["spec"]["containers"]
    values = {entry["name"]: entry.get("value", "") for entry in container["env"]}
    assert "MAILSETTINGS_NAMESPACE" in values, "what was there stays"
    mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in template["spec"]["volumes"]}
    for component in components:
        variable = COMPONENTS[component]
        assert variable.removeprefix("MAILSETTINGS_").lower() in Config.model_fields
        folder, _, file = values[variable].rpartition("/")
        assert mounts[folder]["readOnly"] is True
        volume = volumes[mounts[folder]["name"]]
        if component == "federation":
            (source,) = volume["projected"]["sources"]
            assert source["serviceAccountToken"]["path"] == file
            assert source["serviceAccountToken"]["audience"] == "api://AzureADTokenExchange"
        else:
            assert "configMap" in volume
    body = {"metadata": {"name": "operator", "labels": template["metadata"]["labels"]}, "spec": template["spec"]}
    answer = client.call("POST", f"/api/v1/namespaces/{SYSTEM}/pods", body, query=DRY_RUN)
    assert (answer.status, answer.warnings) == (201, ""), answer.message


@pytest.mark.parametrize("component", COMPONENTS)
def test_component_fits_the_deployment(client: Client, component: str) -> None:
    """The API server merges as kustomize does."""
    (patch,) = patches(component)
    place = f"/apis/apps/v1/namespaces/{SYSTEM}/deployments/{patch['metadata']['name']}"
    query = DRY_RUN | {"fieldValidation": "Strict"}
    answer = client.call("PATCH", place, patch, content_type=STRATEGIC_MERGE_PATCH, query=query)
    assert (answer.status, answer.warnings) == (200, ""), answer.message
    check_components(client, answer.body, [component])


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl renders it, and there is none")
def test_all_components_together_are_rendered(client: Client, tmp_path: Path) -> None:
    overlay = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [os.path.relpath(MANIFESTS, tmp_path)],
        "components": [os.path.relpath(MANIFESTS / "components" / name, tmp_path) for name in COMPONENTS],
    }
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(overlay))
    command = ["kubectl", "kustomize", str(tmp_path)]
    rendered = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    documents = list(yaml.safe_load_all(rendered.stdout))
    assert len(documents) == len(load(MANIFESTS))
    (deployment,) = [
        document
        for document in documents
        if document["kind"] == "Deployment" and document["metadata"]["name"] == "mailsettings-operator"
    ]
    check_components(client, deployment, COMPONENTS)


# --- admission policies ---


def test_policies_are_sound_and_bound(client: Client) -> None:
    """The API server checks the expressions against the schemas of what they match."""
    path = "/apis/admissionregistration.k8s.io/v1"
    entries = load(MANIFESTS)
    policies = {entry["metadata"]["name"] for entry in entries if entry["kind"] == "ValidatingAdmissionPolicy"}
    bound = {entry["spec"]["policyName"] for entry in entries if entry["kind"] == "ValidatingAdmissionPolicyBinding"}
    assert policies == bound
    assert len(policies) == 5
    for name in policies:
        found = eventually(
            partial(client.call, "GET", f"{path}/validatingadmissionpolicies/{name}"),
            lambda answer: "typeChecking" in answer.body.get("status", {}),
        )
        assert found.body["status"]["typeChecking"] == {}


@dataclass(frozen=True)
class Settings:
    """A stored cluster object."""

    client: Client
    path: str

    def inherited_by(self, count: int) -> None:
        status = {"status": {"observedGeneration": 1, "tenants": {"allowed": count, "inheriting": count}}}
        assert self.client.call("PATCH", f"{self.path}/status", status, content_type=MERGE_PATCH).accepted

    def annotate(self, value: str) -> None:
        patch = {"metadata": {"annotations": {names.ANNOTATION_ALLOW_DELETION: value}}}
        assert self.client.call("PATCH", self.path, patch, content_type=MERGE_PATCH).accepted

    def try_delete(self) -> Answer:
        return self.client.call("DELETE", self.path, query=DRY_RUN)


@pytest.fixture
def settings(client: Client) -> Iterator[Settings]:
    name = f"test-{secrets.token_hex(4)}"
    spec = {"mailFrom": "a@acme.example", "connection": {"host": "smtp.acme.example"}, "suspend": True}
    body = {
        "apiVersion": names.API_VERSION,
        "kind": names.CLUSTER_KIND,
        "metadata": {"name": name, "labels": {"test": name}},
        "spec": spec,
    }
    assert client.call("POST", f"{SETTINGS}/{names.CLUSTER_PLURAL}", body).status == 201
    stored = Settings(client, f"{SETTINGS}/{names.CLUSTER_PLURAL}/{name}")
    yield stored
    stored.annotate("true")
    client.call("DELETE", stored.path)


def test_deleting_inherited_settings_is_refused_unless_annotated(settings: Settings) -> None:
    def refusal() -> Answer:
        settings.inherited_by(3)  # each time, since an operator of another test may count anew
        return settings.try_delete()

    assert settings.try_delete().accepted
    answer = eventually(refusal, lambda answer: not answer.accepted)
    assert answer.status == 422
    assert "3 namespace(s) use these settings" in answer.message
    name = settings.path.rpartition("/")[2]
    assert f"kubectl annotate cmss {name} {names.ANNOTATION_ALLOW_DELETION}=true" in answer.message
    settings.annotate("no")
    eventually(refusal, lambda answer: not answer.accepted)
    settings.annotate("true")
    assert eventually(refusal, lambda answer: answer.accepted).status == 200


def test_deleting_many_inherited_settings_is_refused_too(settings: Settings) -> None:
    name = settings.path.rpartition("/")[2]

    def refusal() -> Answer:
        settings.inherited_by(1)
        query = DRY_RUN | {"labelSelector": f"test={name}"}
        return settings.client.call("DELETE", f"{SETTINGS}/{names.CLUSTER_PLURAL}", query=query)

    assert "1 namespace(s) use" in eventually(refusal, lambda answer: not answer.accepted).message


@pytest.mark.parametrize("kind", crd.SETTINGS_KINDS, ids=lambda kind: kind.kind)
def test_retiring_login_warns_and_is_accepted(client: Client, kind: crd.Kind) -> None:
    def apply(provider: str) -> Answer:
        basic = {"username": "a@acme.example", "passwordSecretRef": {"name": "a", "key": "b"}}
        spec = {"mailFrom": "a@acme.example", "provider": provider, "auth": {"basic": basic}}
        body = {"apiVersion": names.API_VERSION, "kind": kind.kind, "metadata": {"name": "test-warning"}, "spec": spec}
        namespace = "namespaces/default/" if kind.namespaced else ""
        answer = client.call("POST", f"{SETTINGS}/{namespace}{kind.plural}", body, query=DRY_RUN)
        assert answer.status == 201
        return answer

    answer = eventually(lambda: apply(OFFICE365), lambda answer: answer.warnings)
    assert str(PROVIDERS[OFFICE365].basic_warning) in answer.warnings
    assert apply("Google").warnings == ""


def secret(
    name: str, kind: str, *, labelled: bool = True, token_of: str | None = None, consent_of: str | None = None
) -> dict[str, Any]:
    metadata = {
        "name": name,
        "labels": {
            **({names.LABEL_MANAGED_BY: names.MANAGED_BY} if labelled else {}),
            **({names.LABEL_TOKEN_OF: token_of} if token_of else {}),
            **({names.LABEL_CONSENT_OF: consent_of} if consent_of else {}),
        },
        "annotations": {"kubernetes.io/service-account.name": "default"},  # which one type of Secret requires
    }
    return {"metadata": metadata, "type": kind, "data": {"password": base64.b64encode(b"x").decode()}}


REFUSED: Final = "the mailsettings operator may write only Secrets"


@pytest.mark.parametrize(
    ("body", "in_system", "accepted"),
    [
        pytest.param(secret("a", names.SECRET_TYPE), False, True, id="delivered"),
        pytest.param(secret("a", names.SECRET_TYPE), True, True, id="delivered in the operator's namespace"),
        pytest.param(secret("a", names.SECRET_TYPE, labelled=False), False, False, id="without the label"),
        pytest.param(secret("a", "Opaque"), False, False, id="of another type"),
        pytest.param(secret("a", "kubernetes.io/service-account-token"), False, False, id="a token for itself"),
        pytest.param(secret(names.OPERATOR_KEY_NAME, names.OPERATOR_KEY_TYPE), True, True, id="its key"),
        pytest.param(secret("oauth2-1", names.TOKEN_TYPE, token_of="1"), True, True, id="a token"),
        pytest.param(secret("oauth2-1", names.TOKEN_TYPE, token_of="1"), False, False, id="a token elsewhere"),
        pytest.param(secret("oauth2-1", names.TOKEN_TYPE), True, False, id="a token of nobody"),
        pytest.param(secret("oauth2-1", names.TOKEN_TYPE, token_of="2"), True, False, id="a token of another name"),
        pytest.param(secret("oauth2-1", "Opaque", token_of="1"), True, False, id="a token's name, another type"),
        pytest.param(
            secret("oauth2-1", names.TOKEN_TYPE, labelled=False, token_of="1"), True, False, id="a token, no label"
        ),
        pytest.param(secret("a", names.CONSENT_TYPE, consent_of="1"), True, True, id="a consent"),
        pytest.param(secret("a", names.CONSENT_TYPE, consent_of="1"), False, False, id="a consent elsewhere"),
        pytest.param(secret("a", names.CONSENT_TYPE), True, False, id="a consent for nothing"),
        pytest.param(secret("a", "Opaque", consent_of="1"), True, False, id="a consent's label, another type"),
        pytest.param(secret("mail-ledger-0", names.MAIL_LEDGER_TYPE), True, True, id="counts of mails"),
        pytest.param(secret("mail-ledger-0", names.MAIL_LEDGER_TYPE), False, False, id="counts elsewhere"),
        pytest.param(secret("mail-ledger-g", names.MAIL_LEDGER_TYPE), True, False, id="counts of another name"),
        pytest.param(secret("mail-ledger-0", "Opaque"), True, False, id="the counts' name, another type"),
        pytest.param(
            secret("mail-ledger-0", names.MAIL_LEDGER_TYPE, labelled=False), True, False, id="counts, no label"
        ),
        pytest.param(secret("other-key", names.OPERATOR_KEY_TYPE), True, False, id="a key of another name"),
        pytest.param(secret(names.OPERATOR_KEY_NAME, names.OPERATOR_KEY_TYPE), False, False, id="its key elsewhere"),
        pytest.param(secret(names.OPERATOR_KEY_NAME, "Opaque"), True, False, id="its key's name, another type"),
    ],
)
def test_operator_creates_only_its_own_secrets(
    client: Client, namespace: str, body: dict[str, Any], in_system: bool, accepted: bool
) -> None:
    path = f"/api/v1/namespaces/{SYSTEM if in_system else namespace}/secrets"

    def create() -> Answer:
        return client.call("POST", path, body, query=DRY_RUN, user=OPERATOR)

    # 409: the operator of another test has a key already; admission comes before that.
    answer = eventually(create, lambda answer: (answer.accepted or answer.status == 409) == accepted)
    assert accepted or REFUSED in answer.message


@pytest.mark.parametrize(
    ("body", "place", "accepted"),
    [
        pytest.param(secret("bundle-1", names.BUNDLE_TYPE), RELAY_SYSTEM, True, id="a bundle"),
        pytest.param(secret("bundle-1", names.BUNDLE_TYPE, labelled=False), RELAY_SYSTEM, False, id="no label"),
        pytest.param(secret("other-1", names.BUNDLE_TYPE), RELAY_SYSTEM, False, id="a bundle of another name"),
        pytest.param(secret("bundle-1", "Opaque"), RELAY_SYSTEM, False, id="a bundle's name, another type"),
        pytest.param(secret("bundle-1", names.BUNDLE_TYPE), SYSTEM, False, id="a bundle elsewhere"),
        pytest.param(secret(names.RELAY_TLS_NAME, "kubernetes.io/tls"), RELAY_SYSTEM, True, id="the certificate"),
        pytest.param(secret("other", "kubernetes.io/tls"), RELAY_SYSTEM, False, id="another certificate"),
        pytest.param(secret(names.RELAY_TLS_NAME, "kubernetes.io/tls"), SYSTEM, False, id="the certificate elsewhere"),
        pytest.param(secret(names.RELAY_CA_NAME, names.RELAY_CA_TYPE), SYSTEM, True, id="the authority"),
        pytest.param(secret(names.RELAY_CA_NAME, names.RELAY_CA_TYPE), RELAY_SYSTEM, False, id="the authority there"),
    ],
)
def test_operator_creates_for_the_relay_only_what_is_its_own(
    client: Client, body: dict[str, Any], place: str, accepted: bool
) -> None:
    if body["type"] == "kubernetes.io/tls":
        body = {**body, "data": {"tls.crt": "", "tls.key": ""}}

    def create() -> Answer:
        return client.call("POST", f"/api/v1/namespaces/{place}/secrets", body, query=DRY_RUN, user=OPERATOR)

    answer = eventually(create, lambda answer: (answer.accepted or answer.status == 409) == accepted)
    assert accepted or REFUSED in answer.message


def test_operator_answers_and_removes_consents_that_people_have_begun(client: Client, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/secrets"
    begun = secret("a", names.CONSENT_TYPE, labelled=False, consent_of="1")
    assert client.call("POST", path, begun).status == 201
    told = {"data": {"result": base64.b64encode(b"x").decode()}}

    def patch(body: dict[str, Any]) -> Answer:
        return client.call("PATCH", f"{path}/a", body, query=DRY_RUN, user=OPERATOR, content_type=MERGE_PATCH)

    assert eventually(lambda: patch(told), lambda answer: answer.accepted).accepted
    assert not patch({"metadata": {"labels": {names.LABEL_CONSENT_OF: None}}}).accepted
    assert client.call("DELETE", f"{path}/a", query=DRY_RUN, user=OPERATOR).accepted


def test_operator_counts_mails_and_cannot_begin_anew(client: Client) -> None:
    collection = f"/api/v1/namespaces/{SYSTEM}/secrets"
    path = f"{collection}/mail-ledger-0"
    counts = {"data": {"counts.json": base64.b64encode(b"{}").decode()}}
    made = client.call("POST", collection, {**secret("mail-ledger-0", names.MAIL_LEDGER_TYPE), **counts}).status == 201

    def count() -> Answer:
        return client.call("PATCH", path, counts, query=DRY_RUN, user=OPERATOR, content_type=MERGE_PATCH)

    try:
        assert eventually(count, lambda answer: answer.accepted).accepted
        refused = client.call("DELETE", path, query=DRY_RUN, user=OPERATOR)
        assert not refused.accepted
        assert REFUSED in refused.message
    finally:
        if made:  # else it is the operator's of another test
            client.call("DELETE", path)


@pytest.mark.parametrize("own", [True, False], ids=["own", "foreign"])
def test_operator_changes_and_deletes_only_its_own_secrets(client: Client, namespace: str, own: bool) -> None:
    path = f"/api/v1/namespaces/{namespace}/secrets"
    assert client.call("POST", path, secret("a", names.SECRET_TYPE, labelled=own)).status == 201
    labels = {"metadata": {"labels": {names.LABEL_MANAGED_BY: names.MANAGED_BY, "x": "y"}}}

    def patch(body: dict[str, Any], user: str | None = OPERATOR) -> Answer:
        return client.call("PATCH", f"{path}/a", body, query=DRY_RUN, user=user, content_type=MERGE_PATCH)

    def delete(user: str | None = OPERATOR) -> Answer:
        return client.call("DELETE", f"{path}/a", query=DRY_RUN, user=user)

    for attempt in (lambda: patch(labels), delete):
        answer = eventually(attempt, lambda answer: answer.accepted is own)
        assert own or REFUSED in answer.message
    # Letting go of its own would leave a Secret that it may never touch again.
    assert not patch({"metadata": {"labels": {names.LABEL_MANAGED_BY: None}}}).accepted
    assert patch(labels, user=None).accepted
    assert delete(user=None).accepted


# --- the component by which refresh tokens are revoked ---


@pytest.fixture
def revoking(control_plane: Cluster, client: Client) -> Iterator[None]:
    """The operator with the component's right."""
    with revoke_tokens(control_plane):
        yield


@alone
@pytest.mark.usefixtures("revoking")
def test_component_gives_one_right_more(client: Client) -> None:
    found = {
        (plural, verb)
        for plural in (names.CLUSTER_PLURAL, names.TENANT_PLURAL)
        for verb in (*_READ, *_WRITE)
        if may(client, OPERATOR, verb, plural, names.GROUP)
    }
    assert found == {
        (plural, verb) for plural in (names.CLUSTER_PLURAL, names.TENANT_PLURAL) for verb in (*_READ, "patch")
    }


def test_component_sets_the_variable_of_the_option() -> None:
    component = yaml.safe_load((REVOKE_TOKENS / "kustomization.yaml").read_text())
    (patch,) = (yaml.safe_load(each["patch"]) for each in component["patches"])
    deployment = manifest("Deployment")
    assert {key: patch["metadata"][key] for key in ("name", "namespace")} == {
        key: deployment["metadata"][key] for key in ("name", "namespace")
    }
    (container,) = patch["spec"]["template"]["spec"]["containers"]
    assert container["name"] in {each["name"] for each in deployment["spec"]["template"]["spec"]["containers"]}
    environment = {each["name"]: each["value"] for each in container["env"]}
    assert Config.from_environment(environment) == Config(oauth2_revoke=True)


FINALIZERS: Final = {"finalizers": ["example.com/other", names.FINALIZER]}


@alone
@pytest.mark.usefixtures("revoking")
@pytest.mark.parametrize(
    ("patch", "accepted"),
    [
        ({"metadata": FINALIZERS}, True),
        ({"metadata": {"finalizers": ["example.com/other"]}}, True),
        ({"metadata": {"finalizers": [names.FINALIZER]}}, False),
        ({"metadata": {"finalizers": ["example.com/other", "example.com/third"]}}, False),
        ({"metadata": {"labels": {"a": "c"}}}, False),
        ({"metadata": {"labels": None}}, False),
        ({"metadata": {**FINALIZERS, "annotations": {"a": "b"}}}, False),
        ({"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "X", "name": "x", "uid": "x"}]}}, False),
        ({"spec": {"mailFrom": "b@acme.example"}}, False),
        ({"metadata": FINALIZERS, "spec": {"suspend": False}}, False),
    ],
)
def test_operator_changes_nothing_of_settings_but_its_finalizer(
    client: Client, namespace: str, patch: dict[str, Any], accepted: bool
) -> None:
    path = f"{SETTINGS}/namespaces/{namespace}/{names.TENANT_PLURAL}"
    spec = {"mailFrom": "a@acme.example", "connection": {"host": "smtp.acme.example"}, "suspend": True}
    metadata = {"name": "a", "labels": {"a": "b"}, "finalizers": ["example.com/other"]}
    body = {"apiVersion": names.API_VERSION, "kind": names.TENANT_KIND, "metadata": metadata, "spec": spec}
    assert client.call("POST", path, body).status == 201
    try:
        answer = client.call("PATCH", f"{path}/a", patch, query=DRY_RUN, user=OPERATOR, content_type=MERGE_PATCH)
        assert (answer.accepted, "nothing but its finalizer" in answer.message) == (accepted, not accepted)
        assert client.call("PATCH", f"{path}/a", patch, query=DRY_RUN, content_type=MERGE_PATCH).accepted
    finally:
        bare = {"metadata": {"finalizers": None}}
        assert client.call("PATCH", f"{path}/a", bare, content_type=MERGE_PATCH).accepted
