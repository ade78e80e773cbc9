"""What the Secrets and ConfigMaps must hold."""

import base64

import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st

from mailsettings.api.conditions import Reason
from mailsettings.api.connection import ProxyProtocol
from mailsettings.core.credentials import ObjectRef, Referenced, ReferencedObject, ResolvedSettings, references
from mailsettings.core.finding import Finding
from mailsettings.core.server import Credentials, Proxy
from tests.unit.builders import effective, resolve, resolved

SMTP = ObjectRef("Secret", "smtp")
CA = trustme.CA().cert_pem.bytes()
ZEROS = b"\x30\x82\x01\x2c" + bytes(300)  # an ASN.1 sequence of the length it states, and nothing in it
RUBBISH = b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(ZEROS) + b"-----END CERTIFICATE-----\n"
CA_BUNDLE = {"host": "h.example", "tls": {"caBundle": {"configMapKeyRef": {"name": "ca", "key": "ca.crt"}}}}


def finding(value: bytes, **fields: object) -> Finding:
    return resolve(effective(**fields), {SMTP: ReferencedObject({"password": value})})[0]


@pytest.mark.parametrize(
    ("value", "word"),
    [
        (b"", "empty"),
        (b"   ", "empty"),
        (b"\n", "empty"),
        (b"secret\n", "line break"),
        (b"secret\r\n", "line break"),
        (b"sec\r\nRCPT TO:<x>", "control"),
        (b"sec\x00ret", "control"),
        (b"sec\xffret", "UTF-8"),
        ("sec\u2028ret".encode(), "control"),
        (b"x" * 5000, "longer"),
    ],
)
def test_unusable_value_is_refused_without_being_shown(value: bytes, word: str) -> None:
    found = finding(value)
    assert (found.status, found.reason) == (False, Reason.SECRET_VALUE_INVALID)
    assert "auth.basic.passwordSecretRef" in found.message
    assert word in found.message
    assert "sec" not in found.message.replace("passwordSecretRef", "")


@given(st.binary(max_size=64))
def test_any_value_is_taken_as_it_is_or_refused(value: bytes) -> None:
    found, settings = resolve(effective(), {SMTP: ReferencedObject({"password": value})})
    if found.holds:
        assert settings is not None
        assert isinstance(settings.credentials, Credentials)
        assert settings.credentials.password.encode() == value
    else:
        assert settings is None


@pytest.mark.parametrize(
    ("referenced", "reason", "word"),
    [
        ({SMTP: None}, Reason.SECRET_NOT_FOUND, "'smtp'"),
        ({SMTP: ReferencedObject({})}, Reason.SECRET_KEY_MISSING, "'password'"),
    ],
)
def test_missing_secret_or_key_is_named(referenced: Referenced, reason: Reason, word: str) -> None:
    found, _ = resolve(effective(), referenced)
    assert found.reason is reason
    assert word in found.message


def test_label_is_required_only_where_the_operator_says_so() -> None:
    unlabelled = {SMTP: ReferencedObject({"password": b"s3cret"}, referable=False)}
    assert resolve(effective(), unlabelled)[0].holds
    assert resolve(effective(), unlabelled, require_label=True)[0].reason is Reason.SECRET_NOT_REFERABLE


def test_config_map_needs_no_label() -> None:
    settings = effective(connection=CA_BUNDLE, auth=None)
    found, _ = resolve(
        settings, {ObjectRef("ConfigMap", "ca"): ReferencedObject({"ca.crt": CA}, referable=False)}, require_label=True
    )
    assert found.holds


@pytest.mark.parametrize(
    ("value", "delivered"),
    [
        (b"abcd efgh ijkl mnop", "abcdefghijklmnop"),
        (b"abcdefghijklmnop", "abcdefghijklmnop"),
        ("abcd\u00a0efgh\u00a0ijkl\u00a0mnop".encode(), "abcdefghijklmnop"),
        (b"abcdefghijklmno", None),
        (b"abcd-efgh-ijkl-mnop", None),
        (b"hunter2", None),
    ],
)
def test_google_takes_app_passwords_of_sixteen_letters(value: bytes, delivered: str | None) -> None:
    settings = effective(provider="Google", connection=None)
    found, result = resolve(settings, {SMTP: ReferencedObject({"password": value})})
    if delivered is None:
        assert found.reason is Reason.SECRET_VALUE_INVALID
        assert "app password" in found.message
    else:
        assert result is not None
        assert isinstance(result.credentials, Credentials)
        assert result.credentials.password == delivered


def test_personal_outlook_account_in_a_secret_is_refused() -> None:
    auth = {
        "basic": {
            "usernameSecretRef": {"name": "smtp", "key": "username"},
            "passwordSecretRef": {"name": "smtp", "key": "password"},
        }
    }
    settings = effective(provider="Office365", connection=None, auth=auth)
    found, _ = resolve(settings, {SMTP: ReferencedObject({"username": b"me@Outlook.com", "password": b"s3cret"})})
    assert found.reason is Reason.SECRET_VALUE_INVALID
    assert "Microsoft 365" in found.message


@pytest.mark.parametrize(
    ("value", "usable"),
    [
        (CA, True),
        (b"# our CA\n" + CA + CA, True),
        (b"", False),
        (b"not a certificate", False),
        (b"-----BEGIN CERTIFICATE-----\nbm9uc2Vuc2U=\n-----END CERTIFICATE-----\n", False),
        (b"-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n", False),
        (CA + b"-----BEGIN CERTIFICATE-----\nbm9uc2Vuc2U=\n-----END CERTIFICATE-----\n", False),
        (RUBBISH, False),
        (CA + RUBBISH, False),
        (RUBBISH + CA, False),
        (CA[:400] + b"\n-----END CERTIFICATE-----\n", False),
        (b"\xff\xfe", False),
    ],
    ids=[
        "one",
        "comment and two",
        "empty",
        "no PEM",
        "no ASN.1",
        "no base64",
        "one of two",
        "zeros",
        "zeros at the end",
        "zeros at the beginning",
        "cut off",
        "no text",
    ],
)
def test_ca_bundle_holds_certificates(value: bytes, usable: bool) -> None:
    settings = effective(connection=CA_BUNDLE, auth=None)
    found, result = resolve(settings, {ObjectRef("ConfigMap", "ca"): ReferencedObject({"ca.crt": value})})
    assert found.holds is usable
    if usable:
        assert result is not None
        assert "BEGIN CERTIFICATE" in (result.server.ca_bundle or "")
        assert "our CA" not in (result.server.ca_bundle or "")
    else:
        assert found.reason is Reason.CA_BUNDLE_INVALID


def test_an_object_is_read_once_however_often_it_is_referred_to() -> None:
    auth = {
        "basic": {
            "usernameSecretRef": {"name": "smtp", "key": "username"},
            "passwordSecretRef": {"name": "smtp", "key": "password"},
        }
    }
    assert references(effective(auth=auth)) == [SMTP]


def test_nothing_to_resolve_is_said_so() -> None:
    found, result = resolve(effective(auth=None), {})
    assert found.reason is Reason.NOTHING_TO_RESOLVE
    assert result is not None
    assert result.credentials is None


def test_secrets_are_not_in_the_text_of_values() -> None:
    assert "s3cret" not in repr(resolved())


PROXY = ObjectRef("Secret", "proxy")
PROXY_LOGIN = {
    "usernameSecretRef": {"name": "proxy", "key": "user"},
    "passwordSecretRef": {"name": "proxy", "key": "word"},
}


def behind(protocol: str, user: bytes, word: bytes, **login: object) -> tuple[Finding, ResolvedSettings | None]:
    """Settings with a proxy, whose login is in a Secret."""
    basic = PROXY_LOGIN if not login else {**login, "passwordSecretRef": PROXY_LOGIN["passwordSecretRef"]}
    proxy = {"protocol": protocol, "host": "proxy.acme.example", "port": 3128, "basic": basic}
    settings = effective(connection={"host": "h.example", "proxy": proxy})
    return resolve(
        settings,
        {SMTP: ReferencedObject({"password": b"s3cret"}), PROXY: ReferencedObject({"user": user, "word": word})},
    )


@pytest.mark.parametrize("login", [{}, {"username": "us:er"}], ids=["by reference", "in the spec"])
def test_a_proxys_login_is_put_in_place(login: dict[str, object]) -> None:
    found, settings = behind("SOCKS5", b"us:er", b"w\xc3\xb6rd", **login)
    assert found.holds
    assert settings is not None
    assert settings.server.proxy == Proxy(
        ProxyProtocol.SOCKS5, "proxy.acme.example", 3128, Credentials("us:er", "wörd")
    )
    assert "wörd" not in repr(settings)


@pytest.mark.parametrize(
    ("protocol", "user", "word", "field"),
    [
        ("HTTP", b"us:er", b"word", "usernameSecretRef"),
        ("SOCKS5", b"u" * 256, b"word", "usernameSecretRef"),
        ("SOCKS5", b"user", "ö".encode() * 128, "passwordSecretRef"),
        ("HTTP", b"user", b"word\r\nX: y", "passwordSecretRef"),
        ("HTTP", b"", b"word", "usernameSecretRef"),
    ],
)
def test_a_login_that_no_proxy_takes_is_refused(protocol: str, user: bytes, word: bytes, field: str) -> None:
    found, settings = behind(protocol, user, word)
    assert settings is None
    assert found.reason is Reason.SECRET_VALUE_INVALID
    assert f"connection.proxy.basic.{field}" in found.message


def test_a_proxys_secret_has_to_opt_in_too() -> None:
    proxy = {"protocol": "HTTP", "host": "proxy.acme.example", "port": 3128, "basic": PROXY_LOGIN}
    settings = effective(connection={"host": "h.example", "proxy": proxy}, auth=None)
    assert references(settings) == [PROXY]
    values = {"user": b"user", "word": b"word"}
    unlabelled = {PROXY: ReferencedObject(values, referable=False)}
    assert resolve(settings, unlabelled, require_label=True)[0].reason is Reason.SECRET_NOT_REFERABLE
