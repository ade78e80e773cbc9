"""Mail-server settings for Kubernetes."""
