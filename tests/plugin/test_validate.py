"""`kubectl mailsettings validate`: manifests are judged without a cluster."""

import json
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from textwrap import dedent
from typing import Any, Final

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mailsettings.api import crd, names
from mailsettings.plugin.validate.check import Content, Severity, check_references, content_of, shown
from mailsettings.plugin.validate.source import Document, SourceError, documents
from tests.plugin.test_command_line import ROOT, plugin
from tests.support import specs
from tests.support.manifests import read

HEAD: Final = f"apiVersion: {names.API_VERSION}\n"
KIND: Final = "kind: MailServerSettings\n"
TENANT: Final = f"{HEAD}{KIND}metadata: {{name: mail, namespace: shop}}\n"
CLUSTER: Final = f"{HEAD}kind: ClusterMailServerSettings\nmetadata: {{name: default}}\n"

Said = tuple[int, str, str]


def judged(text: str) -> Content:
    contents = [content_of(document) for document in documents(text)]
    found = [each for content in contents for each in content.settings]
    check_references(found)
    return Content(
        found,
        [problem for content in contents for problem in content.problems],
        sum(content.others for content in contents),
    )


def said(text: str, severity: Severity = Severity.ERROR) -> list[Said]:
    content = judged(text)
    problems = [*content.problems, *(problem for each in content.settings for problem in each.problems)]
    return [(each.line, each.field, each.message) for each in problems if each.severity is severity]


# --- what is wrong, and where ---


def test_every_problem_of_every_document_is_told_with_its_line() -> None:
    text = dedent("""\
        apiVersion: v1
        kind: Secret
        metadata: {name: smtp}
        ---
        apiVersion: mailsettings.dev/v1alpha1
        kind: MailServerSettings
        metadata:
          name: mail
        spec:
          mailFrom: no one
          conection: {}
          connection:
            port: "587"
            timeout: 10
            tls:
              mode: Disabled
              minVersion: TLSv1.2
          auth:
            oauth2:
              username: a
              grant: AuthorizationCode
              directoryID: common
              tokenURI: https://x/y
        ---
        apiVersion: mailsettings.dev/v1alpha1
        kind: ClusterMailServerSettings
        metadata: {name: default}
        spec:
          mailFrom: a@b
          connection: {host: h}
          tenants:
            namespaces:
              - a
              - A
        """)
    told = [(line, path) for line, path, _ in said(text)]
    oauth2 = "spec.auth.oauth2"
    assert told == [
        (11, "spec.conection"),
        (10, "spec.mailFrom"),
        (13, "spec.connection.port"),
        (14, "spec.connection.timeout"),
        (15, "spec.connection.tls"),
        (19, f"{oauth2}.clientID"),
        (19, f"{oauth2}.authorizationURI"),
        (22, f"{oauth2}.directoryID"),
        (31, "spec.tenants.delivery"),
        (34, "spec.tenants.namespaces[1]"),
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"{TENANT}spec: {{mailFrom: a}}", (4, "spec.mailFrom", "write an address, or a name and an address")),
        (f"{TENANT}spec: {{suspend: 'yes'}}", (4, "spec.suspend", "it has to be true or false, without quotes")),
        (
            f"{TENANT}spec: {{provider: Custom, connection: {{host: h}}}}",
            (4, "spec.mailFrom", "a server of your own needs a sender; set it"),
        ),
        (f"{TENANT}spec: {{x: 1}}", (4, "spec.x", "there is no such field")),
        (f"{TENANT}spec: {{}}\nstat: 1", (5, "stat", "there is no such field")),
        (TENANT, (1, "spec", "it is needed; set it")),
        (f"{TENANT}spec: []", (4, "spec", "it has to be an object")),
        (
            f"{HEAD}kind: MailServerSettings\nmetadata: {{name: x, nam: x}}\nspec: {{}}",
            (3, "metadata.nam", "there is no such"),
        ),
        (f"{HEAD}kind: MailServerSettings\nspec: {{}}", (1, "metadata.name", "set it")),
        (f"{HEAD}kind: MailServerSettings\nmetadata: 5\nspec: {{}}", (3, "metadata", "it has to be an object")),
        (
            f"{HEAD}kind: MailServerSettings\nmetadata:\n  name: {'a' * 64}\nspec: {{}}",
            (4, "metadata.name", "at most 63 characters"),
        ),
        (
            f"{HEAD}kind: ClusterMailServerSettings\nmetadata: {{name: other}}\nspec:\n  mailFrom: a@b\n"
            "  provider: Google\n  auth: {basic: {username: a@b, passwordSecretRef: {name: a, key: b}}}\n"
            "  tenants:\n    delivery: Credentials\n    provision: Always\n",
            (10, "spec.tenants.provision", "only the object named default may provision Always"),
        ),
        ("kind: MailServerSettings\napiVersion: v1", (2, "apiVersion", "MailServerSettings has the apiVersion")),
        (
            "kind: MailServerSettings\napiVersion: mailsettings.dev/v2",
            (2, "apiVersion", "MailServerSettings has the"),
        ),
        (f"{HEAD}kind: Mail", (2, "kind", "mailsettings.dev has the kinds ClusterMailServerSettings and")),
        ("# a comment\njust a text", (2, "", "this is no Kubernetes object")),
    ],
)
def test_problem(text: str, expected: Said) -> None:
    (problem,) = said(text)
    assert problem[:2] == expected[:2]
    assert problem[2].startswith(expected[2])


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        (f"{TENANT}spec: {{suspend: true, suspend: false}}", 4, "'suspend' is there twice"),
        (f"{TENANT}spec: [", 4, "this is no YAML: "),
        (f"{TENANT}spec:\n\tx: 1", 5, "this is no YAML: "),
        ("a: b\nc: \x07", 2, "this is no YAML: a character that may not be there"),
        ("a: &a [*a]", 1, "this is "),
        ("a: !thing b", 1, "the tag !thing means nothing here"),
        ("a: !!int b", 1, "'b' is no number"),
        ("{a: 1}: b", 1, "a field's name has to be a text"),
        ("[" * 5000, 1, "this is "),
    ],
)
def test_what_cannot_be_read_is_told_with_its_line(text: str, line: int, message: str) -> None:
    with pytest.raises(SourceError) as raised:
        list(documents(text))
    assert raised.value.line == line or "[*a]" in text
    assert str(raised.value).startswith(message)


def test_a_file_that_means_an_endless_one_is_refused() -> None:
    bomb = "a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n"
    bomb += "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 9))
    with pytest.raises(SourceError, match="larger than"):
        list(documents(bomb))


def test_what_is_before_a_mistake_is_judged(tmp_path: Path) -> None:
    file = tmp_path / "mail.yaml"
    file.write_text(f"{TENANT}spec: {{x: 1}}\n---\n[")
    ended = plugin("validate", "-f", str(file))
    assert ended.returncode == 1
    assert [line.split(": ")[0] for line in ended.stdout.splitlines()] == [f"{file}:4", f"{file}:6"]


@pytest.mark.parametrize("kind", ["List", "MailServerSettingsList"])
def test_lists_are_looked_into(kind: str) -> None:
    entry = {"apiVersion": names.API_VERSION, "kind": "MailServerSettings", "metadata": {"name": "a"}}
    items = [{**entry, "spec": {}}, {**entry, "spec": {"x": 1}}, {"apiVersion": "v1", "kind": "Secret"}]
    text = json.dumps({"apiVersion": "v1", "kind": kind, "items": items}, indent="\t")
    assert said(text) == [(20, "spec.x", "there is no such field")]
    assert len(judged(text).settings) == 2
    assert judged(text).others == 1


def test_json_may_have_tabs_and_characters_in_two_escapes() -> None:
    text = json.dumps({"a": "🎉", "b": {"c": ["x"]}}, indent="\t")
    (document,) = documents(text)
    assert document.value == {"a": "🎉", "b": {"c": ["x"]}}
    assert document.line(("b", "c", 0)) == 5


# --- warnings ---


def test_what_the_operator_would_warn_of_is_told() -> None:
    text = (
        f"{CLUSTER}spec:\n  mailFrom: a@b\n  provider: Office365\n  connection:\n    tls:\n"
        "      insecureSkipVerify: true\n  auth:\n    basic: {username: a@b, passwordSecretRef: {name: a, key: b}}\n"
        "  tenants:\n    delivery: Credentials\n"
    )
    assert said(text) == []
    warnings = said(text, Severity.WARNING)
    assert [(line, path) for line, path, _ in warnings] == [
        (11, "spec.auth.basic"),
        (9, "spec.connection.tls.insecureSkipVerify"),
        (13, "spec.tenants.delivery"),
    ]
    assert warnings[2][2] == "Credentials gives every allowed namespace a copy of this login"


OWN: Final = (
    "spec: {{mailFrom: a@b, provider: Google, auth: {{basic: {{username: a@b, "
    "passwordSecretRef: {{name: {}, key: password}}}}}}}}\n"
)


@pytest.mark.parametrize(
    ("secret", "is_delivered"),
    [("mail-smtp", True), ("other-smtp", True), ("mine", False), ("elsewhere-smtp", False), ("default-smtp", True)],
)
def test_a_reference_to_a_delivered_secret_is_told(secret: str, *, is_delivered: bool) -> None:
    others = "---\n".join(
        f"{HEAD}kind: MailServerSettings\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec: {{}}\n"
        for name, namespace in (("other", "shop"), ("elsewhere", "blog"))
    )
    always = f"{CLUSTER}spec: {{mailFrom: a@b, connection: {{host: h}}, tenants: {{provision: Always, delivery: \
Credentials}}}}\n"
    text = f"{TENANT}{OWN.format(secret)}---\n{others}---\n{always}"
    assert said(text) == []
    message = f"the Secret {secret!r} is one that the operator delivers; refer to one of your own"
    expected = [(4, "spec.auth.basic.passwordSecretRef", message)] if is_delivered else []
    assert said(text, Severity.WARNING) == expected


# --- agreement ---


@pytest.mark.parametrize("kind", crd.KINDS, ids=lambda kind: kind.kind)
def test_it_agrees_with_the_models(kind: crd.Kind) -> None:
    """And with the API server, which tests/cluster/test_agreement.py compares with both."""
    strategy: st.SearchStrategy[Any] = {
        crd.CLUSTER.kind: specs.CLUSTER_SPECS,
        crd.TENANT.kind: specs.TENANT_SPECS,
        crd.TEST.kind: specs.TEST_SPECS,
    }[kind.kind]

    @settings(max_examples=400, derandomize=True, database=None, suppress_health_check=[*HealthCheck], deadline=None)
    @given(name=specs.NAMES, spec=strategy)
    def agree(name: str, spec: object) -> None:
        body = {"apiVersion": names.API_VERSION, "kind": kind.kind, "metadata": {"name": name}, "spec": spec}
        document = Document(body, {(): 1})
        (found,) = content_of(document).settings
        errors = [each for each in found.problems if each.severity is Severity.ERROR]
        known = [each for each in errors if each.message != "there is no such field"]
        assert (not known) == (read(kind, name, spec) is not None), known
        assert (found.spec is not None) == (not known)

    agree()


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    ).filter(lambda value: value is not None)
)
@settings(derandomize=True, database=None, deadline=None)
def test_json_is_read_as_json(value: object) -> None:
    (document,) = documents(json.dumps({"a": value}, indent=1))
    assert document.value == json.loads(json.dumps({"a": value}))


_SCALARS: Final = (
    "y", "n", "on", "Off", "yes", "true", "TRUE", "tRue", "1e3", "1e+3", "1E3", "010", "0o10", "0b1", "0x1F", "-0x1",
    "08", "1_000", "0_1", "12:30", "2001-01-01", "+5", "-5", ".5", "1.", ".", "_", "=", "5 m", "1.2.3", "0", "587",
    "587.0", "1.5", "'5'", '"y"', "~x", "0xg",
)  # fmt: skip


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="needs kubectl")
def test_plain_scalars_are_read_as_kubectl_reads_them(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    data = "".join(f"  k{index}: {scalar}\n" for index, scalar in enumerate(_SCALARS))
    file.write_text(f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: x}}\ndata:\n{data}")
    line = ["kubectl", "label", "--local", "-f", str(file), "a=b", "-o", "json"]
    kubectl = json.loads(subprocess.run(line, capture_output=True, check=True, timeout=60).stdout)
    (document,) = documents(file.read_text())
    found: Mapping[str, object] = document.value["data"]
    assert {key: (value, type(value) is bool) for key, value in found.items()} == {
        key: (value, type(value) is bool) for key, value in kubectl["data"].items()
    }


# --- as a person has it ---


def test_the_examples_are_valid(tmp_path: Path) -> None:
    ended = plugin("validate", "-f", str(ROOT / "dev" / "examples"), "-f", str(ROOT / "README.md"), COLUMNS="80")
    assert ended.returncode == 1  # no YAML
    ended = plugin("validate", "-f", str(ROOT / "dev" / "examples"))
    assert ended.returncode == 0
    assert ended.stderr == "7 of 7 settings objects valid; 13 objects of other kinds skipped.\n"
    assert "warning: Credentials gives every allowed namespace" in ended.stdout


def test_folders_standard_input_and_files_that_are_missing(tmp_path: Path) -> None:
    (tmp_path / "below" / "more").mkdir(parents=True)
    good, bad = f"{TENANT}spec: {{}}\n", f"{TENANT}spec: {{x: 1}}\n"
    (tmp_path / "below" / "a.yml").write_text(good)
    (tmp_path / "below" / "notes.txt").write_text(bad)
    (tmp_path / "below" / "more" / "b.yaml").write_text(bad)
    folder = str(tmp_path / "below")
    assert plugin("validate", "-f", folder).returncode == 0
    deep = plugin("validate", "-R", "-f", folder, "-o", "json")
    assert deep.returncode == 1
    assert [json.loads(line) for line in deep.stdout.splitlines()] == [
        {
            "file": f"{folder}/more/b.yaml",
            "line": 4,
            "object": "MailServerSettings shop/mail",
            "field": "spec.x",
            "severity": "error",
            "message": "there is no such field",
        }
    ]
    assert deep.stderr == "1 of 2 settings objects valid.\n"
    piped = plugin("validate", "-f", "-", "-f", folder, stdin=bad)
    assert piped.returncode == 1
    assert piped.stdout == "stdin:4: spec.x: there is no such field\n"
    missing = plugin("validate", "-f", f"{folder}/nothing", "-f", folder)
    assert missing.returncode == 2
    assert missing.stderr.startswith(f"{folder}/nothing: it cannot be read: No such file or directory\n")
    latin = tmp_path / "latin.yaml"
    latin.write_bytes(b"a: b\nc: \xe4\n")
    assert plugin("validate", "-f", str(latin)).stdout == f"{latin}:2: this is no YAML: it is not written in UTF-8\n"


def test_paths_are_shown_as_people_write_them() -> None:
    assert shown(("spec", "tenants", "namespaces", 2)) == "spec.tenants.namespaces[2]"


def test_a_password_in_the_wrong_place_is_not_repeated() -> None:
    text = f"{TENANT}spec: {{mailFrom: hunter2, auth: {{basic: {{password: hunter2, passwordSecretRef: hunter2}}}}}}"
    assert "hunter2" not in yaml.safe_dump([list(each) for each in said(text)])
    assert len(said(text)) == 3


# --- the relay ---

RELAYED: Final = "connection: {host: mail.acme.example}, mailFrom: a@acme.example"


@pytest.mark.parametrize(
    "text",
    [
        f"{TENANT}spec: {{output: {{delivery: Relay}}}}",
        f"{TENANT}spec: {{{RELAYED}, output: {{delivery: Relay}}, policy: {{rateLimits: '10:60'}}}}",
        f"{TENANT}spec: {{policy: {{sending: Blocked}}}}",
        f"{CLUSTER}spec: {{{RELAYED}, tenants: {{delivery: Relay, policy: {{maxMessageSize: 10Mi}}}}}}",
    ],
)
def test_delivery_by_the_relay_is_valid(text: str) -> None:
    assert said(text) == []


@pytest.mark.parametrize(
    ("spec", "field", "part"),
    [
        ("output: {delivery: relay}", "spec.output.delivery", "'Credentials' or 'Relay'"),
        (f"{RELAYED}, policy: {{sending: Blocked}}", "spec.policy", "output.delivery"),
        ("policy: {rateLimits: '1000'}", "spec.policy.rateLimits", "such as 1000:60,10000:3600"),
        ("policy: {maxMessageSize: 10M}", "spec.policy.maxMessageSize", "such as 10Mi"),
        ("policy: {recipientDomains: ['@acme.example']}", "spec.policy.recipientDomains[0]", "a domain"),
        ("policy: {sending: Never}", "spec.policy.sending", "'Allowed' or 'Blocked'"),
        ("policy: {ratelimits: '10:60'}", "spec.policy.ratelimits", ""),
    ],
)
def test_what_is_wrong_about_delivery_by_the_relay_is_told(spec: str, field: str, part: str) -> None:
    [(line, path, message)] = said(f"{TENANT}spec: {{{spec}}}")
    assert (line, path) == (4, field)
    assert part in message
