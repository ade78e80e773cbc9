"""Does what `test` was asked for."""

import argparse
import contextlib
import sys
import time
from collections.abc import Callable, Generator, Iterator
from functools import partial
from pathlib import Path
from typing import Final

from mailsettings.api import names
from mailsettings.edges.api_server import ApiError, Json, mail_test_path, mail_tests_path, settings_path, unreachable
from mailsettings.plugin.advice import Known, in_cluster, known_of, known_of_cluster, known_of_test
from mailsettings.plugin.command import FAILURE, SUCCESS, CommandError
from mailsettings.plugin.connection import ObjectApi, lightly_connected, told
from mailsettings.plugin.signals import interrupted_by_signals
from mailsettings.plugin.terminal import Style, Terminal
from mailsettings.plugin.test.follow import Follower
from mailsettings.plugin.test.manifest import inline_settings
from mailsettings.plugin.test.outcome import (
    document_of,
    is_seen,
    state_of,
    title_of,
)
from mailsettings.plugin.test.report import show_rest, show_stages, tell_verdict

WATCH_S: Final = 60
PAUSE_S: Final = 0.5
LOOK_S: Final = 10.0
"""A single look after that: where it hangs, there is time for others."""
CLEAN_UP_S: Final = 5.0
_GONE: Final = 410
_PREFIX: Final = 40
"""Characters of the settings' name in the test's; Kubernetes adds five more."""


def run(options: argparse.Namespace) -> int:
    """Runs the command; the exit status."""
    terminal = Terminal.standard()
    try:
        test, known = _main(options, terminal)
    except CommandError as error:
        return _fail(options, terminal, in_cluster(error, options))
    except KeyboardInterrupt:
        return _fail(options, terminal, CommandError("Interrupted", "Interrupted; a test that has begun goes on."))
    _report(options, terminal, test, {**known, **known_of_cluster(options)})
    return SUCCESS if state_of(test).succeeded else FAILURE


def _main(options: argparse.Namespace, terminal: Terminal) -> tuple[Json, Known]:
    spec = _spec(options)
    with interrupted_by_signals():
        return _tested(options, terminal, spec)


def _tested(options: argparse.Namespace, terminal: Terminal, spec: Json) -> tuple[Json, Known]:
    """How the test has ended, and what is known for the commands of what to do."""
    with lightly_connected(options) as connection:
        namespace = options.operator_namespace if options.cluster else options.namespace or connection.namespace
        test = _create(connection.api, namespace, spec, options.name or "settings")
        try:
            show = _follower(options, terminal)
            ended = _followed(connection.api, test, show, options.timeout.total_seconds())
            return ended, _known(connection.api, ended)
        finally:
            if options.rm:
                _remove(connection.api, test)


def _known(api: ObjectApi, test: Json) -> Known:
    """With what the settings say that were tested, where the person may read them."""
    known, ref = known_of_test(test), test["spec"].get("settingsRef")
    effective = (test.get("status") or {}).get("effective")
    if ref is None or effective is None or state_of(test).succeeded:
        return known
    is_system = effective.get("source") == "System" or ref.get("kind") == names.CLUSTER_KIND
    kind = names.CLUSTER_KIND if is_system else names.TENANT_KIND
    path = settings_path(kind, test["metadata"]["namespace"], effective["settingsName"])
    with contextlib.suppress(ApiError, *unreachable()):
        document = api.get(path, timeout_s=CLEAN_UP_S)
        return {**known, **(known_of({**document, "kind": kind}) if document is not None else {})}
    return known


def _spec(options: argparse.Namespace) -> Json:
    spec: Json = {}
    if options.cluster:
        spec["settingsRef"] = {"kind": names.CLUSTER_KIND, "name": options.name or names.DEFAULT_SETTINGS}
    elif options.filename is None:
        spec["settingsRef"] = {"name": options.name}
    else:
        spec["settings"] = inline_settings(_read(options.filename), options.name)
    if options.to is not None:
        spec["recipient"] = options.to
    if options.mode is not None:
        spec["mode"] = options.mode
    return spec


def _read(file: str) -> str:
    try:
        return sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise CommandError("FileInvalid", f"The file {file} cannot be read: {why}") from None


def _create(api: ObjectApi, namespace: str, spec: Json, settings: str) -> Json:
    body = {
        "apiVersion": names.API_VERSION,
        "kind": names.TEST_KIND,
        "metadata": {"generateName": f"{settings[:_PREFIX].rstrip('.-')}-"},
        "spec": spec,
    }
    with told(f"create {names.TEST_KIND}s in the namespace {namespace}"):
        return api.create(mail_tests_path(namespace), body)


def _follower(options: argparse.Namespace, terminal: Terminal) -> Callable[[Json], None]:
    """Shows how far a test has come."""

    def tick(test: Json) -> None:
        if not state_of(test).ended:
            terminal.tick(_now(test))

    if not options.follow:
        return tick
    tell = terminal.tell_line if options.output is None else terminal.say_line
    follower = Follower(tell, partial(tell, style=Style.STRONG))

    def follow(test: Json) -> None:
        follower.look(test)
        tick(test)

    return follow


def _followed(api: ObjectApi, test: Json, show: Callable[[Json], None], timeout_s: float) -> Json:
    """The test once it has ended.

    Raises:
        CommandError: It has not, or it is gone.
    """
    show(test)
    with contextlib.closing(states(api, test, time.monotonic() + timeout_s)) as seen:
        for state in seen:
            test = state
            show(test)
            if state_of(test).ended:
                return test
    raise _late(test)


def _now(test: Json) -> str:
    title = title_of(test)
    stage = (test.get("status") or {}).get("stage")
    said = f"{stage} ..." if stage else state_of(test).message
    return f"{title}: {said}" if title else said


def _late(test: Json) -> CommandError:
    name, namespace = test["metadata"]["name"], test["metadata"]["namespace"]
    if not is_seen(test):
        return CommandError("TimedOut", "The operator has not looked at the test. Does it run?")
    return CommandError(
        "TimedOut",
        f"{state_of(test).message} The test goes on; look again:",
        f"kubectl get mst {name} -n {namespace}",
    )


def states(api: ObjectApi, test: Json, until_s: float) -> Generator[Json, None, None]:
    """Every state of the test from now on, across interruptions, until a moment of the monotonic clock."""
    name, namespace = test["metadata"]["name"], test["metadata"]["namespace"]
    what = f"watch {names.TEST_KIND}s in the namespace {namespace}"
    while (left_s := until_s - time.monotonic()) > 0:
        with contextlib.suppress(*unreachable()), _told_unless_passing(what):
            version = test["metadata"]["resourceVersion"]
            for kind, document in api.watch_object(
                mail_tests_path(namespace), name, resource_version=version, timeout_s=min(WATCH_S, left_s)
            ):
                if kind == "DELETED":
                    raise CommandError("Deleted", "Somebody has deleted the test.")
                test = document
                yield test
        left_s = until_s - time.monotonic()
        if left_s <= PAUSE_S:
            return
        time.sleep(PAUSE_S)
        with contextlib.suppress(*unreachable()), _told_unless_passing(what):
            found = api.get(mail_test_path(namespace, name), timeout_s=min(LOOK_S, left_s))
            if found is None:
                raise CommandError("Deleted", "Somebody has deleted the test.")
            test = found
            yield test


@contextlib.contextmanager
def _told_unless_passing(doing: str) -> Iterator[None]:
    """As `told`, but for what another attempt mends: a watch that is too old, an API server that has trouble."""
    try:
        yield
    except ApiError as error:
        if error.status != _GONE and not error.is_temporary:
            with told(doing):
                raise


def _remove(api: ObjectApi, test: Json) -> None:
    """Deletes it, if that is possible at all: its end deletes it anyway, later."""
    metadata = test["metadata"]
    path = mail_test_path(metadata["namespace"], metadata["name"])
    with contextlib.suppress(ApiError, *unreachable()):
        api.delete(path, uid=metadata["uid"], timeout_s=CLEAN_UP_S)


def _report(options: argparse.Namespace, terminal: Terminal, test: Json, known: Known) -> None:
    if options.output is not None:
        terminal.tell_object(document_of(test), options.output)
        return
    if not options.follow:
        show_stages(terminal, test)
    show_rest(terminal, test, whole=options.follow or not state_of(test).succeeded)
    tell_verdict(terminal, test, known)


def _fail(options: argparse.Namespace, terminal: Terminal, error: CommandError) -> int:
    terminal.complain(error.reason, error.message, error.commands)
    if options.output is not None:
        terminal.tell_object({"succeeded": False, "reason": error.reason, "message": error.said}, options.output)
    return FAILURE
