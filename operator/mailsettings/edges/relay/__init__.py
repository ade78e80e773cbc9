"""The submission relay on the network."""
