"""`docs/troubleshooting.md`, written from the table of causes."""

import textwrap
from typing import Final

from mailsettings.core.causes.catalog import CATALOG, Entry, Mover, Retry
from mailsettings.core.causes.cause import Cause

_COLUMNS: Final = 120

_INTRODUCTION: Final = """\
<!-- Made from operator/mailsettings/core/causes by: make crds -->
# Troubleshooting

Why mail cannot be sent, and what to do. Every failure has one of these causes, whatever the words that a server or a
library has for it. Hand a failure of your own to `kubectl mailsettings diagnose` (in the operator's image
`mailsettings-operator diagnose`), and it names the cause:

```console
$ kubectl mailsettings diagnose --provider Office365 --stage auth \\
    '535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is
    disabled for the Tenant.'
$ kubectl mailsettings explain SmtpAuthDisabledTenant
```

Where no rule knows the words, the cause is what the codes of the reply, or else the step that failed, most often mean,
and the diagnosis says so.

The conditions of settings have these causes as their reasons, with the remedy and a link to its section in the message;
where only codes were known, the message says *Probably*. Causes that only an identity provider can name have other
reasons there, all in [reference.md](reference.md#reasons). `kubectl mailsettings explain` knows them all, without a
cluster and without a network.

A change of the settings, or of a Secret that they refer to, is tried at once. After any other, such as at the mail
server, have it tried, and look at the conditions again:

```shell
kubectl annotate mss mail -n shop --overwrite \\
    mailsettings.dev/probe-requested-at="$(date -u +%FT%TZ)"
```

[`kubectl mailsettings test mail`](testing.md) tries it too and shows each step, but leaves the conditions as they are.
"""

_MOVES: Final = {
    Mover.TENANT: "yours, who wrote the settings",
    Mover.ADMIN: "the administrator's, of the cluster, the network, the directory or the mail server",
    Mover.PROVIDER: "the mail provider's, or of whoever runs the other server",
}
_RETRIES: Final = {
    Retry.NO: "Trying again changes nothing before that.",
    Retry.LATER: "It may pass by itself; trying again later is worth while.",
}


def render() -> str:
    """The whole page."""
    rows = [f"| [{cause}](#{cause.lower()}) | {entry.title} | {entry.mover} |" for cause, entry in CATALOG.items()]
    table = "\n".join(("| Cause | What is wrong | Whose move |", "|---|---|---|", *rows))
    return "\n".join((_INTRODUCTION, table, *(_section(cause, entry) for cause, entry in CATALOG.items())))


def _section(cause: Cause, entry: Entry) -> str:
    paragraphs = [
        f"\n## {cause}",
        f"**{entry.title}.** {_escaped(cause.meaning)}",
        _escaped(entry.remedy),
        *(["```shell\n" + "\n".join(entry.commands) + "\n```"] if entry.commands else []),
        f"The next move is {_MOVES[entry.mover]}. {_RETRIES[entry.retry]}",
    ]
    return "\n\n".join(map(_wrapped, paragraphs)) + "\n"


def _wrapped(paragraph: str) -> str:
    if paragraph.startswith(("```", "\n## ")):
        return paragraph
    return textwrap.fill(paragraph, _COLUMNS, break_long_words=False, break_on_hyphens=False)


def _escaped(text: str) -> str:
    return text.replace("*", r"\*")
