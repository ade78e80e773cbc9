"""What the ledger of test mails holds, seen by an administrator."""

import base64
from typing import Final

from dev.operator_process import NAMESPACE
from mailsettings.api import names
from mailsettings.core.digest import Digester
from mailsettings.core.mails import Bounds, Counts, accounts, read_counts, written_counts
from mailsettings.core.probe import Origin, TestMail
from mailsettings.edges.mail_ledger import DATA_KEY
from tests.support.kube import Json, Kube

SHARDS: Final = "0123456789abcdef"


def counted(kube: Kube, namespace: str, recipient: str) -> tuple[int, int]:
    """How many mails are counted against a tenant's namespace, and how many against a recipient."""
    key = kube.get("Secret", names.OPERATOR_KEY_NAME, NAMESPACE)
    assert key is not None
    digest = Digester(base64.b64decode(key["data"]["key"]))
    mail = TestMail("", recipient, Origin("", namespace))
    of_namespace, to_recipient = (
        _counts(kube, account.shard).get(account.name, (0, 0))[1]
        for account in accounts(mail, digest, Bounds(1, 1), operator_namespace=NAMESPACE)
    )
    return of_namespace, to_recipient


def secrets_of(kube: Kube) -> list[Json]:
    """All that there is of it."""
    found = (kube.get("Secret", names.mail_ledger_name(shard), NAMESPACE) for shard in SHARDS)
    return [secret for secret in found if secret is not None]


def let_an_hour_pass(kube: Kube) -> None:
    """Says that all mails were counted long ago."""
    for secret in secrets_of(kube):
        shard = secret["metadata"]["name"][-1]
        old = {name: (since_s - 3600, sent) for name, (since_s, sent) in _counts(kube, shard).items()}
        data = {DATA_KEY: base64.b64encode(written_counts(old).encode()).decode()}
        kube.patch("Secret", secret["metadata"]["name"], NAMESPACE, data=data)


def _counts(kube: Kube, shard: str) -> Counts:
    secret = kube.get("Secret", names.mail_ledger_name(shard), NAMESPACE)
    return read_counts(base64.b64decode(secret["data"][DATA_KEY]).decode()) if secret is not None else {}
