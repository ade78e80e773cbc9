"""What to decide: pure functions that know neither Kubernetes nor the network."""
