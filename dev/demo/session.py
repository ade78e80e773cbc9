"""The demo from its start to its end."""

import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import Empty
from typing import Final

from dev.cluster import Api, ApiError, Cluster, existing_kubeconfig, running_cluster
from dev.demo import application, expectations
from dev.demo.authority import HOST, Authority
from dev.demo.consent import ConsentDemo, Servers
from dev.demo.examples import Endpoints, apply_examples, apply_operator_manifests
from dev.demo.identity_provider import IdentityProvider
from dev.demo.mail_server import LOGINS, Mail, MailServer
from dev.demo.relay import relay_environment, running_relay
from dev.demo.screen import Screen, mail_text, open_screen
from dev.demo.state import State, observe
from dev.operator_process import NAMESPACE, SERVICE_ACCOUNT, OperatorProcess
from dev.role_process import StartError

POLL_INTERVAL_S: Final = 0.3
_LOG_LINES: Final = 12

_HINTS: Final = """
Next, in another terminal, after the export line above:
  kubectl apply -f dev/examples/mend-reports.yaml     # mends reports/mail
  kubectl describe mss mail -n lab                    # what is wrong, in full
  kubectl label ns blog mail.platform.example/system- # blog loses its Secret
Ctrl-C ends everything."""

_LEFT_BEHIND: Final = """
The objects stay in the given cluster. To remove the examples:
  kubectl annotate cmss default mailsettings.dev/allow-deletion=true
  kubectl delete cmss,ns -l app.kubernetes.io/part-of=mailsettings-examples
  kubectl delete secret,cm -n mailsettings-system \\
    -l app.kubernetes.io/part-of=mailsettings-examples"""


class DemoError(Exception):
    """The demo cannot go on, or the examples have not come to what they should; the message says why."""


def run(*, once: bool, limit_s: float) -> None:
    """Runs the demo until it is interrupted, or with `once` until every example is as expected.

    Args:
        once: End by itself.
        limit_s: With `once`, how long that may take from the moment that the control plane is ready.

    Raises:
        DemoError: The examples were not as expected in time, or a part of the demo ended.
        ClusterError: The control plane cannot be built, started or used.
    """
    screen = open_screen()
    given = existing_kubeconfig()
    screen.say("Starting a control plane" if given is None else "Using the cluster of MAILSETTINGS_KUBECONFIG")
    began = time.monotonic()
    authority = Authority()
    with (
        running_cluster() as cluster,
        _folder(cluster, screen) as folder,
        IdentityProvider(authority) as provider,
        MailServer(authority, provider.account_of) as server,
    ):
        if given is None:
            screen.say(f"The control plane is ready after {time.monotonic() - began:.1f} s.")
        deadline = time.monotonic() + limit_s if once else None
        screen.say(f"A mail server with {len(LOGINS)} logins listens on {HOST}:{server.port} (STARTTLS).")
        screen.say(f"An identity provider whose tokens it takes is at {provider.origin}.")
        screen.say(f"Applied {apply_operator_manifests(cluster, folder)} objects of manifests.")
        port = _free_port()
        with (
            _running_operator(cluster, folder, authority, screen, relay_port=port) as operator,
            running_relay(cluster, folder, port),
        ):
            screen.say(f"The relay listens on {HOST}:{port} (STARTTLS).")
            endpoints = Endpoints(server.port, authority.certificate, provider.authorization_uri, provider.token_uri)
            screen.say(f"Applied {apply_examples(cluster, folder, endpoints)} objects of dev/examples.")
            screen.say(f"\nTo look at it with kubectl:\n  export KUBECONFIG={cluster.kubeconfig}")
            screen.say("  kubectl get mailsettings -A     # the tenants' settings")
            screen.say("  kubectl get cmss                # the system's")
            consent = ConsentDemo(cluster.api(), folder, Servers(authority, provider, server), screen, by_itself=once)
            with screen:
                _Demo(cluster.api(), folder, server, operator, consent, screen).follow(deadline)


@contextmanager
def _folder(cluster: Cluster, screen: Screen) -> Iterator[Path]:
    """A private folder that goes with the control plane's own, whichever way that ends."""
    if existing_kubeconfig() is None:
        folder = cluster.kubeconfig.parent / "demo"
        folder.mkdir(mode=0o700)
        yield folder
        return
    _check_is_free(cluster.api())
    with tempfile.TemporaryDirectory(prefix="mailsettings-demo-") as name:
        yield Path(name)
    screen.say(_LEFT_BEHIND)


def _check_is_free(api: Api) -> None:
    """Makes sure that an existing cluster has neither an operator nor system's settings that the demo would replace."""
    taken = {
        "the operator is installed": f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/{SERVICE_ACCOUNT}",
        "there is a ClusterMailServerSettings default": (
            "/apis/mailsettings.dev/v1alpha1/clustermailserversettings/default"
        ),
    }
    for what, path in taken.items():
        try:
            found = api.request("GET", path)
        except ApiError as error:
            if error.status == 404:
                continue
            raise
        labels = found["metadata"].get("labels") or {}
        if labels.get("app.kubernetes.io/part-of") != "mailsettings-examples":
            raise DemoError(f"In the cluster of MAILSETTINGS_KUBECONFIG {what}; give the demo a cluster without it.")


@contextmanager
def _running_operator(
    cluster: Cluster, folder: Path, authority: Authority, screen: Screen, *, relay_port: int
) -> Iterator[OperatorProcess]:
    """The operator under its own ServiceAccount while the block runs, with its consent pages on a free port."""
    trusted = folder / "authority.pem"
    trusted.write_text(authority.certificate)
    consent = f"{HOST}:{_free_port()}"
    environment = {
        "MAILSETTINGS_OAUTH2_CA_FILE": str(trusted),
        "MAILSETTINGS_EXTERNAL_URL": f"http://{consent}",
        "MAILSETTINGS_CONSENT_LISTEN": consent,
        **relay_environment(relay_port),
    }
    operator = OperatorProcess(cluster, folder, environment)
    try:
        operator.start()
        screen.say(f"The operator runs as the ServiceAccount {SERVICE_ACCOUNT} (process {operator.pid}).")
        yield operator
    except StartError as error:
        raise DemoError(str(error)) from error
    finally:
        with suppress(OSError):  # the terminal may be gone
            screen.say("\nStopping")
        operator.stop()


def _free_port() -> int:
    """A port on which nothing listens; the operator is told it before it can listen there itself."""
    with socket.socket() as holder:
        holder.bind((HOST, 0))
        return int(holder.getsockname()[1])


class _Demo:
    """The demo while everything runs."""

    def __init__(
        self,
        api: Api,
        folder: Path,
        server: MailServer,
        operator: OperatorProcess,
        consent: ConsentDemo,
        screen: Screen,
    ) -> None:
        self._api = api
        self._folder = folder
        self._server = server
        self._operator = operator
        self._consent = consent
        self._screen = screen
        self._has_sent = False
        self._has_arrived = False

    def follow(self, deadline: float | None) -> None:
        """Shows what happens: until everything is as expected, or for ever.

        Args:
            deadline: When everything must be as expected, by the monotonic clock; None: for ever.
        """
        is_complete = has_hinted = False
        while True:
            state = self._step()
            if deadline is None and self._has_arrived and not has_hinted:
                has_hinted = True
                self._screen.say("\nEvery example that needs nobody has reached its expected state.")
                self._screen.say(_HINTS)
            self._consent.step(state, asks=has_hinted)
            if not is_complete and self._has_arrived and not self._consent.unmet(state):
                is_complete = True
                self._screen.show(state, self._consent.sending(state))
                self._screen.say(f"\n{self._consent.summary}\nEvery example has reached its expected state.")
                if deadline is not None:
                    return
            if deadline is not None and time.monotonic() > deadline:
                raise DemoError("The limit has passed:\n" + "\n".join(f"  {fault}" for fault in self._faults(state)))
            time.sleep(POLL_INTERVAL_S)

    def _step(self) -> State:
        if not self._operator.is_running():
            lines = self._operator.log_text().splitlines()[-_LOG_LINES:]
            raise DemoError("The operator has ended. Its last lines:\n" + "\n".join(lines))
        state = observe(self._api)
        self._screen.show(state, self._consent.sending(state))
        if not self._has_sent and not expectations.unmet(state):
            for secret in (expectations.RELAYED, expectations.INHERITING):
                self._screen.say(f"\nsend_mail.py sends with the Secret {'/'.join(secret)}")
                application.send_mail(self._api, secret, application.RECIPIENT, self._folder)
            self._has_sent = True
        for mail in self._arrived():
            if self._consent.take(mail):
                continue
            self._screen.say(mail_text(mail))
            if application.RECIPIENT in mail.recipients and not self._has_arrived:
                self._has_arrived = True
        return state

    def _arrived(self) -> Iterator[Mail]:
        while True:
            try:
                yield self._server.received.get_nowait()
            except Empty:
                return

    def _faults(self, state: State) -> list[str]:
        if not self._has_sent:
            found = expectations.unmet(state)
        else:
            found = [] if self._has_arrived else [f"the mail to {application.RECIPIENT} has not arrived"]
        return [*found, *self._consent.unmet(state)]
