"""`kubectl mailsettings explain`."""
