"""Keeps the relay's certificate, and knows what it is trusted by."""

from mailsettings.controller.keys import RELAY_CERTIFICATE
from mailsettings.controller.logs import LOGGER
from mailsettings.controller.reconcile.services import Services
from mailsettings.edges.kubernetes import ApiError


async def reconcile_certificate(services: Services) -> None:
    """Has the certificate issued or renewed when that is due, unless somebody else does it.

    Raises:
        ApiError: the API server is in trouble; try again.
    """
    try:
        kept = await services.certificates.keep()
    except ApiError as error:
        if not (error.is_not_found or error.is_refusal):
            raise
        # Such as a namespace that is not there: the relay is not installed.
        LOGGER.debug("the relay has no certificate: %s", error)
        services.relay.set_certificate(None)
        services.enqueue_after(RELAY_CERTIFICATE, RETRY_SECONDS)
        return
    services.relay.set_certificate(kept.ca_bundle)
    services.enqueue_after(RELAY_CERTIFICATE, kept.look_again_s)


RETRY_SECONDS = 60.0
