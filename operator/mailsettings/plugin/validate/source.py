"""Reads manifests and remembers in which line each field is. Pure.

A plain scalar is read as kubectl reads it, which differs from PyYAML: `on` and `y` are truths, dates and `12:30` are
texts, `1e3` is a number. Source: sigs.k8s.io/yaml, which is go.yaml.in/yaml/v2, resolve.go.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

Path = tuple[str | int, ...]
"""Where a field is: the keys and indices that lead to it."""

MAX_NODES: Final = 1_000_000
"""Of one document, with its aliases expanded: a small file can mean an endless one."""

_TAG: Final = "tag:yaml.org,2002:"
_TRUE: Final = ("y", "yes", "true", "on")


class SourceError(ValueError):
    """The text cannot be read; what is wrong and in which line, counted from 1."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line


@dataclass(frozen=True, slots=True)
class Document:
    """One document of a file."""

    value: Any
    """As JSON has it."""
    lines: Mapping[Path, int]
    """Counted from 1; of a field that is the line of its name."""

    def line(self, path: Path) -> int:
        """The line of a field, or of the nearest one around it that is there."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines[path]


class _Loader(yaml.SafeLoader):
    """Composes nodes; what a plain scalar is, is said below."""

    yaml_implicit_resolvers: dict[Any, Any] = {}  # noqa: RUF012 - the base class has it as this


def _resolve(kind: str, pattern: str) -> None:
    _Loader.add_implicit_resolver(f"{_TAG}{kind}", re.compile(f"^(?:{pattern})$", re.ASCII), None)


_resolve("merge", "<<")
_resolve("null", "~|null|Null|NULL|")
_resolve("bool", "y|Y|yes|Yes|YES|n|N|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF")
_resolve("int", "[-+]?(?:0[xX][0-9a-fA-F_]+|0[bB][01_]+|0[oO]?[0-7_]+|[1-9][0-9_]*|0)")
_resolve("float", r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")


def is_plain_text(text: str) -> bool:
    """Whether it is a text to kubectl also without quotes, as far as its form is concerned."""
    return not any(pattern.match(text) for _, pattern in _Loader.yaml_implicit_resolvers[None])


def documents(text: str) -> Iterator[Document]:
    """The documents of a text, YAML or JSON, without those that are empty.

    Raises:
        SourceError: The text is no YAML from there on.
    """
    if text.lstrip().startswith("{"):
        text = text.replace("\t", " ")  # JSON indents with them, YAML must not; within JSON's texts there are none
    try:
        loader = _Loader(text)
        while loader.check_node():
            node = loader.get_node()
            document = _document(loader, node) if node is not None else None
            if document is not None and document.value is not None:
                yield document
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise SourceError(mark.line + 1 if mark else 1, f"this is no YAML: {error.problem or error.context}") from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise SourceError(line, "this is no YAML: a character that may not be there") from None
    except RecursionError:
        raise SourceError(1, "this is nested too deeply") from None


def _document(loader: _Loader, node: yaml.Node) -> Document:
    reading = _Reading(loader)
    return Document(reading.value(node, ()), reading.lines)


@dataclass(slots=True)
class _Reading:
    loader: _Loader
    lines: dict[Path, int] = field(default_factory=dict)

    def value(self, node: yaml.Node, path: Path) -> Any:  # noqa: ANN401 - whatever JSON holds
        line = node.start_mark.line + 1
        self.lines.setdefault(path, line)
        if len(self.lines) > MAX_NODES:
            raise SourceError(line, f"this is larger than {MAX_NODES} fields")
        if isinstance(node, yaml.MappingNode):
            return self._object(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, (*path, index)) for index, item in enumerate(node.value)]
        return _scalar(node)

    def _object(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.tag == f"{_TAG}merge":
                continue
            name = _key(key)
            if name in seen:
                raise SourceError(key.start_mark.line + 1, f"{name!r} is there twice")
            seen.add(name)
        self.loader.flatten_mapping(node)
        fields = {_key(key): (key, item) for key, item in node.value}
        found = {}
        for name, (key, item) in fields.items():
            self.lines[*path, name] = key.start_mark.line + 1
            found[name] = self.value(item, (*path, name))
        return found


def _key(node: yaml.Node) -> str:
    if not isinstance(node, yaml.ScalarNode):
        raise SourceError(node.start_mark.line + 1, "a field's name has to be a text")
    value = _scalar(node)
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else str(node.value)


def _scalar(node: yaml.Node) -> Any:  # noqa: ANN401 - whatever JSON holds
    text: str = node.value
    match node.tag.removeprefix(_TAG):
        case "null":
            return None
        case "bool":
            return text.lower() in _TRUE
        case "int":
            return _integer(text, node)
        case "float":
            return _number(float, text.lower().replace(".inf", "inf").replace(".nan", "nan"), node)
        case "str":
            return _joined(text)
        case _:
            raise SourceError(node.start_mark.line + 1, f"the tag {node.tag} means nothing here")


def _integer(text: str, node: yaml.Node) -> float:
    digits = text.replace("_", "").lower()
    if re.fullmatch("[-+]?0[0-7]+", digits):
        digits = digits.replace("0", "0o", 1)
    return _number(lambda literal: int(literal, 0), digits, node)


def _number(convert: Callable[[str], float], literal: str, node: yaml.Node) -> float:
    try:
        return convert(literal)
    except ValueError:
        raise SourceError(node.start_mark.line + 1, f"{node.value!r} is no number") from None


def _joined(text: str) -> str:
    r"""JSON writes a character beyond U+FFFF as two escapes, which YAML takes for two characters."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
