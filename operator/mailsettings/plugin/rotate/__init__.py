"""`kubectl mailsettings rotate`: the operator renews a token now."""
