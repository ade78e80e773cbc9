"""Runs probes beside the reconcilers, which never wait for a mail server."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

from mailsettings.api.conditions import Reason
from mailsettings.controller.keys import Key
from mailsettings.core.probe import ProbeFailure, ProbeRequest, ProbeResult, Stage
from mailsettings.core.probing import FinishedProbe, ProbeSubject
from mailsettings.edges.errors import described

Probe = Callable[[ProbeRequest], Awaitable[ProbeResult]]


class ProbeRunner:
    """At most one probe for each object, and a limited number in all.

    A result waits here until the reconciler has brought it into the object's status.
    """

    def __init__(self, probe: Probe, *, limit: int, finished: Callable[[Key], None], logger: logging.Logger) -> None:
        self._probe = probe
        self._slots = asyncio.Semaphore(limit)
        self._notify_finished = finished
        self._logger = logger
        self._running: dict[Key, tuple[ProbeSubject, asyncio.Task[None]]] = {}
        self._finished: dict[Key, FinishedProbe] = {}

    def start(self, key: Key, subject: ProbeSubject) -> None:
        """Starts a probe, unless the very same is running; another one for the object is broken off."""
        running = self._running.get(key)
        if running is not None and running[0].is_same_test(subject):
            return
        self.forget(key)
        task = asyncio.create_task(self._run(key, subject), name=f"probe of {key}")
        self._running[key] = (subject, task)

    def finished(self, key: Key, subject: ProbeSubject) -> FinishedProbe | None:
        """The result of a probe of just this subject, if there is one."""
        result = self._finished.get(key)
        return result if result is not None and result.subject.is_same_test(subject) else None

    def settle(self, key: Key, result: FinishedProbe) -> None:
        """Drops a result that is in the status now."""
        if self._finished.get(key) is result:
            del self._finished[key]

    def forget(self, key: Key) -> None:
        """Breaks a probe off and drops its result."""
        self._finished.pop(key, None)
        running = self._running.pop(key, None)
        if running is not None:
            running[1].cancel()

    async def close(self) -> None:
        """Breaks off every probe and waits for their connections to be closed."""
        tasks = [task for _, task in self._running.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, key: Key, subject: ProbeSubject) -> None:
        try:
            async with self._slots:
                result = await self._result(key, subject.request)
            self._finished[key] = FinishedProbe(subject, result, datetime.now(UTC))
        finally:
            if self._running.get(key, (None, None))[1] is asyncio.current_task():
                del self._running[key]
        self._notify_finished(key)

    async def _result(self, key: Key, request: ProbeRequest) -> ProbeResult:
        """A fault of the operator's own counts as a failed probe, so that the next one comes no sooner."""
        try:
            return await self._probe(request)
        except Exception as error:  # noqa: BLE001 - whatever it is, the others go on
            self._logger.error("the probe of %s broke: %s", key, described(error))  # noqa: TRY400
            where = f"{request.server.host}:{request.server.port}"
            message = f"The operator itself failed while it tested {where}; its log says where. It is tried again."
            return ProbeResult(timedelta(), ProbeFailure(Stage.CONNECT, Reason.PROBE_BROKEN, message))
