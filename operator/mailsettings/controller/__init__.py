"""When to do it: watches, the work queue and the reconcilers."""

import sys

# Kopf imports the official client where it is installed, only to know its objects when it meets them, and it meets none
# here. That costs 30 MB and half a second, so kopf is made to believe that it is not there.
if "kubernetes" not in sys.modules:
    sys.modules["kubernetes"] = None  # type: ignore[assignment] # which makes its import fail
    import kopf  # noqa: F401 - for the others

    del sys.modules["kubernetes"]
