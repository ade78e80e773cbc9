"""An application that sends a mail with the Secret that a tenant was given."""

import base64
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from dev.cluster import Api, ClusterError
from dev.demo.examples import EXAMPLES
from dev.demo.state import Place

RECIPIENT: Final = "customer@shop.example"
_TIMEOUT_S: Final = 30.0


def send_mail(api: Api, secret: Place, recipient: str, folder: Path) -> None:
    """Runs dev/examples/send_mail.py on the Secret, laid out in a folder as Kubernetes would mount it.

    Args:
        api: Where the Secret is.
        secret: Namespace and name.
        recipient: To whom.
        folder: For the files; they are gone afterwards.

    Raises:
        ClusterError: The Secret could not be read, or the program failed.
    """
    namespace, name = secret
    data = api.request("GET", f"/api/v1/namespaces/{namespace}/secrets/{name}")["data"]
    mounted = folder / "mounted"
    mounted.mkdir(mode=0o700)
    try:
        for key, value in data.items():
            (mounted / key).write_bytes(base64.b64decode(value))
        _run([sys.executable, str(EXAMPLES / "send_mail.py"), str(mounted), recipient])
    finally:
        shutil.rmtree(mounted)


def _run(command: list[str]) -> None:
    try:
        subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_TIMEOUT_S, check=True)
    except subprocess.TimeoutExpired as error:
        raise ClusterError(f"send_mail.py took longer than {_TIMEOUT_S:.0f} s") from error
    except subprocess.CalledProcessError as error:
        # The last line is the exception; what stands above it is of no use here.
        lines = error.stderr.decode(errors="replace").splitlines() or ["it said nothing"]
        raise ClusterError(f"send_mail.py failed: {lines[-1]}") from error
