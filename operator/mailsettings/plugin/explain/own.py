"""What only commands of the plugin say in place of a reason."""

from collections.abc import Mapping
from typing import Final

OWN: Final[Mapping[str, str]] = {
    "ApiServerUnreachable": "The Kubernetes API server does not answer: look at the kubeconfig, the network and a VPN.",
    "Conflict": "Somebody else keeps changing the same object; begin again.",
    "ConsentNotNeeded": "The settings need nobody's consent; the message says why.",
    "Deleted": "The object that was waited for is gone.",
    "Deleting": "The settings are being deleted.",
    "FileInvalid": "The file cannot be read, or does not hold what is wanted; the message says which.",
    "Forbidden": "You lack a right in the cluster; the message names it. Ask whoever gives rights there.",
    "Gone": "The Secret was delivered and is not there any more; the operator makes it anew, if it runs.",
    "Inherited": "The settings use the system's, so it is theirs that an administrator has to act on.",
    "Invalid": "The API server refuses the object; the message names the field and the rule.",
    "KubeconfigInvalid": "The kubeconfig is missing, cannot be read, or has no such context.",
    "NoOAuth2": "The settings have no auth.oauth2, so there is no token.",
    "NotFound": "There is no object of that name, or no such word to explain; the message says which.",
    "NotObserved": "The operator has not acted on the settings as they are now. If it stays so, it does not run.",
    "NotPasted": "The address that was pasted is not the one that the browser ended at.",
    "OperatorSilent": "The operator has not answered: it does not run, or cannot reach the API server.",
    "PortUnavailable": "Another program listens on that port of this machine; choose another one with --port.",
    "Renewed": "The operator has got a new token.",
    "Superseded": "Somebody else has asked for the same since; the status has the result.",
    "TimedOut": "It took longer than --timeout allows; what was begun goes on in the cluster.",
    "Unauthorized": "The API server does not know you: the login of the kubeconfig has run out or is wrong.",
}
