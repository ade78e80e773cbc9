"""Reconciles a MailServerTest: begins it when it is its turn, tells how it ended, and deletes it in the end.

A test runs once. That it begins is written before anything else happens, guarded by the version that was seen, so that
of two operators one begins it, and that an operator which finds a test begun and did not begin it knows that it was
interrupted. What is written then is different each time: to a write that changes nothing the API server says yes
whatever the version is (measured).
"""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import uuid4

from pydantic import ValidationError

from mailsettings.api import names
from mailsettings.api.conditions import ConditionType, Reason
from mailsettings.api.mailservertest import MailServerTestSpec, MailServerTestStatus
from mailsettings.api.providers import PROVIDERS
from mailsettings.controller.keys import Key
from mailsettings.controller.logs import LOGGER
from mailsettings.controller.mail_tests import MailTestRecord, PendingMailTest, mail_test_record
from mailsettings.controller.reconcile.mail_test_settings import Testable, testable
from mailsettings.controller.reconcile.probing import cluster_of
from mailsettings.controller.reconcile.services import Services
from mailsettings.core.acceptance import describe
from mailsettings.core.clock import format_time, parse_time
from mailsettings.core.conditions import conditions
from mailsettings.core.finding import Finding, failed
from mailsettings.core.mail_testing import (
    INTERRUPTED,
    QUEUED,
    RUNNING,
    Turn,
    mode_of,
    probe_request,
    recipient_refusal,
    reported,
    state_findings,
    too_many,
    under_way,
    verdict,
)
from mailsettings.core.probe import Origin, ProbeProgress, ProbeRequest
from mailsettings.core.probing import FinishedProbe, ProbeSubject
from mailsettings.core.report import effective_status
from mailsettings.core.server import Source
from mailsettings.edges.errors import described
from mailsettings.edges.kubernetes import UNREACHABLE, ApiError, mail_test_path

RECHECK_SECONDS: Final = 1.0
"""How often a test looks again whether what it is to test is ready."""

PATIENCE: Final = timedelta(seconds=30)
"""How long after its creation a test waits for that."""

GRACE: Final = timedelta(seconds=75)
"""How much longer than a probe another operator may take with a test that it has begun: a minute that a provider's
limits may hold it up, and the time to write its end."""


async def reconcile_mail_test(services: Services, key: Key) -> None:
    """Takes a test one step further.

    Raises:
        ApiError: the API server is in trouble; try again.
    """
    record = services.mail_tests.get(key)
    if record is None or record.deleting:
        _let_go(services, key)
        return
    if record.pending is None:
        _let_go(services, key)
        await _expire(services, record)
        return
    namespace = services.store.namespaces.get(key.namespace)
    if namespace is None or namespace.terminating:
        return
    test = _Test(services, record, record.pending)
    subject = services.mail_tests.begun(key)
    if subject is not None:
        finished = services.probes.finished(key, subject)
        progress = services.probes.progress(key, subject)
        if finished is not None:
            await test.report(finished)
        elif progress is not None:
            await test.tell(progress)
    elif record.started_at is not None:
        await test.give_up_if_interrupted(record.started_at)
    else:
        await test.go_on()


def _let_go(services: Services, key: Key) -> None:
    """Ends what is under way, and lets the next ones in."""
    services.probes.forget(key)
    services.mail_tests.end(key)
    for next_one in services.mail_tests.next_ones():
        services.enqueue(next_one)


async def _expire(services: Services, record: MailTestRecord) -> None:
    """Deletes a test whose time is over, if it is still the same one."""
    if record.ended_at is None:
        return
    wait = (record.ended_at + timedelta(seconds=record.ttl_seconds) - datetime.now(UTC)).total_seconds()
    if wait > 0:
        services.enqueue_after(record.key, wait)
    else:
        await services.api.delete(mail_test_path(record.key.namespace, record.key.name), uid=record.uid)


class _Test:
    """A test that has not ended."""

    def __init__(self, services: Services, record: MailTestRecord, pending: PendingMailTest) -> None:
        self._services = services
        self._record = record
        self._key = record.key
        self._pending = pending
        self._before = _read_status(pending)

    async def go_on(self) -> None:
        """Begins the test if it is its turn and there is something to test."""
        if not await self._may_go_on():
            return
        spec = _parse(self._pending)
        if isinstance(spec, Finding):
            await self._end(spec)
            return
        namespace = self._services.store.namespaces[self._key.namespace]
        found = await testable(self._services, self._key, spec, namespace)
        if isinstance(found, Finding):
            await self._cannot(found)
            return
        refusal = self._refusal(spec, found)
        if refusal is not None:
            await self._end(refusal, self._described(spec, found))
            return
        # Meanwhile others may have begun.
        if await self._may_go_on():
            await self._begin(spec, found)

    async def _may_go_on(self) -> bool:
        tests = self._services.mail_tests
        match tests.turn(self._key):
            case Turn.BEGIN:
                return True
            case Turn.WAIT:
                await self._write(self._before, QUEUED)
            case Turn.GIVE_UP:
                await self._end(too_many(tests.limits))
        return False

    async def _cannot(self, finding: Finding) -> None:
        """There is nothing to test, or not yet."""
        if finding.status is not None:
            await self._end(finding)
        elif datetime.now(UTC) > parse_time(self._pending.created_at) + PATIENCE:
            await self._end(failed(finding.reason, f"{finding.message} That took too long; create the test again"))
        else:
            await self._write(self._before, finding)
            self._services.enqueue_after(self._key, RECHECK_SECONDS)

    def _refusal(self, spec: MailServerTestSpec, found: Testable) -> Finding | None:
        if not found.inherited:
            return None
        return recipient_refusal(spec, found.resolved, found.tenants, namespace=self._key.namespace)

    def _described(self, spec: MailServerTestSpec, found: Testable) -> MailServerTestStatus:
        effective = found.resolved.effective
        return MailServerTestStatus(
            mode=mode_of(spec, has_auth=effective.auth is not None),
            effective=effective_status(effective, inherited=found.inherited),
        )

    async def _begin(self, spec: MailServerTestSpec, found: Testable) -> None:
        described = self._described(spec, found)
        if described.mode is None:
            raise ValueError("a test that begins has a mode")
        request = probe_request(
            spec,
            found.resolved,
            described.mode,
            Origin(found.described_as, self._key.namespace, cluster_of(self._services)),
            wish=found.wish,
            checks_sender=self._services.checks_sender,
        )
        request = replace(request, slots_of=found.uid)
        subject = _subject(self._record, request, found.resolved.effective.provider)
        tests = self._services.mail_tests
        tests.begin(self._key, subject)
        try:
            began = {"start_time": format_time(datetime.now(UTC)), "attempt": uuid4().hex}
            started = described.model_copy(update=began)
            written = await self._write(started, RUNNING)
        except BaseException:
            tests.end(self._key)
            raise
        if written:
            self._services.probes.start(self._key, subject)
        else:
            tests.end(self._key)

    async def report(self, finished: FinishedProbe) -> None:
        """Writes how the dialogue ended."""
        result, mode = finished.result, finished.subject.request.mode
        finding = verdict(mode, result, now=datetime.now(UTC))
        # In the operator's namespace only administrators test.
        is_tenants = self._key.namespace != self._services.operator_namespace
        inherited = is_tenants and finished.subject.request.level is Source.SYSTEM
        await self._end(finding, reported(self._before, result, inherited=inherited), guarded=False)

    async def tell(self, progress: ProbeProgress) -> None:
        """Writes how far the dialogue has come, for whoever looks on; that it fails must not delay the end."""
        try:
            await self._write(under_way(self._before, progress), RUNNING)
        except (ApiError, *UNREACHABLE) as error:
            LOGGER.debug("%s: its progress is not written: %s", self._key, described(error))

    async def give_up_if_interrupted(self, started_at: datetime) -> None:
        """Another process has begun the test. If that still ran, it would have written the end by now."""
        takes = self._services.probe_deadline + self._services.token_deadline + GRACE
        wait = (started_at + takes - datetime.now(UTC)).total_seconds()
        if wait > 0:
            self._services.enqueue_after(self._key, wait)
        else:
            await self._end(INTERRUPTED)

    async def _end(self, finding: Finding, after: MailServerTestStatus | None = None, *, guarded: bool = True) -> None:
        ended = (after or self._before).model_copy(
            update={"stage": None, "completion_time": format_time(datetime.now(UTC))}
        )
        await self._write(ended, finding, guarded=guarded)
        _let_go(self._services, self._key)

    async def _write(self, after: MailServerTestStatus, finding: Finding, *, guarded: bool = True) -> bool:
        """Writes the status if it says anything new; False: there is no such test any more.

        Args:
            after: the status without its conditions.
            finding: what they say.
            guarded: overwrite only the version that was seen, since another operator may have begun the test. Whoever
                has begun it overwrites any.

        Raises:
            ApiError: the API server refused; or the test has changed, or is another one of its name.
        """
        generation, now = self._pending.generation, format_time(datetime.now(UTC))
        new = conditions(state_findings(finding), self._before.conditions or [], generation=generation, now=now)
        status = after.model_copy(update={"conditions": new, "observed_generation": generation}).document()
        if status == self._pending.status:
            return True
        metadata = {"name": self._key.name, "namespace": self._key.namespace, "uid": self._record.uid}
        if guarded:
            metadata["resourceVersion"] = self._pending.resource_version
        body = {"apiVersion": names.API_VERSION, "kind": names.TEST_KIND, "metadata": metadata, "status": status}
        path = f"{mail_test_path(self._key.namespace, self._key.name)}/status"
        try:
            applied = await self._services.api.apply(path, body, force=True)
        except ApiError as error:
            if error.is_not_found:
                return False
            raise
        known = self._services.mail_tests.get(self._key)
        if known is None or known.uid != self._record.uid:
            return False  # its end was faster than the answer, which would bring it back
        self._services.echoes.wrote(applied["metadata"])
        self._services.mail_tests.put(mail_test_record(applied))
        if finding.status is False:
            news = [condition for condition in new if condition.type == ConditionType.SUCCEEDED]
            await self._services.events.record(self._key, self._record.uid, news)
        if after.completion_time is not None:
            self._services.enqueue(self._key)
        return True


def _read_status(pending: PendingMailTest) -> MailServerTestStatus:
    """The status so far; a status that cannot be read counts as none."""
    try:
        return MailServerTestStatus.model_validate(pending.status)
    except ValidationError:
        return MailServerTestStatus()


def _parse(pending: PendingMailTest) -> MailServerTestSpec | Finding:
    try:
        return MailServerTestSpec.model_validate(pending.spec)
    except ValidationError as error:
        return failed(Reason.SPEC_INVALID, describe(error))


def _subject(record: MailTestRecord, request: ProbeRequest, provider: str) -> ProbeSubject:
    """For the runner: every test is another one, and a person waits for it."""
    return ProbeSubject(
        uid=record.uid,
        generation=1,
        request=request,
        interval=timedelta(),
        fingerprint=record.uid,
        requested_at=None,
        limits=PROVIDERS[provider].limits,
        asked_for=True,
        followed=True,
    )
