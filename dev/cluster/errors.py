"""What can go wrong with a local cluster.

ClusterError        one message for a person: what happened and what to do
  ApiError          the API server refused a request
"""


class ClusterError(Exception):
    """The cluster cannot be built, started or used; the message says why and what helps."""


class ApiError(ClusterError):
    """The API server answered a request with an error.

    Attributes:
        status: The HTTP status code; 0 where no answer came.
        reason: The API's own word for it, such as `NotFound`; empty where it gave none.
    """

    def __init__(self, message: str, *, status: int, reason: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
