"""Programs for people who work on mailsettings; the operator itself uses none of them."""
