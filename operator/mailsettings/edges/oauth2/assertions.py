"""Federated tokens: assertions that somebody else has signed."""

import os

from mailsettings.core.oauth2.faults import FailureKind
from mailsettings.core.oauth2.request import ClientAssertion
from mailsettings.edges.oauth2.http import FailureError


def read_assertion(auth: ClientAssertion) -> str:
    """The assertion as it is now.

    Raises:
        FailureError: It cannot be read, or is no JWT.
    """
    try:
        assertion = auth.read().strip()
    except OSError as error:
        # The operating system's text would name the file; an error without a number has words of the operator's own.
        words = str(error) if error.errno is None else os.strerror(error.errno).lower()
        raise FailureError(FailureKind.ASSERTION, words) from None
    except UnicodeDecodeError:
        raise FailureError(FailureKind.ASSERTION, "it is no text") from None
    if assertion.count(".") != 2 or not assertion.isascii() or not assertion.isprintable():
        raise FailureError(FailureKind.ASSERTION, "it is no JWT")
    return assertion
