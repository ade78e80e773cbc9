"""Every word that a person can be told in place of a reason, and what it means: one table for looking up. Pure."""

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from mailsettings.api.conditions import ConditionType, Reason
from mailsettings.core.causes.catalog import CATALOG
from mailsettings.core.causes.cause import Cause
from mailsettings.core.causes.reasons import CAUSES, REASONS, docs_of
from mailsettings.core.causes.records import explanation, to_entry
from mailsettings.plugin.explain.own import OWN

MAX_SUGGESTIONS: Final = 5


class Group(StrEnum):
    """What kind of word it is."""

    heading: str

    def __new__(cls, value: str, heading: str = "") -> "Group":
        """A member with its heading."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.heading = heading
        return member

    CAUSE = ("cause", "Causes: what is wrong, also as reasons of conditions and of events")
    REASON = ("reason", "Other reasons of conditions and of events")
    CONDITION = ("condition", "Types of conditions")
    COMMAND = ("command", "What only the commands of this plugin say")


@dataclass(frozen=True, slots=True)
class Term:
    """One word in one of its meanings."""

    name: str
    group: Group
    title: str
    """In a few words, or in one sentence."""


TERMS: Final[tuple[Term, ...]] = (
    *(Term(str(cause), Group.CAUSE, CATALOG[cause].title) for cause in Cause),
    *(
        Term(str(reason), Group.REASON, reason.doc.replace("`", ""))
        for reason in Reason
        if reason.value not in [*Cause]
    ),
    *(Term(str(kind), Group.CONDITION, kind.doc) for kind in ConditionType),
    *(Term(name, Group.COMMAND, meaning) for name, meaning in OWN.items() if name not in [*Reason]),
)
"""In the order in which they are listed. A word may be there twice, as a reason and as a type of condition."""

_REMEDIES: Final[Mapping[Reason, str]] = {
    Reason.SPEC_INVALID: "Correct the field that the condition's message names; kubectl mailsettings validate judges a "
    "manifest before it is applied.",
    Reason.SYSTEM_SETTINGS_NOT_FOUND: "Have an administrator create it, correct systemSettingsRef, or give these "
    "settings a server of their own.",
    Reason.NOT_ALLOWED: "Ask an administrator to admit the namespace in spec.tenants of the system's settings, or give "
    "these settings a server of their own.",
    Reason.SYSTEM_SETTINGS_NOT_ACCEPTED: "An administrator corrects the system's settings: kubectl mailsettings status "
    "--cluster shows what is wrong there.",
    Reason.SECRET_NOT_FOUND: "Create the Secret that the condition's message names in the namespace of the settings "
    "(of a cluster object in the operator's), or correct the reference.",
    Reason.SECRET_KEY_MISSING: "Add the key that the condition's message names to the Secret, or correct the "
    "reference.",
    Reason.SECRET_VALUE_INVALID: "Write the value into the Secret anew, without a line break at its end: kubectl "
    "create secret generic --from-literal keeps one out.",
    Reason.SECRET_NOT_REFERABLE: 'Label the Secret mailsettings.dev/referable: "true", if these settings may use it.',
    Reason.CONFIG_MAP_NOT_FOUND: "Create the ConfigMap that the condition's message names in the namespace of the "
    "settings (of a cluster object in the operator's), or correct the reference.",
    Reason.CONFIG_MAP_KEY_MISSING: "Add the key that the condition's message names to the ConfigMap, or correct the "
    "reference.",
    Reason.SYSTEM_CREDENTIALS_UNRESOLVED: "An administrator mends them: kubectl mailsettings status --cluster shows "
    "what is missing.",
    Reason.TOKEN_PENDING: "Wait a little. If it stays so, the condition's message and the operator's log say why.",
    Reason.TOKEN_DROPPED: "With a person's consent give it again: kubectl mailsettings authorize. Otherwise the "
    "operator gets a new token by itself.",
    Reason.TOKEN_NOT_STORED: "An administrator lets the operator write Secrets in its own namespace: look at quotas, "
    "admission policies and the operator's Role.",
    Reason.RENEWAL_AT_RISK: "Renew what the event names before its date.",
    Reason.TOKEN_NOT_REVOKED: "Withdraw the consent at the provider, where the account's owner or an administrator "
    "lists the applications.",
    Reason.RENEWAL_BROKEN: "Look at the operator's log, and report the fault.",
    Reason.FEDERATION_UNAVAILABLE: "An administrator mounts the projected token and names it in "
    "MAILSETTINGS_OAUTH2_TOKEN_FILE.",
    Reason.TOKEN_REQUEST_REFUSED: "Look up what the provider says, which the condition's message has.",
    Reason.PROVIDER_ANSWER_INVALID: "Check auth.oauth2.tokenURI, and whether a proxy or a login page answers instead.",
    Reason.SECRET_NOT_OWNED: "Set output.secretName to another name, or delete the Secret of that name if nobody needs "
    "it.",
    Reason.LAST_GOOD_KEPT: "Mend the condition that is not True; the Secret follows by itself.",
    Reason.NOT_DELIVERED: "Mend the condition that is not True; the Secret follows by itself.",
    Reason.DELIVERY_REFUSED: "Mend what the condition's message says: most often a quota, an admission policy, or "
    "output.metadata.",
    Reason.RELAY_NEEDED: "Have the application send through the relay (tenants.delivery: Relay), or use a template "
    "without a password.",
    Reason.RELAY_UNAVAILABLE: "An administrator installs the relay or looks at its Pods; the Secret follows by itself.",
    Reason.SUSPENDED: "Set spec.suspend to false, or remove it.",
    Reason.EGRESS_DENIED: "Use a public server, or ask the cluster's administrator to allow this one in "
    "MAILSETTINGS_EGRESS_ALLOW. From your own machine, with validate --probe, only the addresses of cloud metadata "
    "services are left out.",
    Reason.PROBE_BROKEN: "Look at the operator's log, and report the fault.",
    Reason.SETTINGS_NOT_FOUND: "Correct the name: kubectl get mss lists those of a namespace, kubectl get cmss the "
    "system's.",
    Reason.RECIPIENT_NOT_ALLOWED: "Send to the address of mailFrom, or ask an administrator to add this one to "
    "spec.tenants.testRecipients.",
    Reason.TOO_MANY_TESTS: "Wait until some have ended, and create the test again.",
    Reason.MAIL_LIMIT_REACHED: "Wait for the next hour, or test without a mail: kubectl mailsettings test without "
    "--to.",
    Reason.INTERRUPTED: "Look whether the mail has arrived, and create the test again.",
}
"""What to do about the reasons that no cause stands behind. Those that are missing want nothing done."""

_OF_A_TIME: Final = (Reason.TOO_MANY_TESTS, Reason.MAIL_LIMIT_REACHED)
"""Reasons that pass, and yet a person must act: a test that ends with one of them is over."""


def find(word: str) -> tuple[Term, ...]:
    """A word's meanings, whatever the case of its letters and what stands between its words; empty: there are none."""
    wanted = _plain(word)
    return tuple(term for term in TERMS if _plain(term.name) == wanted)


def near(word: str) -> list[str]:
    """Names that may have been meant, the likeliest first."""
    wanted = _plain(word)
    names = {_plain(term.name): term.name for term in TERMS}
    close = difflib.get_close_matches(wanted, names, n=MAX_SUGGESTIONS, cutoff=0.7)
    within = [name for name in names if len(wanted) >= 4 and wanted in name]
    return [names[name] for name in dict.fromkeys([*close, *within])][:MAX_SUGGESTIONS]


def _plain(word: str) -> str:
    return re.sub("[^a-z0-9]", "", word.lower())


def causes_of(reason: Reason) -> list[Cause]:
    """The causes that conditions give this reason for."""
    named = [cause for cause, its in REASONS.items() if its is reason]
    return named or [CAUSES[reason]] if reason in CAUSES else named


def paragraphs(term: Term) -> list[str]:
    """For a person. What begins with a blank is for copying."""
    match term.group:
        case Group.CAUSE:
            return _of_cause(Cause(term.name))
        case Group.REASON:
            return _of_reason(Reason(term.name), term)
        case Group.CONDITION:
            more = "It is True, False or Unknown; its reason says why, and explain tells of that."
            return [f"{term.name}, a type of condition: {term.title}", more]
        case _:
            return [f"{term.name}, said by commands of this plugin: {term.title}"]


def _of_cause(cause: Cause) -> list[str]:
    told = [*explanation(cause)]
    reason = REASONS[cause]
    return told if str(reason) == str(cause) else [*told, f"Conditions have the reason {reason} for it."]


def _of_reason(reason: Reason, term: Term) -> list[str]:
    told = [f"{reason}, a reason of conditions and events: {term.title}"]
    causes = causes_of(reason)
    if len(causes) == 1:
        return [*told, "", *explanation(causes[0])]
    if causes:
        return [*told, "The condition's message says which it is:", *(f"    {_command(cause)}" for cause in causes)]
    if reason in _REMEDIES:
        told.append(f"What to do: {_REMEDIES[reason]}")
        if reason.needs_person:
            told.append("A test is not repeated by itself." if reason in _OF_A_TIME else "Waiting does not help.")
    docs = docs_of(reason)
    return [*told, f"More: {docs}"] if docs else told


def _command(cause: Cause) -> str:
    return f"kubectl mailsettings explain {cause}"


def entry(term: Term) -> dict[str, Any]:
    """For a program."""
    kind = {"name": term.name, "kind": str(term.group)}
    match term.group:
        case Group.CAUSE:
            return {**kind, **to_entry(Cause(term.name)), "reason": str(REASONS[Cause(term.name)])}
        case Group.REASON:
            reason = Reason(term.name)
            return {
                **kind,
                "meaning": term.title,
                "remedy": _REMEDIES.get(reason, ""),
                "causes": [str(cause) for cause in causes_of(reason)],
                "needsPerson": reason.needs_person,
                "docs": docs_of(reason),
            }
        case _:
            return {**kind, "meaning": term.title}
