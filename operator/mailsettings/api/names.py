"""Names that users, manifests and other programs rely on: the group, the kinds, labels and annotations."""

from typing import Final

GROUP: Final = "mailsettings.dev"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"

CLUSTER_KIND: Final = "ClusterMailServerSettings"
CLUSTER_PLURAL: Final = "clustermailserversettings"
TENANT_KIND: Final = "MailServerSettings"
TENANT_PLURAL: Final = "mailserversettings"
TEST_KIND: Final = "MailServerTest"
TEST_PLURAL: Final = "mailservertests"

OPERATOR_NAMESPACE: Final = "mailsettings-system"
"""Where the manifests install the operator; `config.Config.namespace` holds the one that is in force."""

DEFAULT_SETTINGS: Final = "default"
"""The cluster object that tenants inherit from when they name none; the only one that may `provision: Always`."""

FIELD_MANAGER: Final = "mailsettings-operator"
"""The operator's name in server-side apply, and the component that its events come from."""

RELAY_FIELD_MANAGER: Final = "mailsettings-relay"
"""The name under which the relay writes."""

PLUGIN_FIELD_MANAGER: Final = "kubectl-mailsettings"
"""The name under which a person's `kubectl mailsettings` writes."""

SECRET_TYPE: Final = "servicebinding.io/smtp"
"""The type of a delivered Secret. Source: Service Binding for Kubernetes 1.1, Well-known Secret Entries."""

OPERATOR_KEY_TYPE: Final = f"{GROUP}/operator-key"
"""The type of the Secret that holds the operator's own random key."""

OPERATOR_KEY_NAME: Final = "mailsettings-operator-key"

MAIL_LEDGER_TYPE: Final = f"{GROUP}/mail-ledger"
"""The type of the Secrets in which test mails are counted."""


def mail_ledger_name(shard: str) -> str:
    """The name, in the operator's namespace, of a part of the ledger of test mails."""
    return f"mail-ledger-{shard}"


LEASE_NAME: Final = "mailsettings-operator"
"""The Lease, in the operator's namespace, whose holder is the one of several replicas that acts."""

TOKEN_TYPE: Final = f"{GROUP}/oauth2-token"
TOKEN_PREFIX: Final = "oauth2-"


def token_secret_name(uid: str) -> str:
    """The name, in the operator's namespace, of the Secret with the OAuth2 token of a settings object."""
    return f"{TOKEN_PREFIX}{uid}"


FINALIZER: Final = f"{GROUP}/revoke-token"
"""On settings whose refresh token is to be revoked at the provider before they go."""

LABEL_TOKEN_OF: Final = f"{GROUP}/oauth2-token-of"
"""On a Secret with an OAuth2 token: the uid of the settings object that it belongs to."""

ANNOTATION_CLAIM: Final = f"{GROUP}/claim"
"""On a Secret with an OAuth2 token: who is renewing the token, and until when nobody else may."""

ANNOTATION_DROPPED: Final = f"{GROUP}/dropped"
"""On a Secret with an OAuth2 token: `"true"` while it is empty because its token belonged to other settings."""

CONSENT_TYPE: Final = f"{GROUP}/consent"
"""The type of a Secret through which a person's consent reaches the operator."""

CONSENT_PREFIX: Final = "mailsettings-consent-"


def consent_secret_name(flow: str) -> str:
    """The name, in the operator's namespace, of the Secret with the answer to one attempt in a browser."""
    return f"{CONSENT_PREFIX}{flow}"


RELAY_NAMESPACE: Final = "mailsettings-relay"
"""Where the manifests install the relay; `config.Config.relay_namespace` holds the one that is in force."""

RELAY_SERVICE: Final = "mailsettings-relay"
"""The relay's Service, in its namespace."""

RELAY_PORT: Final = 587

RELAY_AUDIENCE: Final = "mailsettings-relay"
"""What a projected ServiceAccount token has to be for that is shown to the relay."""

BUNDLE_TYPE: Final = f"{GROUP}/relay-bundle"
"""The type of a Secret that the operator writes for the relay."""

BUNDLE_PREFIX: Final = "bundle-"

LABEL_BUNDLE_OF: Final = f"{GROUP}/relay-bundle-of"
"""On a Secret of type `BUNDLE_TYPE`: the uid of the settings whose mail server it leads to."""

SLOT_PREFIX: Final = "slot-"
"""Of the names of the Leases, in the relay's namespace, that stand for the connections that a provider permits."""

LABEL_SLOT_OF: Final = f"{GROUP}/slot-of"
"""On such a Lease: the uid of the settings whose login it is about."""

ANNOTATION_WANTED: Final = f"{GROUP}/slot-wanted-by"
"""On such a Lease: who waits for its holder to give it up."""

ANNOTATION_USER: Final = f"{GROUP}/slot-used-by"
"""On such a Lease: whose messages go through it, by namespace, as of its holder's last renewal."""

ANNOTATION_SPENT: Final = f"{GROUP}/slot-messages"
"""On such a Lease that nobody holds: how many messages were begun under it in the minute before it was given up."""

LABEL_REPORT: Final = f"{GROUP}/relay-report"
"""On a ConfigMap in the relay's namespace: `"true"` where it is what a replica reports."""

REPORT_PREFIX: Final = "report-"
REFUSED_TOKENS_PREFIX: Final = "report-tokens-"

RELAY_TLS_NAME: Final = "mailsettings-relay-tls"
"""The Secret, in the relay's namespace, with the relay's certificate."""

RELAY_CA_TYPE: Final = f"{GROUP}/relay-ca"
RELAY_CA_NAME: Final = "mailsettings-relay-ca"
"""The Secret, in the operator's namespace, with the authority that issues the relay's certificate."""

AUTHORIZE_PREFIX: Final = "mailsettings-authorize-"
"""What the API server makes the names of the Secrets from that `kubectl mailsettings authorize` creates."""

LABEL_CONSENT_OF: Final = f"{GROUP}/consent-of"
"""On a Secret of type `CONSENT_TYPE`: the uid of the settings that the consent is for."""

LABEL_MANAGED_BY: Final = "app.kubernetes.io/managed-by"
MANAGED_BY: Final = "mailsettings"
LABEL_SETTINGS: Final = f"{GROUP}/settings"
"""On a delivered Secret: the name of the settings object that it belongs to."""

LABEL_REFERABLE: Final = f"{GROUP}/referable"
"""On a Secret: `"true"` lets settings refer to it, where the operator requires that opt-in."""

ANNOTATION_SOURCE: Final = f"{GROUP}/source"
"""On a delivered Secret: which object the values come from, as `Kind/name` or `Kind/namespace/name`."""

ANNOTATION_SOURCE_GENERATION: Final = f"{GROUP}/source-generation"
"""On a delivered Secret: the `metadata.generation` of that object."""

ANNOTATION_CONTENT: Final = f"{GROUP}/content"
"""On a delivered Secret: a keyed digest of its content, by which the operator knows it without reading it. What is
exchanged with each access token is not in it."""

ANNOTATION_TOKEN: Final = f"{GROUP}/token"
"""On a delivered Secret: which access token it holds, as `FINGERPRINT/SERIAL`. Neither tells anything about it: the one
is a digest of what the spec says openly of whom the token belongs to, the other a random name."""

ANNOTATION_EXPIRES_AT: Final = f"{GROUP}/expires-at"
"""On a Secret with a client secret or a service account's key: when that runs out, as RFC 3339 has dates and times."""

ANNOTATION_PROBE_REQUESTED_AT: Final = f"{GROUP}/probe-requested-at"
"""On settings: a new value asks for one probe now. Any text; a time is usual."""

ANNOTATION_ROTATE_REQUESTED_AT: Final = f"{GROUP}/rotate-requested-at"
"""On settings with OAuth2 a new value asks for one renewal of the token now, on settings that the relay sends for it
asks for a new password. A text of 64 characters at most, of which only a change counts; a time is usual."""

ANNOTATION_ALLOW_DELETION: Final = f"{GROUP}/allow-deletion"
"""On a cluster object that tenants inherit from: `"true"` lets it be deleted."""

RESERVED_PREFIX: Final = f"{GROUP}/"

MAX_NAME_LENGTH: Final = 63
"""Of a settings object: its name becomes a label value."""


def default_secret_name(settings_name: str) -> str:
    """The name of the delivered Secret when `output.secretName` is absent."""
    return f"{settings_name}-smtp"


def relay_username(namespace: str, settings_name: str) -> str:
    """The login at the relay: what is before the first dot is the namespace, in which there are none."""
    return f"{namespace}.{settings_name}"


ALWAYS_SECRET_NAME: Final = default_secret_name(DEFAULT_SETTINGS)
"""The name of the Secret that `provision: Always` delivers."""
