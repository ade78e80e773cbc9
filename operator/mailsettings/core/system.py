"""What tenants see of a cluster object: the one value that is worked out once and then used for every tenant."""

from dataclasses import dataclass

from mailsettings.api.output import ClusterOutput
from mailsettings.api.tenants import Provision, Tenants
from mailsettings.core.credentials import ResolvedSettings
from mailsettings.core.effective import EffectiveSettings
from mailsettings.core.finding import Finding
from mailsettings.core.tenancy import Namespace, allows


@dataclass(frozen=True, slots=True)
class SystemSettings:
    """A cluster object as its tenants see it. Equal values mean that nothing changes for any tenant."""

    name: str
    uid: str
    suspend: bool
    tenants: Tenants | None
    output: ClusterOutput | None
    effective: EffectiveSettings | None
    """None: the object is not accepted, and nothing is known of its tenants; what was delivered stays."""
    resolved: ResolvedSettings | None
    """None: its credentials cannot be read, or it holds no live token."""
    renewing: ResolvedSettings | None
    """Whose access token goes into Secrets that have been delivered before, also where `resolved` is None."""
    authorized: Finding | None
    """The verdict on its token, which tenants share; None: it has no OAuth2, or its credentials cannot be read."""
    probe: Finding | None
    """The verdict of its probe, which tenants share; None: probes are disabled."""

    def admits(self, namespace: Namespace, *, operator_namespace: str) -> bool:
        """Whether the namespace may use the settings."""
        return allows(self.tenants, namespace, operator_namespace=operator_namespace)

    def withdraws_from(self, namespace: Namespace, *, operator_namespace: str) -> bool:
        """Whether the namespace may no longer hold what it got from these settings."""
        return self.effective is not None and not self.admits(namespace, operator_namespace=operator_namespace)

    @property
    def provisions_always(self) -> bool:
        """Whether every admitted namespace gets a Secret without asking."""
        return self.tenants is not None and self.tenants.provision is Provision.ALWAYS
