"""OAuth2 without the network: what is asked of a token endpoint, what its answers mean, and when to ask again."""
