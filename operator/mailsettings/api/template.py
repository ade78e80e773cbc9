"""What `output.template` may ask for: the placeholders and the names of the presets."""

from enum import StrEnum
from typing import Final


class Preset(StrEnum):
    """An application or library whose own form of the settings can be delivered."""

    DJANGO = "Django"
    GRAFANA = "Grafana"
    KEYCLOAK = "Keycloak"
    NODEMAILER = "Nodemailer"
    SPRING = "Spring"
    SYMFONY = "Symfony"
    THINGSBOARD = "ThingsBoard"


PRESET_LIMITS: Final = {
    "tls.mode": "Grafana uses implicit TLS on port 465 and nowhere else: with `Implicit` on another port it sends "
    "nothing, with `StartTLS` on port 465 it uses implicit TLS.",
    "tls.caBundle": "Nodemailer has it. Django, Grafana, Keycloak, Spring, Symfony and ThingsBoard need it in their "
    "own trust store: mount the key `ca.crt` of the Secret and add it there.",
    "tls.serverName": "Nodemailer has it. The others compare the certificate with the host.",
    "tls.minVersion": "Nodemailer, Spring and ThingsBoard have it. The others use what their TLS library permits.",
    "tls.insecureSkipVerify": "Grafana, Nodemailer and Symfony have it. With Spring the certificate's name is not "
    "compared, but it must be one that Java trusts. The others go on checking certificates.",
}
"""What of `connection` the presets cannot carry, for the documentation."""

PLACEHOLDERS: Final = {
    "host": "the server's host",
    "port": "the server's port",
    "protocol": "`smtp`, or `smtps` for implicit TLS",
    "tls": "`Disabled`, `StartTLS` or `Implicit`",
    "from": "the sender as it stands in a From header",
    "from-address": "the sender's address alone",
    "from-name": "the sender's display name, or nothing",
    "reply-to": "the Reply-To, or nothing",
    "username": "the user name, or nothing",
    "username:url": "the user name, percent-encoded for a URL",
    "password": "the password, or nothing",
    "password:url": "the password, percent-encoded for a URL",
    "uri": "the whole server as a URL with its login",
}
"""What may stand as `${name}` in a value of `output.template.data`, and what it becomes."""

PLACEHOLDER_TEXT_PATTERN: Final = r"^([^$]|\$\$|\$\{(" + "|".join(PLACEHOLDERS) + r")\})*$"
"""A text in which every dollar sign is `$$` or begins a known placeholder."""

BUILT_IN_KEYS: Final = {
    "type": "`smtp`",
    "provider": "whose server it is, in lower case",
    "host": "the server's host",
    "port": "the server's port",
    "protocol": "`smtp`, or `smtps` for implicit TLS",
    "tls": "`Disabled`, `StartTLS` or `Implicit`",
    "from": "the sender",
    "reply-to": "where answers go, when the settings say so",
    "username": "the user name, where there is a login",
    "password": "the password, where the login has one",
    "access-token": "the OAuth2 access token, instead of a password; replaced again and again",
    "expires-at": "when the access token runs out: `2026-11-22T16:40:00Z`",
    "tls-server-name": "the name that the server's certificate bears, when it is not the host",
    "tls-insecure-skip-verify": "`true`, when the settings accept any certificate",
    "ca.crt": "the certificates to trust (PEM), when the settings name their own",
    "uri": "the server as a URL with its login, an access token left out",
}
"""The keys of every delivered Secret. Source: Service Binding for Kubernetes 1.1, Well-known Secret Entries."""

RESERVED_KEYS: Final = (*BUILT_IN_KEYS,)
"""Keys that `output.template.data` may not set."""
