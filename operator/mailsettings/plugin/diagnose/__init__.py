"""`kubectl mailsettings diagnose`."""
