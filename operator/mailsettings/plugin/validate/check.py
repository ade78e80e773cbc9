"""What is wrong with settings in a document. Pure."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from typing import Annotated, Any, Final

from pydantic import BaseModel, Field, ValidationError

from mailsettings.api import names, patterns, sending
from mailsettings.api.crd import KINDS, Kind
from mailsettings.api.model import RULE_ERROR, ApiModel, Rule
from mailsettings.api.scalars import LabelKey, LabelValue, NamespaceName, ObjectName
from mailsettings.api.schema import Schema, structural
from mailsettings.api.spec import ClusterMailServerSettingsSpec, MailServerSettingsSpec
from mailsettings.api.tenants import Provision
from mailsettings.core.acceptance import Advice, cluster_advice, server_advice
from mailsettings.core.credentials import ObjectRef, referring_fields
from mailsettings.core.effective import EffectiveSettings, own_settings
from mailsettings.core.server import Source
from mailsettings.plugin.validate.source import Document, Path

_KINDS: Final = {kind.kind: kind for kind in KINDS}


class Severity(StrEnum):
    """How bad a problem is."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong."""

    line: int
    object: str
    """Which settings: `MailServerSettings shop/mail`; empty where there are none."""
    field: str
    """The path of the field in the object, or in the document where there is none; may be empty."""
    severity: Severity
    message: str


@dataclass(slots=True)
class Settings:
    """One settings object of a document."""

    document: Document
    at: Path
    """Where in the document it is."""
    kind: Kind
    problems: list[Problem] = field(default_factory=list)
    spec: BaseModel | None = None
    """None: it is refused."""

    @property
    def content(self) -> Mapping[str, Any]:
        """As JSON has it."""
        found = self.document.value
        for step in self.at:
            found = found[step]
        return dict(found)

    @property
    def metadata(self) -> Mapping[str, Any]:
        """Empty where it is none."""
        found = self.content.get("metadata")
        return found if isinstance(found, dict) else {}

    @property
    def namespace(self) -> str:
        """Empty where the manifest leaves it to whoever applies it."""
        return str(self.metadata.get("namespace") or "") if self.kind.namespaced else ""

    @property
    def name(self) -> str:
        """Empty where there is none."""
        return str(self.metadata.get("name") or "")

    @property
    def title(self) -> str:
        """For people."""
        return f"{self.kind.kind} {'/'.join(filter(None, (self.namespace, self.name)))}".strip()

    def add(self, path: Path, message: str, severity: Severity = Severity.ERROR) -> None:
        """Notes a problem of the field at a path of the object."""
        line = self.document.line((*self.at, *path))
        self.problems.append(Problem(line, self.title, shown(path), severity, message))


@dataclass(slots=True)
class Content:
    """What is in a document."""

    settings: list[Settings] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    """Of what is no object."""
    others: int = 0
    """How many objects of other kinds there are."""


def content_of(document: Document, at: Path = ()) -> Content:
    """The settings in a document, each with what is wrong with it by itself."""
    value = document.value
    for step in at:
        value = value[step]
    if not isinstance(value, dict) or not isinstance(value.get("kind"), str):
        return _misfit(document, at, "this is no Kubernetes object: it has no kind")
    items = value.get("items")
    if value["kind"].endswith("List") and isinstance(items, list):
        return _joined(content_of(document, (*at, "items", index)) for index in range(len(items)))
    if value["kind"] not in _KINDS and _group(value) != names.GROUP:
        return Content(others=1)
    if value.get("apiVersion") != names.API_VERSION:
        return _misfit(document, (*at, "apiVersion"), f"{value['kind']} has the apiVersion {names.API_VERSION}")
    if value["kind"] not in _KINDS:
        return _misfit(document, (*at, "kind"), f"{names.GROUP} has the kinds {' and '.join(_KINDS)} only")
    settings = Settings(document, at, _KINDS[value["kind"]])
    _check(settings)
    return Content([settings])


def _group(value: Mapping[str, Any]) -> str:
    return str(value.get("apiVersion", "")).rpartition("/")[0]


def _misfit(document: Document, path: Path, message: str) -> Content:
    return Content(problems=[Problem(document.line(path), "", shown(path), Severity.ERROR, message)])


def _joined(contents: Iterable[Content]) -> Content:
    joined = Content()
    for content in contents:
        joined.settings += content.settings
        joined.problems += content.problems
        joined.others += content.others
    return joined


class _Metadata(ApiModel):
    """What Kubernetes wants of an object's metadata."""

    name: ObjectName | None = None
    generate_name: str | None = None
    namespace: NamespaceName | None = None
    labels: dict[LabelKey, LabelValue] | None = None
    annotations: dict[str, str] | None = None

    rules = (
        Rule(
            cel="has(self.name) || has(self.generateName)",
            holds=lambda s: s.name is not None or s.generate_name is not None,
            message="metadata.name: set it",
        ),
    )


class _Object(ApiModel):
    """An object, without its spec and its status."""

    metadata: Annotated[_Metadata, Field(default_factory=lambda: _Metadata.model_validate({}))]


_ROOT_FIELDS: Final = ("apiVersion", "kind", "metadata", "spec", "status")
_METADATA_FIELDS: Final = (
    "annotations", "creationTimestamp", "deletionGracePeriodSeconds", "deletionTimestamp", "finalizers", "generateName",
    "generation", "labels", "managedFields", "name", "namespace", "ownerReferences", "resourceVersion", "selfLink",
    "uid",
)  # fmt: skip


@cache
def _schema(kind: Kind) -> Schema:
    properties: Schema = {name: {} for name in _ROOT_FIELDS}
    metadata: Schema = {"properties": {name: {} for name in _METADATA_FIELDS}}
    return {"properties": {**properties, "metadata": metadata, "spec": structural(kind.spec)}}


def _check(settings: Settings) -> None:
    content = settings.content
    for path in _unknown(content, _schema(settings.kind), ()):
        settings.add(path, "there is no such field")
    _judge(settings, _Object, {"metadata": content.get("metadata") or {}}, ())
    if content.get("spec") is None:
        settings.add(("spec",), _MISSING)
        return
    spec = _judge(settings, settings.kind.spec, content["spec"], ("spec",))
    if spec is None:
        return
    broken = [rule for rule in settings.kind.root_rules if not rule.holds((settings.name, spec))]
    for rule in broken:
        base: Path = () if rule.message.startswith("metadata.") else ("spec",)
        settings.add(*_of_rule(base, rule.message, base))
    if broken:
        return
    settings.spec = spec
    for advice in _advice(spec):
        text = advice.text.removeprefix(f"{advice.field} ")
        settings.add(("spec", *advice.field.split(".")), text, Severity.WARNING)


def _unknown(value: Any, schema: Schema, path: Path) -> Iterator[Path]:  # noqa: ANN401 - JSON
    """Where there are fields that the schema does not have."""
    if isinstance(value, dict) and "properties" in schema:
        for name, child in value.items():
            if name in schema["properties"]:
                yield from _unknown(child, schema["properties"][name], (*path, name))
            else:
                yield (*path, name)
    elif isinstance(value, list) and "items" in schema:
        for index, child in enumerate(value):
            yield from _unknown(child, schema["items"], (*path, index))


def _judge(settings: Settings, model: type[BaseModel], value: object, base: Path) -> BaseModel | None:
    """The value as a model; None: it is none, and the settings say why."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        for each in error.errors(include_input=False, include_url=False):
            path = (*base, *(step for step in each["loc"] if step != "[key]"))
            context = each.get("ctx") or {}
            if each["type"] == RULE_ERROR:
                for message in context["messages"]:
                    settings.add(*_of_rule(path, message, base))
            else:
                settings.add(path, _said(each["type"], each["msg"], context))
        return None


_MISSING: Final = "it is needed; set it"

_TYPES: Final = {
    "missing": _MISSING,
    "string_type": "it has to be a text; put it in quotes",
    "int_type": "it has to be a whole number, without quotes",
    "int_from_float": "it has to be a whole number",
    "bool_type": "it has to be true or false, without quotes",
    "list_type": "it has to be a list",
    "dict_type": "it has to be an object",
    "model_type": "it has to be an object",
    "model_attributes_type": "it has to be an object",
}
"""What types of Pydantic's errors mean, to people."""

_FORMS: Final = {
    patterns.ADDRESS_PATTERN: "an address, such as no-reply@acme.example",
    patterns.MAILBOX_PATTERN: "an address, or a name and an address, such as Acme <no-reply@acme.example>",
    patterns.HOST_PATTERN: "a DNS name or an IP address, without a scheme, port or brackets",
    patterns.DURATION_PATTERN: "one number and one unit of ms, s, m and h, such as 10s",
    patterns.OBJECT_NAME_PATTERN: "lower-case letters, digits, - and ., as names of Kubernetes objects have them",
    patterns.NAMESPACE_PATTERN: "lower-case letters, digits and -, as names of namespaces have them",
    patterns.DATA_KEY_PATTERN: "letters, digits, -, _ and ., as keys of Secrets have them",
    patterns.USERNAME_PATTERN: "a text without control characters",
    patterns.LABEL_KEY_PATTERN: "a label's key, such as app.kubernetes.io/name",
    patterns.LABEL_VALUE_PATTERN: "a label's value: letters, digits, -, _ and ., at most 63",
    patterns.FROM_PATTERN_PATTERN: (
        "an address in which * and {namespace} may stand, such as *@{namespace}.acme.example"
    ),
    patterns.HTTPS_URI_PATTERN: "an https address without a user and without a fragment",
    patterns.SCOPE_PATTERN: "a scope: printable characters without spaces, quotes and backslashes",
    patterns.CLIENT_ID_PATTERN: "a client ID: printable ASCII characters",
    patterns.DIRECTORY_ID_PATTERN: "a directory ID: a GUID or a domain",
    patterns.CLAIM_PATTERN: "a claim's name, such as email",
    sending.FEW_RATE_LIMITS_PATTERN: "at most four counts of messages with their seconds, such as 1000:60,10000:3600",
    sending.SIZE_PATTERN: "a size in Ki or Mi, such as 10Mi",
    sending.RECIPIENT_DOMAIN_PATTERN: "a domain, or *. and a domain for all below it",
    patterns.AUDIENCE_PATTERN: "printable ASCII characters without spaces",
}
"""What a pattern means, to people."""


def _said(kind: str, message: str, context: Mapping[str, Any]) -> str:
    """Pydantic's message in words of the API. It never holds the value, which may be anything."""
    if kind in _TYPES:
        return _TYPES[kind]
    if kind == "string_pattern_mismatch":
        form = _FORMS.get(context["pattern"])
        return f"write {form}" if form else f"it has to match {context['pattern']}"
    return message[:1].lower() + message[1:]


def _of_rule(path: Path, message: str, base: Path) -> tuple[Path, str]:
    """Where a rule's message belongs: it names the field, from `base` or from the model whose rule it is."""
    named, _, rest = message.partition(": ")
    absolute: Path = (*base, *named.split("."))
    if absolute[: len(path)] == path:
        return absolute, rest
    return path, rest


def _advice(spec: BaseModel) -> list[Advice]:
    effective = own_server(spec)
    if effective is None:
        return []
    if isinstance(spec, ClusterMailServerSettingsSpec):
        return cluster_advice(spec, effective)
    return server_advice(effective)


def own_server(spec: BaseModel | None) -> EffectiveSettings | None:
    """The settings of a spec with a server of its own; None: it is refused, uses the system's, or is of a test."""
    if isinstance(spec, ClusterMailServerSettingsSpec):
        return own_settings(spec, source=Source.SYSTEM, name="", generation=0)
    if isinstance(spec, MailServerSettingsSpec) and not spec.inherits:
        return own_settings(spec, source=Source.TENANT, name="", generation=0)
    return None


def check_references(settings: Iterable[Settings]) -> None:
    """Notes where settings refer to a Secret that others of them have delivered, which the operator does not allow."""
    everything = [*settings]
    delivered = {place for each in everything for place in _delivered(each)}
    for each in everything:
        effective = own_server(each.spec) if each.kind.namespaced else None
        for path, ref in referring_fields(effective) if effective is not None else ():
            if ref.kind == "Secret" and not {(each.namespace, ref), ("*", ref)}.isdisjoint(delivered):
                message = f"the Secret {ref.name!r} is one that the operator delivers; refer to one of your own"
                each.add(("spec", *path.split(".")), message, Severity.WARNING)


def _delivered(settings: Settings) -> Iterator[tuple[str, ObjectRef]]:
    """Namespace, or `*` for all of them, and Secret."""
    spec = settings.spec
    if isinstance(spec, MailServerSettingsSpec) and settings.name:
        given = spec.output.secret_name if spec.output else None
        yield settings.namespace, ObjectRef("Secret", given or names.default_secret_name(settings.name))
    tenants = spec.tenants if isinstance(spec, ClusterMailServerSettingsSpec) else None
    if tenants is not None and tenants.provision is Provision.ALWAYS:
        yield "*", ObjectRef("Secret", names.ALWAYS_SECRET_NAME)


def shown(path: Path) -> str:
    """A path for people: `spec.tenants.namespaces[2]`."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return text.removeprefix(".")
