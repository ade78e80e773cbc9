"""`kubectl mailsettings`: what a person does with mail settings from a terminal, under that person's own rights.

Each command is one `Command` in `__main__.COMMANDS`; its work is in a module that is imported when the command runs, so
that help and completion come at once. `kubeconfig`, `connection` and `terminal` are what commands share.
"""
