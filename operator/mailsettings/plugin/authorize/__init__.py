"""`kubectl mailsettings authorize`: a person's consent, from a terminal."""
