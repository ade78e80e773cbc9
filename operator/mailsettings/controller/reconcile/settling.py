"""What is to be done once the status is written."""

from mailsettings.controller.reconcile.authorization import Authorization
from mailsettings.controller.reconcile.probing import Probing
from mailsettings.controller.reconcile.services import Services
from mailsettings.controller.store import SettingsRecord


def settle(services: Services, record: SettingsRecord, probing: Probing, authorization: Authorization) -> None:
    """Drops results that are in the status now, and looks again where they lead to something."""
    if authorization.failed is not None:
        services.renewals.settle(record.key, authorization.failed)
    if probing.finished is not None:
        services.probes.settle(record.key, probing.finished)
        if probing.finished.subject.token is not None and probing.finished.result.failure is not None:
            # The mail server may have refused the token: that is found out by another look at the status.
            services.enqueue(record.key)
