"""What is known of a Secret after it has been removed."""

import logging
from types import SimpleNamespace
from typing import cast

import pytest

from mailsettings.controller.deliveries import Deliveries
from mailsettings.controller.echoes import Echoes
from mailsettings.controller.store import Store, secret_record
from mailsettings.core.delivery import DeliveredSecret
from mailsettings.core.digest import Digester
from mailsettings.edges.kubernetes import KubernetesApi


def secret(uid: str) -> DeliveredSecret:
    return secret_record({"namespace": "shop", "name": "smtp", "uid": uid, "resourceVersion": "1"})


@pytest.mark.parametrize("successor", [None, secret("another")])
async def test_a_secret_that_is_made_anew_before_the_answer_to_the_removal_is_known(
    successor: DeliveredSecret | None,
) -> None:
    store = Store()
    store.put_secret(secret("first"))

    async def delete(_path: str, *, uid: str) -> None:
        assert uid == "first"
        if successor is not None:
            store.put_secret(successor)

    api = cast("KubernetesApi", SimpleNamespace(delete=delete))
    deliveries = Deliveries(api, store, Echoes(), Digester(b"k" * 32), logging.getLogger("tests.deliveries"))
    await deliveries.withdraw(secret("first"))

    assert store.secret("shop", "smtp") == successor
