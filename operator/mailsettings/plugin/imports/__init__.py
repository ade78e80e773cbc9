"""`kubectl mailsettings import`: manifests out of another product's mail settings."""
