"""`docs/reference.md`, written from the models: every field, rule, condition, reason, provider, key and annotation."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from mailsettings.api import crd, names, patterns, sending
from mailsettings.api.conditions import ConditionType, Reason
from mailsettings.api.providers import DEFAULT_PORTS, PROVIDERS, Provider
from mailsettings.api.schema import Schema
from mailsettings.api.template import (
    BUILT_IN_KEYS,
    PLACEHOLDER_TEXT_PATTERN,
    PLACEHOLDERS,
    PRESET_LIMITS,
    RESERVED_KEYS,
    Preset,
)

_INTRODUCTION: Final = f"""\
<!-- Made from operator/mailsettings/api by: make crds -->
# Reference

API version `{names.API_VERSION}`. The oldest supported Kubernetes is 1.30, in which ValidatingAdmissionPolicy became
generally available; rules and policies use nothing newer.

- `{names.CLUSTER_KIND}` (`kubectl get {crd.CLUSTER.short}`) is cluster-scoped: the system's mail server. Its Secrets
  and ConfigMaps are in the operator's namespace.
- `{names.TENANT_KIND}` (`kubectl get {crd.TENANT.short}`) is namespaced: a tenant's mail server, or the tenant's wish
  to use the system's. Its Secrets and ConfigMaps are in its own namespace.
- `{names.TEST_KIND}` (`kubectl get {crd.TEST.short}`) is namespaced: a test of settings, or of a server that is not
  saved yet, which runs once.

A field that is `null` counts as absent. Unknown fields are dropped by the API server, or refused where the client asks
for strict validation, as `kubectl` does.
"""

_FORMS: Final = {
    patterns.ADDRESS_PATTERN: "a mail address",
    patterns.MAILBOX_PATTERN: "a mail address, or a name and an address: `Acme <no-reply@acme.example>`",
    patterns.HOST_PATTERN: "a DNS name or an IP address",
    patterns.DURATION_PATTERN: "one whole number and `ms`, `s`, `m` or `h`",
    patterns.OBJECT_NAME_PATTERN: "an object's name: lower-case letters, digits, `-` and `.`",
    patterns.NAMESPACE_PATTERN: "a namespace's name",
    patterns.DATA_KEY_PATTERN: "letters, digits, `-`, `_` and `.`; `..` not at the beginning",
    patterns.USERNAME_PATTERN: "no control characters",
    patterns.LABEL_KEY_PATTERN: "a label's key",
    patterns.LABEL_VALUE_PATTERN: "a label's value",
    patterns.HTTPS_URI_PATTERN: "an `https` URI",
    patterns.SCOPE_PATTERN: "a scope",
    patterns.CLIENT_ID_PATTERN: "printable ASCII",
    patterns.DIRECTORY_ID_PATTERN: "a GUID or a domain",
    patterns.CLAIM_PATTERN: "a claim's name",
    patterns.AUDIENCE_PATTERN: "printable ASCII without blanks",
    patterns.FROM_PATTERN_PATTERN: "an address with `*` and `{namespace}`",
    sending.SIZE_PATTERN: "one whole number and `Ki` or `Mi`",
    sending.RECIPIENT_DOMAIN_PATTERN: "a domain, or `*.` and a domain",
    sending.FEW_RATE_LIMITS_PATTERN: "up to four of `COUNT:SECONDS`, separated by commas",
    PLACEHOLDER_TEXT_PATTERN: "placeholders, `$$` and any other text",
}
"""What a pattern means, in words. A pattern that is missing here cannot be rendered."""

_FORMS_UNSAID: Final = {"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$": "one word"}
"""The patterns of the status, which nobody has to write."""

_METADATA: Final = (
    (names.LABEL_MANAGED_BY, "label", "a delivered Secret", f"always `{names.MANAGED_BY}`"),
    (names.LABEL_SETTINGS, "label", "a delivered Secret", "the name of the settings that it belongs to"),
    (names.ANNOTATION_SOURCE, "annotation", "a delivered Secret", "the object whose server and login it holds"),
    (names.ANNOTATION_SOURCE_GENERATION, "annotation", "a delivered Secret", "that object's `metadata.generation`"),
    (names.ANNOTATION_CONTENT, "annotation", "a delivered Secret", "a keyed digest of its content"),
    (names.LABEL_TOKEN_OF, "label", "a Secret with an OAuth2 token", "the uid of the settings that it belongs to"),
    (names.ANNOTATION_TOKEN, "annotation", "a delivered Secret", "which access token it holds, by a name"),
    (names.ANNOTATION_CLAIM, "annotation", "a Secret with an OAuth2 token", "who is renewing it, and for how long"),
    (names.ANNOTATION_DROPPED, "annotation", "a Secret with an OAuth2 token", "its token was for other settings"),
    (names.LABEL_SLOT_OF, "label", "a Lease of the relay's", "the uid of the settings whose connections it counts"),
    (names.ANNOTATION_WANTED, "annotation", "such a Lease", "who asks its holder to give it up"),
    (names.ANNOTATION_USER, "annotation", "such a Lease", "whose messages go through it, by namespace"),
    (names.ANNOTATION_SPENT, "annotation", "such a Lease", "how many messages its last holder sent in its last minute"),
    (names.LABEL_REPORT, "label", "a ConfigMap of the relay's", '`"true"`: what a replica reports to the operator'),
    (names.LABEL_BUNDLE_OF, "label", "a Secret for the relay", "the uid of the settings whose server it leads to"),
    (names.LABEL_CONSENT_OF, "label", "a Secret with a consent", "the uid of the settings that it is for"),
    (
        names.ANNOTATION_EXPIRES_AT,
        "annotation",
        "a Secret with a client secret or a service account's key, by you",
        "when that runs out, such as `2027-03-31`: warnings begin 30 days ahead",
    ),
    (names.ANNOTATION_PROBE_REQUESTED_AT, "annotation", "settings, by you", "a new value asks for one probe now"),
    (
        names.ANNOTATION_ROTATE_REQUESTED_AT,
        "annotation",
        "settings with OAuth2, or that the relay sends for, by you",
        "a new value asks for one renewal of the token now, and for a new password at the relay",
    ),
    (
        names.ANNOTATION_ALLOW_DELETION,
        "annotation",
        f"{names.CLUSTER_KIND}, by you",
        '`"true"` lets it be deleted although tenants inherit from it',
    ),
    (
        names.LABEL_REFERABLE,
        "label",
        "a Secret that settings refer to, by you",
        '`"true"` permits that, where the operator requires it',
    ),
)


@dataclass(frozen=True, slots=True)
class _Field:
    """One line of a table of fields."""

    path: str
    kind: str
    description: str

    @property
    def cells(self) -> tuple[str, ...]:
        return f"`{self.path}`", self.kind, self.description


def render() -> str:
    """The whole page."""
    sections = (
        _INTRODUCTION,
        *_field_sections("spec"),
        _rules(),
        *_field_sections("status"),
        _conditions(),
        _reasons(),
        _columns(),
        _providers(),
        _secret(),
        _template(),
        _labels(),
    )
    return "\n".join(section.rstrip() + "\n" for section in sections)


def _field_sections(part: str) -> Iterator[str]:
    """The fields of both kinds of settings once, then those in which they differ, then those of tests."""
    rows = {kind.kind: [*_fields(part, _root(kind)["properties"][part])] for kind in crd.KINDS}
    shared = set.intersection(*(set(rows[kind.kind]) for kind in crd.SETTINGS_KINDS))
    first = rows[crd.TENANT.kind]
    yield f"## {part.capitalize()}\n\n### Both kinds of settings\n\n" + _field_table(
        row for row in first if row in shared
    )
    for kind in crd.SETTINGS_KINDS:
        yield f"### {kind.kind}\n\n" + _field_table(row for row in rows[kind.kind] if row not in shared)
    yield f"### {crd.TEST.kind}\n\n" + _field_table(rows[crd.TEST.kind])


def _root(kind: crd.Kind) -> Schema:
    (version,) = crd.manifest(kind)["spec"]["versions"]
    schema: Schema = version["schema"]["openAPIV3Schema"]
    return schema


def _field_table(rows: Iterable[_Field]) -> str:
    return _table(("Field", "Type", "Meaning"), (row.cells for row in rows))


def _fields(path: str, node: Schema) -> Iterator[_Field]:
    required = node.get("required", ())
    for name, child in node.get("properties", {}).items():
        below = f"{path}.{name}"
        kind = ", ".join([*_words(child), *(["**required**"] if name in required else [])])
        yield _Field(below, kind, _escaped(child["description"]))
        yield from _fields(below, child)
        if "items" in child:
            yield from _fields(f"{below}[]", child["items"])


def _words(node: Schema) -> list[str]:
    """What a value may be, in words."""
    words = [_type(node), *_bounds(node)]
    if "default" in node:
        words.append(f"default `{_literal(node['default'])}`")
    return words


def _type(node: Schema) -> str:
    if "enum" in node:
        return " \\| ".join(f"`{value}`" for value in node["enum"])
    if node["type"] == "array":
        return f"list of {_item(node['items'])}"
    if "additionalProperties" in node:
        return f"map to {_item(node['additionalProperties'])}"
    if node.get("format") == "date-time":
        return "time"
    return str(node["type"])


def _item(node: Schema) -> str:
    return ", ".join([_type(node), *_bounds(node)]) if node["type"] != "object" else "objects"


def _bounds(node: Schema) -> Iterator[str]:
    if "minimum" in node:
        yield f"{node['minimum']} to {node['maximum']}" if "maximum" in node else f"at least {node['minimum']}"
    if "maxLength" in node:
        yield (
            f"{node['minLength']} to {node['maxLength']} characters"
            if "minLength" in node
            else (f"at most {node['maxLength']} characters")
        )
    if "maxItems" in node:
        yield f"at most {node['maxItems']}"
    if "maxProperties" in node:
        yield f"at most {node['maxProperties']}"
    if node.get("x-kubernetes-list-type") == "set":
        yield "none twice"
    if "pattern" in node:
        yield (_FORMS | _FORMS_UNSAID)[node["pattern"]]


def _literal(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _rules() -> str:
    lines = dict.fromkeys(rule for kind in crd.KINDS for rule in _rule_lines(kind))
    return "## What must fit together\n\nThe API server refuses the rest with these sentences.\n\n" + "\n".join(lines)


def _rule_lines(kind: crd.Kind) -> Iterator[str]:
    for path, rule in rules(kind):
        yield f"- `{path or 'the object'}`: {_escaped(rule['message'])}"


def rules(kind: crd.Kind) -> Iterator[tuple[str, dict[str, str]]]:
    """The CEL rules of a kind, each with the path of the field that it belongs to; `[]` stands for any item."""
    return _rules_below("", _root(kind))


def _rules_below(path: str, node: Schema) -> Iterator[tuple[str, dict[str, str]]]:
    for rule in node.get("x-kubernetes-validations", ()):
        yield path, rule
    for name, child in node.get("properties", {}).items():
        yield from _rules_below(f"{path}.{name}".lstrip("."), child)
    if "items" in node:
        yield from _rules_below(f"{path}[]", node["items"])


def _conditions() -> str:
    return "## Conditions\n\n" + _table(
        ("Type", "Meaning"), ((f"`{condition}`", condition.doc) for condition in ConditionType)
    )


def _reasons() -> str:
    introduction = (
        "## Reasons\n\nWhy a condition has its status; also the reasons of events. Where a person has to act, the "
        "object is `Stalled`:\nwaiting does not help.\n\n"
    )
    rows = ((f"`{reason}`", reason.doc, "a person" if reason.needs_person else "") for reason in Reason)
    return introduction + _table(("Reason", "Meaning", "Who can mend it"), rows)


def _columns() -> str:
    tables = (
        f"`kubectl get {kind.short}`\n\n"
        + _table(
            ("Column", "Meaning"),
            ((f"{name}{' (with `-o wide`)' if priority else ''}", doc) for name, _, doc, priority in kind.columns),
        )
        for kind in crd.KINDS
    )
    return "## Columns\n\n" + "\n".join(tables)


def _providers() -> str:
    ports = ", ".join(f"{port} for `{mode}`" for mode, port in DEFAULT_PORTS.items())
    introduction = (
        "## Providers\n\nA provider's template fills what `spec.connection` leaves out; an explicit value wins. A "
        "provider's first server\nis the default; for another one set `connection.host`. A port that nothing gives is "
        f"{ports}.\n"
    )
    servers = _table(
        ("Provider", "Server", "Host", "Port", "TLS", "Timeout of a step"),
        (
            (f"`{name}`", region, f"`{server.host}`", server.port, f"`{server.tls_mode}`", provider.timeout)
            for name, provider in PROVIDERS.items()
            for region, server in provider.endpoints.items()
        ),
    )
    return "\n".join((introduction, servers, *(_provider(name, provider) for name, provider in PROVIDERS.items())))


def _provider(name: str, provider: Provider) -> str:
    facts = [*provider.notes]
    if provider.requires_auth:
        facts.append("`auth` is required.")
    if provider.fixed_username is not None:
        facts.append(f"The user name is always `{provider.fixed_username}`.")
    if provider.password is not None:
        facts.append(f"Passwords of another form are refused: {provider.password.remedy}.")
    if provider.refused_domains is not None:
        facts.append(f"User names of {provider.refused_domains_words} are refused: {provider.refused_domains_remedy}.")
    if provider.basic_warning is not None:
        facts.append(f"`auth.basic` brings a warning: {provider.basic_warning}.")
    return f"### {name}: {provider.title}\n\n" + "\n".join(f"- {fact}" for fact in facts) + "\n"


def _secret() -> str:
    return (
        f"## The delivered Secret\n\nType `{names.SECRET_TYPE}`, named by `output.secretName`, else "
        f"`{names.default_secret_name('<settings>')}`.\n\n"
        + _table(("Key", "Value"), ((f"`{key}`", value) for key, value in BUILT_IN_KEYS.items()))
    )


def _template() -> str:
    presets = ", ".join(f"`{preset}`" for preset in Preset)
    reserved = ", ".join(f"`{key}`" for key in RESERVED_KEYS)
    return (
        "## `output.template`\n\n"
        f"Presets: {presets}. What their forms cannot say, the application's own configuration has to:\n\n"
        + _table(("Setting", "What presets make of it"), ((f"`{field}`", doc) for field, doc in PRESET_LIMITS.items()))
        + f"\nKeys that `data` may not set: {reserved}.\n\n"
        "Placeholders in the values of `data`; `$$` is a dollar sign:\n\n"
        + _table(("Placeholder", "Becomes"), ((f"`${{{name}}}`", doc) for name, doc in PLACEHOLDERS.items()))
    )


def _labels() -> str:
    return "## Labels and annotations\n\n" + _table(
        ("Key", "Kind", "On", "Meaning"), ((f"`{key}`", *others) for key, *others in _METADATA)
    )


def _table(head: tuple[str, ...], rows: Iterable[tuple[Any, ...]]) -> str:
    lines = (head, ("---",) * len(head), *rows)
    return "".join(f"| {' | '.join(map(str, line))} |\n" for line in lines)


def _escaped(text: str) -> str:
    return text.replace("<", "&lt;").replace("*", "\\*")
