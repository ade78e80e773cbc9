"""The demo behind `make run`: a control plane, a mail server, the operator and the examples, live on this machine.

Nothing in it is simulated but the mail server's users: the API server is real, the operator runs under its own
ServiceAccount, and the mail server speaks real SMTP with STARTTLS and logins.
"""
