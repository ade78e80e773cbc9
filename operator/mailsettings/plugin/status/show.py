"""How chains are shown to people, as lines. Pure."""

import textwrap
from collections.abc import Iterator
from typing import Final

from mailsettings.plugin.advice import advice_lines
from mailsettings.plugin.status.chain import Chain, Link, Node, State
from mailsettings.plugin.terminal import Style

Line = tuple[str, Style | None]

_MARKS: Final = {State.GOOD: "✓", State.FAILED: "✗", State.WAITING: "…", State.UNKNOWN: "?"}
_STYLES: Final = {State.GOOD: Style.GOOD, State.FAILED: Style.BAD, State.WAITING: Style.PENDING, State.UNKNOWN: None}

_HERE: Final = "  <-- here"
_UNBROKEN_HERE: Final = "\N{NO-BREAK SPACE}here"
_NAME_COLUMNS: Final = 12
_PLAIN: Final = str.maketrans({"✓": "+", "✗": "x", "…": "~", "├": "|", "└": "`", "─": "-", "│": "|"})


def in_ascii(line: str) -> str:
    """For a terminal that has no other characters."""
    return line.translate(_PLAIN)


def brief(chain: Chain) -> Line:
    """A chain in one line."""
    node = chain.last
    links = {link.name: link for link in node.links}
    parts = [f"{_MARKS[node.state]} {node.title}", node.reason]
    if chain.tenant is not None and "Secret" in links:
        parts.append(f"Secret {links['Secret'].detail}".strip())
    if chain.tenant is not None and chain.system is not None:
        parts.append(f"from cmss/{chain.system.name}")
    return "  ".join(filter(None, parts)), _STYLES[node.state]


def whole(chain: Chain, columns: int) -> Iterator[Line]:
    """A chain link by link.

    Args:
        chain: The chain.
        columns: How wide a line may be.
    """
    found = chain.failing
    failing = found[1] if found is not None else None
    nodes = [node for node in (chain.system, chain.tenant) if node is not None]
    yield from _node(nodes[0], nodes[1:], failing, "", "", columns)


def _node(node: Node, below: list[Node], failing: Link | None, first: str, rest: str, columns: int) -> Iterator[Line]:
    reason = f"  {node.reason}" if node.reason else ""
    yield f"{first}{_MARKS[node.state]} {node.title}{reason}", _STYLES[node.state]
    if node.server:
        for line in _wrapped(node.server, f"{rest}│ ", columns):
            yield line, None
    items: list[Link | Node] = [*node.links, *below[:1]]
    for index, item in enumerate(items):
        is_last = index == len(items) - 1
        branch, under = (f"{rest}└─ ", f"{rest}   ") if is_last else (f"{rest}├─ ", f"{rest}│  ")
        if isinstance(item, Node):
            yield from _node(item, below[1:], failing, branch, under, columns)
        else:
            yield from _link(item, failing, branch, under, columns)


def _link(link: Link, failing: Link | None, branch: str, under: str, columns: int) -> Iterator[Line]:
    said = ", ".join(filter(None, (link.reason, link.detail)))
    text = f"{branch}{_MARKS[link.state]} {link.name:<{_NAME_COLUMNS}} {said}".rstrip()
    here = _HERE if link is failing else ""
    style = _STYLES[link.state] if link.state is not State.GOOD else None
    if len(text) + len(here) <= columns:
        yield f"{text}{here}", style
    else:
        head = f"{branch}{_MARKS[link.state]} {link.name:<{_NAME_COLUMNS}} "
        # The mark is wrapped as one word.
        marked = f"{said}{here.replace(' here', _UNBROKEN_HERE)}"
        lines = textwrap.wrap(marked, columns - len(head), break_long_words=False, break_on_hyphens=False)
        for index, line in enumerate(lines):
            lead = head if index == 0 else under.ljust(len(head))
            yield f"{lead}{line.replace(_UNBROKEN_HERE, ' here')}", style
    reason = link.reason if link.docs or link is failing else ""
    for text in (link.message, *advice_lines(link.remedy, link.commands, link.docs, reason)):
        for line in _wrapped(text, f"{under}  ", columns):
            yield line, None if text.startswith(" ") else style
    if link.dialogue:
        yield f"{under}  What was said:", None
        for text in link.dialogue:
            for line in _wrapped(text, f"{under}    ", columns):
                yield line, None


def _wrapped(text: str, indent: str, columns: int) -> list[str]:
    if text.startswith(" "):  # for copying
        return [f"{indent}{text}"]
    # Addresses and names stay whole, so that they can be copied.
    return textwrap.wrap(
        text,
        columns,
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
