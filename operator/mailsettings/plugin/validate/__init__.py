"""`kubectl mailsettings validate`: manifests are judged on this machine, as the API server would judge them."""
