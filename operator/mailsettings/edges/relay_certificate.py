"""The relay's certificate: cert-manager's, or one that the operator issues and renews under an authority of its own."""

import base64
import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from mailsettings.api import names
from mailsettings.edges.kubernetes import ApiError, Json, KubernetesApi, core_collection_path, core_path

AUTHORITY_LIFE: Final = timedelta(days=3650)
CERTIFICATE_LIFE: Final = timedelta(days=90)
RENEWED_BEFORE: Final = timedelta(days=30)
AUTHORITY_RENEWED_BEFORE: Final = 2 * CERTIFICATE_LIFE
"""An authority must outlive what it issues."""

BACKDATED: Final = timedelta(minutes=5)
"""For clocks that are behind."""

LOOK_AGAIN: Final = timedelta(hours=6)

FOREIGN: Final = "cert-manager.io/certificate-name"
"""On a Secret that cert-manager keeps, whoever made it."""


@dataclass(frozen=True, slots=True)
class KeptCertificate:
    """What clients need to know of the certificate."""

    ca_bundle: str
    """What it is trusted by, in PEM; empty: the public authorities."""
    look_again_s: float
    """After how many seconds it is to be looked at again."""


@dataclass(frozen=True, slots=True)
class Authority:
    """Issues the certificate."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def pem(self) -> str:
        """Its certificate."""
        return _pem(self.certificate)


def relay_hosts(namespace: str, host: str) -> list[str]:
    """The names by which clients may call the relay's Service, and the one that they are told."""
    service = names.RELAY_SERVICE
    short = f"{service}.{namespace}"
    return list(dict.fromkeys((host, f"{short}.svc", f"{short}.svc.cluster.local", short, service)))


def new_authority(now: datetime) -> Authority:
    """One that is good for `AUTHORITY_LIFE`."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mailsettings relay")])
    usage = _usage(key_cert_sign=True, crl_sign=True)
    certificate = (
        _builder(name, name, key.public_key(), now, AUTHORITY_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .sign(key, hashes.SHA256())
    )
    return Authority(certificate, key)


def issue(authority: Authority, hosts: list[str], now: datetime) -> tuple[str, str]:
    """A certificate for these hosts and its key, in PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names.RELAY_SERVICE)])
    certificate = (
        _builder(name, authority.certificate.subject, key.public_key(), now, CERTIFICATE_LIFE)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([_general_name(host) for host in hosts]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()), critical=False)
        .sign(authority.key, hashes.SHA256())
    )
    return _pem(certificate), _key_pem(key)


def is_good(certificate: str, authority: Authority, hosts: list[str], now: datetime) -> bool:
    """Whether a certificate is the authority's, for these hosts, and not due for renewal."""
    try:
        found = x509.load_pem_x509_certificate(certificate.encode())
        found.verify_directly_issued_by(authority.certificate)
        alternatives = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound):
        return False
    return list(alternatives) == [_general_name(host) for host in hosts] and now < found.not_valid_after_utc - (
        RENEWED_BEFORE
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime, life: timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + life)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(*, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode("ascii")


def _key_pem(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode("ascii")


class RelayCertificates:
    """Keeps the Secret with the relay's certificate."""

    def __init__(self, api: KubernetesApi, namespace: str, relay_namespace: str, *, hosts: list[str]) -> None:
        """Nothing is read yet.

        Args:
            api: The connection.
            namespace: The operator's, where the authority is kept.
            relay_namespace: The relay's, where the certificate is.
            hosts: What it is for.
        """
        self._api = api
        self._namespace = namespace
        self._relay_namespace = relay_namespace
        self._hosts = hosts

    async def keep(self) -> KeptCertificate:
        """Has a certificate there, and says what it is trusted by.

        Raises:
            ApiError: The API server refused; 404: there is no such namespace.
        """
        found = await self._api.get(core_path("secrets", self._relay_namespace, names.RELAY_TLS_NAME))
        if found is not None and not _is_ours(found):
            return KeptCertificate(_text(found, "ca.crt"), LOOK_AGAIN.total_seconds())
        now = datetime.now(UTC)
        authority = await self._authority(now)
        current = found is not None and is_good(_text(found, "tls.crt"), authority, self._hosts, now)
        if found is None or not current or _text(found, "ca.crt") != authority.pem:
            certificate, key = issue(authority, self._hosts, now)
            await self._write(certificate, key, authority.pem)
        return KeptCertificate(authority.pem, LOOK_AGAIN.total_seconds())

    async def _write(self, certificate: str, key: str, ca_bundle: str) -> None:
        body = self._secret(self._relay_namespace, names.RELAY_TLS_NAME, "kubernetes.io/tls")
        body["data"] = _data({"tls.crt": certificate, "tls.key": key, "ca.crt": ca_bundle})
        await self._api.apply(core_path("secrets", self._relay_namespace, names.RELAY_TLS_NAME), body, force=True)

    async def _authority(self, now: datetime) -> Authority:
        path = core_path("secrets", self._namespace, names.RELAY_CA_NAME)
        found = await self._api.get(path)
        authority = _parsed(found) if found is not None else None
        if authority is not None and now < authority.certificate.not_valid_after_utc - AUTHORITY_RENEWED_BEFORE:
            return authority
        if found is not None:
            await self._api.delete(path, uid=found["metadata"]["uid"])
        made = new_authority(now)
        body = self._secret(self._namespace, names.RELAY_CA_NAME, names.RELAY_CA_TYPE)
        body["data"] = _data({"tls.crt": made.pem, "tls.key": _key_pem(made.key)})
        try:
            await self._api.create(core_collection_path("secrets", self._namespace), body)
        except ApiError as error:
            if not error.is_conflict:
                raise
            found = await self._api.get(path)  # another replica was faster
            theirs = _parsed(found) if found is not None else None
            if theirs is None:
                raise
            return theirs
        return made

    def _secret(self, namespace: str, name: str, kind: str) -> Json:
        return {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "namespace": namespace,
                "name": name,
                "labels": {names.LABEL_MANAGED_BY: names.MANAGED_BY},
            },
            "type": kind,
        }


def _is_ours(secret: Json) -> bool:
    metadata = secret["metadata"]
    labels, annotations = metadata.get("labels") or {}, metadata.get("annotations") or {}
    return labels.get(names.LABEL_MANAGED_BY) == names.MANAGED_BY and FOREIGN not in annotations


def _parsed(secret: Json) -> Authority | None:
    try:
        key = serialization.load_pem_private_key(_text(secret, "tls.key").encode(), password=None)
        certificate = x509.load_pem_x509_certificate(_text(secret, "tls.crt").encode())
    except (ValueError, TypeError):
        return None
    return Authority(certificate, key) if isinstance(key, ec.EllipticCurvePrivateKey) else None


def _text(secret: Json, key: str) -> str:
    try:
        return base64.b64decode((secret.get("data") or {}).get(key, ""), validate=True).decode()
    except ValueError:
        return ""


def _data(values: dict[str, str]) -> dict[str, str]:
    return {key: base64.b64encode(value.encode()).decode("ascii") for key, value in values.items()}
