"""Runs probes beside the reconcilers, which never wait for a mail server."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final

from mailsettings.api.conditions import Reason
from mailsettings.api.probe import ProbeMode
from mailsettings.controller.keys import Key
from mailsettings.core.probe import ProbeFailure, ProbeProgress, ProbeRequest, ProbeResult, Progress, Stage, untold
from mailsettings.core.probing import FinishedProbe, ProbeSubject
from mailsettings.core.turns import MINUTE_S, Line, Turn
from mailsettings.edges.errors import described

Probe = Callable[[ProbeRequest, Progress], Awaitable[ProbeResult]]

PROGRESS_PAUSE_S: Final = 0.3
"""How long what is new of a probe's progress waits for more of it: so often it is told at most, and one that is over
before that is told by its result alone."""


@dataclass(eq=False, slots=True)
class _Job:
    """A probe that waits or runs, for all objects that it is to tell."""

    subject: ProbeSubject
    turn: Turn
    """What decides when it begins. Nobody joins one that waits, so it stays as it was."""
    wanted_by: dict[Key, ProbeSubject]
    ticket: int = -1
    """Its own in the line while it waits."""
    task: asyncio.Task[None] | None = None
    latest: ProbeProgress | None = None
    """How far it has come."""
    told: ProbeProgress | None = None
    """How far it had come when that was last told."""
    telling: asyncio.TimerHandle | None = None
    """Tells it next."""


class ProbeRunner:
    """At most one probe for each object, one for all objects of the same credential, and a limited number in all.

    `core.turns` says which of those that wait begins. A result waits here until the reconciler has brought it into the
    object's status.
    """

    def __init__(self, probe: Probe, *, limit: int, notify: Callable[[Key], None], logger: logging.Logger) -> None:
        """A runner.

        Args:
            probe: Makes one.
            limit: How many may run at a time.
            notify: Is told that there is a result, or, of what is followed, progress.
            logger: For faults of the operator's own.
        """
        self._probe = probe
        self._places = limit
        self._notify = notify
        self._logger = logger
        self._jobs: dict[Key, _Job] = {}
        self._line = Line()
        self._waiting: dict[int, _Job] = {}
        """By their tickets in the line."""
        self._alike: dict[str, dict[_Job, None]] = {}
        """Those that wait, by fingerprint."""
        self._running: list[_Job] = []
        self._sent_s: dict[str, list[float]] = {}
        self._alarm: asyncio.TimerHandle | None = None
        self._finished: dict[Key, FinishedProbe] = {}

    def start(self, key: Key, subject: ProbeSubject) -> None:
        """Starts a probe as soon as there is room, unless the very same is under way; another one is broken off."""
        if self.is_running(key, subject):
            return
        self.forget(key)
        job = self._shared(subject)
        if job is None:
            job = _Job(subject, _turn(key, subject), {})
            self._wait(job)
        job.wanted_by[key] = subject
        self._jobs[key] = job
        self._begin()

    def is_running(self, key: Key, subject: ProbeSubject) -> bool:
        """Whether a probe of just this subject waits or runs."""
        job = self._jobs.get(key)
        return job is not None and job.wanted_by[key].is_same_test(subject)

    def finished(self, key: Key, subject: ProbeSubject) -> FinishedProbe | None:
        """The result of a probe of just this subject, if there is one."""
        result = self._finished.get(key)
        return result if result is not None and result.subject.is_same_test(subject) else None

    def progress(self, key: Key, subject: ProbeSubject) -> ProbeProgress | None:
        """How far a probe of just this subject has come, as of the last time when that was told."""
        return self._jobs[key].told if self.is_running(key, subject) else None

    def settle(self, key: Key, result: FinishedProbe) -> None:
        """Drops a result that is in the status now."""
        if self._finished.get(key) is result:
            del self._finished[key]

    def forget(self, key: Key) -> None:
        """Drops an object's result, and breaks its probe off unless others wait for it too."""
        self._finished.pop(key, None)
        job = self._jobs.pop(key, None)
        if job is None:
            return
        del job.wanted_by[key]
        if job.wanted_by:
            return
        if job.task is not None:
            job.task.cancel()
        else:
            self._line.leave(job.ticket)
            self._waits_no_more(job)

    async def close(self) -> None:
        """Breaks off every probe and waits for their connections to be closed."""
        if self._alarm is not None:
            self._alarm.cancel()
        self._line = Line()
        self._waiting.clear()
        self._alike.clear()
        tasks = [job.task for job in self._running if job.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _shared(self, subject: ProbeSubject) -> _Job | None:
        """A running probe of the same credential that can tell this object too.

        What a person asks for has to begin after that.
        """
        if subject.asked_for:
            return None
        # One that nobody wants any more is being broken off.
        return next((job for job in self._running if _tells(job.subject, subject) and job.wanted_by), None)

    def _wait(self, job: _Job) -> None:
        job.ticket = self._line.join(job.turn)
        self._waiting[job.ticket] = job
        self._alike.setdefault(job.subject.fingerprint, {})[job] = None

    def _waits_no_more(self, job: _Job) -> None:
        """It has left the line."""
        del self._waiting[job.ticket]
        alike = self._alike[job.subject.fingerprint]
        del alike[job]
        if not alike:
            del self._alike[job.subject.fingerprint]

    def _absorb(self, job: _Job) -> None:
        """One that begins tells all objects of the same credential that wait."""
        for other in [*self._alike.get(job.subject.fingerprint, ())]:
            if not _tells(job.subject, other.subject):
                continue
            self._line.leave(other.ticket)
            self._waits_no_more(other)
            job.wanted_by |= other.wanted_by
            self._jobs |= dict.fromkeys(other.wanted_by, job)

    def _begin(self) -> None:
        """Has those begin whose turn it is. While there is no place, the next one that ends leads back here."""
        if len(self._running) >= self._places:
            return
        now = asyncio.get_running_loop().time()
        self._sent_s = {
            mailbox: recent
            for mailbox, moments in self._sent_s.items()
            if (recent := [moment for moment in moments if now - moment < MINUTE_S])
        }
        while len(self._running) < self._places and (ticket := self._next(now)) is not None:
            job = self._waiting[ticket]
            self._line.begin(ticket)
            self._waits_no_more(job)
            self._absorb(job)
            self._running.append(job)
            if job.turn.sends and job.turn.mailbox is not None:
                self._sent_s.setdefault(job.turn.mailbox, []).append(now)
            job.task = asyncio.create_task(self._run(job), name=f"probe of {next(iter(job.wanted_by))}")
            job.task.add_done_callback(lambda _task, job=job: self._ended(job))  # type: ignore[misc]
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        pause = self._line.pause_s(sent_s=self._sent_s, now_s=now)
        if pause is not None:
            self._alarm = asyncio.get_running_loop().call_later(pause, self._begin)

    def _next(self, now_s: float) -> int | None:
        running = [job.turn for job in self._running]
        return self._line.next(running, places=self._places, sent_s=self._sent_s, now_s=now_s)

    async def _run(self, job: _Job) -> None:
        result = await self._result(job)
        ended_at = datetime.now(UTC)
        told = dict(job.wanted_by)
        job.wanted_by.clear()  # whoever comes from now on would never be told
        for key, subject in told.items():
            del self._jobs[key]
            self._finished[key] = FinishedProbe(subject, result, ended_at)
            self._notify(key)

    def _ended(self, job: _Job) -> None:
        """Of a task: only now has its connection been closed, also where it was cancelled before it began."""
        if job.telling is not None:
            job.telling.cancel()
        self._running.remove(job)
        self._begin()

    def _progressed(self, job: _Job, progress: ProbeProgress) -> None:
        job.latest = progress
        if job.telling is None:
            job.telling = asyncio.get_running_loop().call_later(PROGRESS_PAUSE_S, self._tell, job)

    def _tell(self, job: _Job) -> None:
        job.telling, job.told = None, job.latest
        for key in job.wanted_by:
            self._notify(key)

    async def _result(self, job: _Job) -> ProbeResult:
        """A fault of the operator's own counts as a failed probe, so that the next one comes no sooner."""
        request = job.subject.request
        try:
            # Nobody who follows a probe shares it with others.
            progress = partial(self._progressed, job) if job.subject.followed else untold
            return await self._probe(request, progress)
        except Exception as error:  # noqa: BLE001 - whatever it is, the others go on
            key = next(iter(job.wanted_by), None)
            self._logger.error("the probe of %s broke: %s", key, described(error))  # noqa: TRY400
            where = f"{request.server.host}:{request.server.port}"
            failure = ProbeFailure(
                Stage.CONNECT,
                Reason.PROBE_BROKEN,
                f"The operator itself failed while it tested {where}; its log says where.",
                remedy="It is tried again.",
                is_transient=True,
            )
            return ProbeResult(timedelta(), failure)


def _turn(key: Key, subject: ProbeSubject) -> Turn:
    """Its namespace is that of the object that it is begun for, whose share it takes until its connection is closed."""
    return Turn(
        namespace=key.namespace,
        mailbox=subject.mailbox(key.namespace),
        limits=subject.limits,
        asked_for=subject.asked_for,
        sends=subject.request.mode is ProbeMode.SEND,
    )


def _tells(tested: ProbeSubject, other: ProbeSubject) -> bool:
    """Whether one probe is enough for both. Mails are never shared: each settings object has its own."""
    return (
        tested.fingerprint == other.fingerprint  # of most it is another one
        and tested.credential == other.credential
        and tested.request.mode is not ProbeMode.SEND
    )
