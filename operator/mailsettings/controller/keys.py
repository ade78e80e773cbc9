"""What is reconciled: the work queue's keys."""

from enum import StrEnum
from typing import Final, NamedTuple


class Kind(StrEnum):
    """The kinds of work."""

    CLUSTER = "ClusterMailServerSettings"
    TENANT = "MailServerSettings"
    TEST = "MailServerTest"
    NAMESPACE = "Namespace"
    """A namespace's Secret by `provision: Always`."""
    BUNDLE = "Bundle"
    """What the relay is told of one login at a mail server and of the tenants that send through it."""
    CERTIFICATE = "Certificate"
    """The relay's."""
    TOKENS = "Tokens"
    """The OAuth2 tokens and consents of objects that are gone."""


COALESCE_SECONDS: Final = 1.0
"""How long a cluster object's `status.tenants` may lag behind, so that many changes make few writes."""


class Key(NamedTuple):
    """One object that is reconciled as a whole."""

    kind: Kind
    namespace: str
    """Empty for cluster objects and namespaces."""
    name: str

    def __str__(self) -> str:
        """As people write it: `MailServerSettings acme/notifications`."""
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"


SWEEP: Final = Key(Kind.TOKENS, "", "orphans")
"""Removes the tokens whose objects are gone."""


RELAY_SWEEP: Final = Key(Kind.BUNDLE, "", "")
"""Removes the relay's logins whose settings are gone."""

RELAY_CERTIFICATE: Final = Key(Kind.CERTIFICATE, "", "relay")


def bundle_key(credential: str) -> Key:
    """Of the bundles of one login at a mail server."""
    return Key(Kind.BUNDLE, "", credential)


def cluster_key(name: str) -> Key:
    """Of a ClusterMailServerSettings."""
    return Key(Kind.CLUSTER, "", name)


def tenant_key(namespace: str, name: str) -> Key:
    """Of a MailServerSettings."""
    return Key(Kind.TENANT, namespace, name)


def mail_test_key(namespace: str, name: str) -> Key:
    """Of a MailServerTest."""
    return Key(Kind.TEST, namespace, name)


def namespace_key(name: str) -> Key:
    """Of a namespace."""
    return Key(Kind.NAMESPACE, "", name)
