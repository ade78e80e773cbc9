"""New settings are tested while their Secret is written."""

from typing import Any, cast

import pytest

from mailsettings.api.probe import ProbeMode
from mailsettings.api.status import MailServerSettingsStatus
from mailsettings.controller.keys import Key, Kind, tenant_key
from mailsettings.controller.reconcile.services import Services
from mailsettings.controller.reconcile.tenant import _Assessment, _begin_probe
from mailsettings.controller.store import Store, settings_record
from mailsettings.core.digest import Digester
from mailsettings.core.probing import ProbeSubject
from tests.unit.builders import resolved

MAIL = tenant_key("shop", "mail")


class FakeProbes:
    """Begins nothing."""

    def __init__(self) -> None:
        self.begun: list[ProbeMode] = []

    def forget(self, _key: Key) -> None:
        pass

    def finished(self, _key: Key, _subject: ProbeSubject) -> None:
        pass

    def is_running(self, _key: Key, _subject: ProbeSubject) -> bool:
        return False

    def start(self, key: Key, subject: ProbeSubject) -> None:
        assert key == MAIL
        self.begun.append(subject.request.mode)


class FakeServices:
    """As much as is needed here."""

    def __init__(self) -> None:
        self.store = Store()
        self.probes = FakeProbes()
        self.digest = Digester(b"k" * 32)
        self.cluster_name = "here"
        self.checks_sender = False


def begun(mode: ProbeMode, *, observed: int = 0, suspend: bool = False) -> list[ProbeMode]:
    """What probes begin of settings of generation 3."""
    services = FakeServices()
    body = {"metadata": {"name": "mail", "namespace": "shop", "uid": "u", "generation": 3}}
    probe: dict[str, Any] = {"mode": mode, **({"recipient": "a@acme.example"} if mode is ProbeMode.SEND else {})}
    settings = resolved(probe=probe)
    _begin_probe(
        cast("Services", services),
        settings_record(Kind.TENANT, body),
        _Assessment({}, settings.effective, settings),
        MailServerSettingsStatus(observed_generation=observed),
        suspend=suspend,
    )
    return services.probes.begun


@pytest.mark.parametrize("observed", [0, 2])
@pytest.mark.parametrize("mode", [ProbeMode.CONNECT, ProbeMode.AUTHENTICATE])
def test_what_is_new_is_tested_at_once(mode: ProbeMode, observed: int) -> None:
    assert begun(mode, observed=observed) == [mode]


def test_a_test_mail_is_counted_first() -> None:
    assert begun(ProbeMode.SEND) == []


def test_what_is_not_new_waits_for_the_status() -> None:
    assert begun(ProbeMode.AUTHENTICATE, observed=3) == []


def test_what_is_suspended_is_not_tested() -> None:
    assert begun(ProbeMode.AUTHENTICATE, suspend=True) == []
