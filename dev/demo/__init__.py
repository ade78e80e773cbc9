"""The demo behind `make run`: a control plane, servers, the operator and the examples, live on this machine.

Nothing in it is simulated but the users: the API server is real, the operator runs under its own ServiceAccount, the
mail server speaks real SMTP with STARTTLS, passwords and access tokens, and the identity provider real OAuth2.
"""
