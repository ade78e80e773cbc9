"""References to Secrets and ConfigMaps."""

from mailsettings.api.model import ApiModel
from mailsettings.api.scalars import DataKey, ObjectName


class SecretKeyRef(ApiModel):
    """A key of a Secret: in the settings' own namespace, or in the operator's for the cluster kind."""

    name: ObjectName
    """The Secret's name."""
    key: DataKey
    """The key in the Secret's data."""


class SecretRef(ApiModel):
    """A Secret: in the settings' own namespace, or in the operator's for the cluster kind."""

    name: ObjectName
    """The Secret's name."""


class ConfigMapKeyRef(ApiModel):
    """A key of a ConfigMap: in the settings' own namespace, or in the operator's for the cluster kind."""

    name: ObjectName
    """The ConfigMap's name."""
    key: DataKey
    """The key in the ConfigMap's data."""
