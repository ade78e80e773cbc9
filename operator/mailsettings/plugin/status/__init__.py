"""`kubectl mailsettings status`: where on the way from the system's settings to the Secret something is wrong."""
