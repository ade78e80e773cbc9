"""`kubectl mailsettings test`: has the operator test settings, and shows what comes of it."""
