"""The operator's own token, as a proof to providers, and whom providers are trusted by."""

import base64
import json
import ssl
from pathlib import Path
from typing import Any, Final

import pytest
import trustme

from mailsettings.core.oauth2.request import ClientAssertion
from mailsettings.edges.federation import FederationError, federated_token
from mailsettings.edges.oauth2.assertions import read_assertion
from mailsettings.edges.oauth2.http import FailureError
from mailsettings.edges.oauth2.trust import trusted
from mailsettings.edges.tls import tls_context

AUDIENCE: Final = "api://AzureADTokenExchange"


def token(claims: Any) -> str:
    return ".".join(_encoded(part) for part in ({"alg": "RS256"}, claims, "signature"))


def _encoded(part: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "token"


@pytest.mark.parametrize("audience", [AUDIENCE, [AUDIENCE], ["other", AUDIENCE]])
def test_token_for_the_audience_is_given_as_it_is_now(file: Path, audience: object) -> None:
    for number in range(3):  # of three lengths, which base64 pads differently
        text = token({"aud": audience, "jti": "x" * number})
        file.write_text(f"{text}\n")
        assert federated_token(AUDIENCE, path=file) == text


@pytest.mark.parametrize(
    "text",
    [
        token({"aud": "https://kubernetes.default.svc"}),
        token({"aud": [f"{AUDIENCE}/other"]}),
        token({"aud": None}),
        token({}),
        token([AUDIENCE]),
        token(AUDIENCE),
        AUDIENCE,
        "a.b.c",
        "",
    ],
)
def test_token_for_another_audience_is_not_given(file: Path, text: str) -> None:
    file.write_text(text)
    with pytest.raises(FederationError, match=f"another audience than {AUDIENCE}"):
        federated_token(AUDIENCE, path=file)


def test_missing_token_is_said(file: Path) -> None:
    with pytest.raises(FederationError, match="MAILSETTINGS_OAUTH2_TOKEN_FILE is not set"):
        federated_token(AUDIENCE, path=None)
    with pytest.raises(FileNotFoundError):
        federated_token(AUDIENCE, path=file)


def test_failure_says_what_is_missing_and_names_no_path(file: Path) -> None:
    def failure(path: Path | None) -> str:
        with pytest.raises(FailureError) as caught:
            read_assertion(ClientAssertion(lambda: federated_token(AUDIENCE, path=path)))
        return caught.value.failure.detail

    assert "MAILSETTINGS_OAUTH2_TOKEN_FILE is not set" in failure(None)
    assert failure(file) == "no such file or directory"
    file.write_text(token({"aud": "other"}))
    assert failure(file) == f"it is for another audience than {AUDIENCE}"
    file.write_bytes("tökn".encode())
    assert failure(file) == "it is no text"


# --- trust ---


def test_public_authorities_are_trusted_beside_those_of_the_file(tmp_path: Path) -> None:
    assert trusted(None) is None
    own = trustme.CA()
    file = tmp_path / "authorities.pem"
    own.cert_pem.write_to_path(file)
    bundle = trusted(file)
    assert bundle is not None
    known = tls_context("TLSv1.2", bundle, verify=True).get_ca_certs(binary_form=True)
    public = ssl.create_default_context().get_ca_certs(binary_form=True)
    assert {*known} == {*public, ssl.PEM_cert_to_DER_cert(own.cert_pem.bytes().decode())}


def test_file_is_read_anew_and_has_to_be_there(tmp_path: Path) -> None:
    file = tmp_path / "authorities.pem"
    with pytest.raises(FileNotFoundError):
        trusted(file)
    for _ in range(2):
        authority = trustme.CA().cert_pem.bytes().decode()
        file.write_text(authority)
        assert (trusted(file) or "").endswith(authority)
