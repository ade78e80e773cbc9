"""What to do: thin adapters to the Kubernetes API, DNS and SMTP servers."""
