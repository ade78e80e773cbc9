"""Slots as Leases in the relay's namespace: the relay's replicas and the operator's probes take them alike.

A slot is held while a connection is kept under it, and renewed now and then; a message costs no request. There are no
Leases for logins whose provider states no limit.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import quote

import aiohttp

from mailsettings.api import names
from mailsettings.api.providers import MailboxLimits
from mailsettings.core.lease import Lease, Observer, released, renewed, taken
from mailsettings.core.slots import (
    MINUTE_S,
    RENEW_S,
    RENEW_WITHIN_S,
    TERMS,
    Ask,
    Budget,
    SeenSlot,
    Take,
    next_step,
)
from mailsettings.edges.errors import described
from mailsettings.edges.fence import boottime_s
from mailsettings.edges.kubernetes import ApiError, Json, KubernetesApi
from mailsettings.edges.lease import API_VERSION
from mailsettings.edges.metadata_watch import whole

TROUBLE: Final = (ApiError, aiohttp.ClientError, TimeoutError, OSError, ValueError)
"""The API server refused, could not be asked, or its answer was cut off."""


@dataclass(frozen=True, slots=True)
class _Seen:
    """A Lease as it was seen last."""

    document: Json
    observer: Observer
    since_s: float
    """Since when it has been seen to be so."""

    @property
    def lease(self) -> Lease:
        return Lease.of(self.document.get("spec") or {})

    def annotation(self, name: str) -> str:
        found: str = (self.document["metadata"].get("annotations") or {}).get(name, "")
        return found


class HeldSlot:
    """The right to one connection, until it is freed or `when_over` tells."""

    def __init__(self, slots: "LeasedSlots", key: tuple[str, int], document: Json, budget: Budget) -> None:
        """It is held from now on.

        Args:
            slots: Where it comes from.
            key: The credential and the number.
            document: Its Lease.
            budget: How many messages may be begun on it.
        """
        self.key = key
        self.document = document
        self.budget = budget
        self.ends_s = 0.0
        """When it is lost unless it is renewed."""
        self.wanted = False
        """Whether somebody else asks for it."""
        self.user = ""
        """The namespace whose messages go through it; empty: nobody's yet. Others learn it by the next renewal."""
        self._slots = slots
        self._over: Callable[[], None] | None = None
        self._is_over = False

    @property
    def is_held(self) -> bool:
        """Whether it surely is still nobody else's, also after this process has stood still."""
        return boottime_s() < self.ends_s

    def when_over(self, tell: Callable[[], None]) -> None:
        """Has it told, once, that the slot is to be freed as soon as can be: somebody waits for it, or it is lost."""
        self._over = tell
        if self._is_over:
            tell()

    def end(self) -> None:
        """It is to be freed."""
        if not self._is_over:
            self._is_over = True
            if self._over is not None:
                self._over()

    def free(self) -> None:
        """Gives it back."""
        self._slots.free(self)


class LeasedSlots:
    """Takes, keeps and gives back slots."""

    def __init__(
        self,
        api: KubernetesApi,
        namespace: str,
        *,
        holder: str,
        logger: logging.Logger,
        renew_s: float = RENEW_S,
    ) -> None:
        """None is held.

        Args:
            api: The connection.
            namespace: The relay's.
            holder: Of this process, and of no other one ever.
            logger: Is told of trouble.
            renew_s: From one renewal to the next, in seconds.
        """
        self._api = api
        self._collection = f"/apis/{API_VERSION}/namespaces/{quote(namespace)}/leases"
        self._namespace = namespace
        self._holder = holder
        self._logger = logger
        self._renew_s = renew_s
        self._seen: dict[tuple[str, int], _Seen] = {}
        self._held: dict[HeldSlot, asyncio.Task[None]] = {}
        self._taking: set[tuple[str, int]] = set()
        self._releasing: dict[asyncio.Task[None], tuple[str, int]] = {}

    def count(self) -> int:
        """How many are held."""
        return len(self._held)

    async def take(self, credential: str, limits: MailboxLimits, waiting: Collection[str] = ()) -> HeldSlot | None:
        """The right to one more connection; None: there is none now, and where others have more they are asked for one.

        Args:
            credential: Names the login.
            limits: How many there may be, everywhere.
            waiting: The namespaces that wait for one and have none of this process's.
        """
        try:
            async with asyncio.timeout(TERMS.margin_s):
                await self._look(credential)
                return await self._step(credential, limits, waiting)
        except TROUBLE as error:
            if not (isinstance(error, ApiError) and error.is_conflict):  # then somebody was faster
                self._logger.warning("no slot of %s: %s", credential, described(error))
            return None

    async def _look(self, credential: str) -> None:
        selector = f"{names.LABEL_SLOT_OF}={credential}"
        documents, _ = await self._api.list_at(self._collection, record=whole, label_selector=selector)
        now_s = boottime_s()
        for document in documents:
            number = _number(document)
            if number is not None:
                self._note((credential, number), document, now_s)
        there = {document["metadata"]["name"] for document in documents}
        for key in [key for key in self._seen if key[0] == credential and _name(key) not in there]:
            del self._seen[key]

    def _note(self, key: tuple[str, int], document: Json, now_s: float) -> None:
        before = self._seen.get(key)
        if before is None:
            self._seen[key] = _Seen(document, Observer(self._holder, TERMS), now_s)
        elif _version(before.document) != _version(document):
            self._seen[key] = _Seen(document, before.observer, now_s)

    async def _step(self, credential: str, limits: MailboxLimits, waiting: Collection[str]) -> HeldSlot | None:
        # A Lease of this holder's looks as if it might be taken: it is not while it is being taken or given back.
        users = dict.fromkeys((*self._taking, *self._releasing.values()), "")
        users.update((slot.key, slot.user) for slot in self._held)
        mine = {number: user for (holds, number), user in users.items() if holds == credential}
        slots = [self._view(credential, number) for number in range(limits.connections) if number not in mine]
        match next_step(slots, self._holder, held=[*mine.values()], waiting=waiting):
            case Take(number):
                return await self._take((credential, number), limits)
            case Ask(number):
                await self._annotate(self._seen[credential, number].document, {names.ANNOTATION_WANTED: self._holder})
        return None

    def _view(self, credential: str, number: int) -> SeenSlot:
        seen = self._seen.get((credential, number))
        if seen is None:
            return SeenSlot(number)
        now_s = boottime_s()
        return SeenSlot(
            number,
            holder=seen.lease.holder,
            wait_s=seen.observer.wait_s(seen.lease, now_s=now_s),
            wanted_by=seen.annotation(names.ANNOTATION_WANTED),
            user=seen.annotation(names.ANNOTATION_USER),
            unchanged_s=now_s - seen.since_s,
        )

    async def _take(self, key: tuple[str, int], limits: MailboxLimits) -> HeldSlot:
        seen, asked_s = self._seen.get(key), boottime_s()
        self._taking.add(key)
        try:
            document = await self._taken(key, seen)
        finally:
            self._taking.discard(key)
        share = limits.messages_per_minute_of_slot
        time_s = asyncio.get_running_loop().time()
        slot = HeldSlot(self, key, document, Budget(share, spent=_spent(seen, document, share), now_s=time_s))
        slot.ends_s = asked_s + TERMS.renew_deadline_s
        self._seen.pop(key, None)
        self._held[slot] = asyncio.get_running_loop().create_task(self._keep(slot))
        return slot

    async def _taken(self, key: tuple[str, int], seen: _Seen | None) -> Json:
        """The Lease once it is this holder's."""
        spec = taken(seen.lease if seen is not None else None, self._holder, TERMS, now=datetime.now(UTC))
        if seen is None:
            return await self._api.create(self._collection, self._new(key, spec))
        marks = dict.fromkeys((names.ANNOTATION_WANTED, names.ANNOTATION_SPENT, names.ANNOTATION_USER))
        return await self._annotate(seen.document, marks, spec)

    def _new(self, key: tuple[str, int], spec: dict[str, Any]) -> Json:
        return {
            "apiVersion": API_VERSION,
            "kind": "Lease",
            "metadata": {
                "name": _name(key),
                "namespace": self._namespace,
                "labels": {names.LABEL_MANAGED_BY: names.MANAGED_BY, names.LABEL_SLOT_OF: key[0]},
            },
            "spec": spec,
        }

    async def _annotate(
        self, document: Json, annotations: Mapping[str, str | None], spec: dict[str, Any] | None = None
    ) -> Json:
        """Changes a Lease, if nobody has changed it since."""
        metadata = {name: document["metadata"][name] for name in ("resourceVersion", "uid")}
        patch = {"metadata": {**metadata, "annotations": annotations}, **({"spec": spec} if spec else {})}
        return await self._api.merge(f"{self._collection}/{quote(document['metadata']['name'])}", patch)

    async def _keep(self, slot: HeldSlot) -> None:
        """Renews a slot until it is lost or this is cancelled. No request outlasts the time for which it is held."""
        pause_s = self._renew_s
        while (left_s := slot.ends_s - boottime_s()) > 0:
            await asyncio.sleep(min(pause_s, left_s))
            asked_s = boottime_s()
            if asked_s >= slot.ends_s:
                break
            try:
                async with asyncio.timeout(min(RENEW_WITHIN_S, slot.ends_s - asked_s)):
                    if not await self._renew(slot):
                        break
            except TROUBLE as error:
                self._logger.warning("the slot %s is not renewed yet: %s", _name(slot.key), described(error))
                pause_s = min(self._renew_s, TERMS.retry_s)
                continue
            pause_s = self._renew_s
            slot.ends_s = asked_s + TERMS.renew_deadline_s
            if slot.wanted:
                slot.end()
        self._logger.warning("the slot %s is lost", _name(slot.key))
        self._held.pop(slot, None)
        slot.end()

    async def _renew(self, slot: HeldSlot) -> bool:
        """Whether it is still held."""
        try:
            await self._write_renewal(slot, slot.document)
        except ApiError as error:
            if not (error.is_conflict or error.is_not_found):
                raise
            return await self._look_again(slot)
        return True

    async def _look_again(self, slot: HeldSlot) -> bool:
        """After a conflict: somebody may have asked for the slot."""
        found = await self._api.get(f"{self._collection}/{quote(_name(slot.key))}")
        if found is None or Lease.of(found.get("spec") or {}).holder != self._holder:
            return False
        await self._write_renewal(slot, found)
        return True

    async def _write_renewal(self, slot: HeldSlot, document: Json) -> None:
        user = {names.ANNOTATION_USER: slot.user or None}
        slot.document = document = await self._annotate(document, user, renewed(TERMS, now=datetime.now(UTC)))
        slot.wanted = bool((document["metadata"].get("annotations") or {}).get(names.ANNOTATION_WANTED))

    def free(self, slot: HeldSlot) -> None:
        """Gives a slot back; one that was lost is nobody's to give."""
        keeping = self._held.pop(slot, None)
        if keeping is None:
            return
        keeping.cancel()
        releasing = asyncio.get_running_loop().create_task(self._release(slot))
        self._releasing[releasing] = slot.key
        releasing.add_done_callback(self._releasing.pop)

    async def _release(self, slot: HeldSlot) -> None:
        try:
            async with asyncio.timeout(TERMS.margin_s):
                try:
                    await self._give_up(slot, slot.document)
                except ApiError as error:
                    found = None
                    if error.is_conflict:
                        found = await self._api.get(f"{self._collection}/{quote(_name(slot.key))}")
                    if found is not None and Lease.of(found.get("spec") or {}).holder == self._holder:
                        await self._give_up(slot, found)
        except TROUBLE as error:  # it runs out by itself
            self._logger.warning("the slot %s was not given back: %s", _name(slot.key), described(error))

    async def _give_up(self, slot: HeldSlot, document: Json) -> None:
        spent = str(slot.budget.spent(asyncio.get_running_loop().time()))
        marks = {names.ANNOTATION_SPENT: spent, names.ANNOTATION_USER: None}
        await self._annotate(document, marks, released(now=datetime.now(UTC)))

    async def close(self) -> None:
        """Gives back all that are held, and waits until that is done."""
        for slot in [*self._held]:
            self.free(slot)
        await asyncio.gather(*self._releasing, return_exceptions=True)

    async def sweep(self, used: Callable[[str], bool]) -> None:
        """Removes the slots of credentials that nobody uses any more.

        Args:
            used: Whether somebody does.

        Raises:
            ApiError: The API server refused.
        """
        documents, _ = await self._api.list_at(self._collection, record=whole, label_selector=names.LABEL_SLOT_OF)
        for document in documents:
            metadata = document["metadata"]
            if not used(metadata["labels"][names.LABEL_SLOT_OF]):
                await self._api.delete(f"{self._collection}/{quote(metadata['name'])}", uid=metadata["uid"])


def _name(key: tuple[str, int]) -> str:
    return f"{names.SLOT_PREFIX}{key[0]}-{key[1]}"


def _number(document: Json) -> int | None:
    last = document["metadata"]["name"].rpartition("-")[2]
    return int(last) if last.isascii() and last.isdigit() and len(last) < 5 else None


def _version(document: Json) -> tuple[str, str]:
    return document["metadata"]["uid"], document["metadata"]["resourceVersion"]


def _spent(seen: _Seen | None, document: Json, share: int) -> int:
    """How many messages of the last minute a slot brings along; all, where its holder has ended without saying so.

    Clocks of several processes are never compared: either this one has seen for a minute that nobody has it, or the API
    server says when it was given up and when it was taken.

    Args:
        seen: The Lease before it was taken; None: there was none.
        document: The same once it was.
        share: How many there may be a minute.
    """
    if seen is None:
        return 0
    if seen.lease.holder:
        return share
    if max(boottime_s() - seen.since_s, _apart_s(seen.document, document)) >= MINUTE_S:
        return 0
    with contextlib.suppress(ValueError):
        return min(share, max(0, int(seen.annotation(names.ANNOTATION_SPENT))))
    return share


def _apart_s(before: Json, after: Json) -> float:
    """How long the last changes of two versions of an object are apart at least, by the API server's clock."""
    first, second = _changed_at(before), _changed_at(after)
    if first is None or second is None:
        return 0.0
    return (second - first).total_seconds() - 1.0  # it notes whole seconds


def _changed_at(document: Json) -> datetime | None:
    """Source: the Kubernetes API, metadata.managedFields; the API server sets these times."""
    entries = document["metadata"].get("managedFields") or ()
    return max((datetime.fromisoformat(entry["time"]) for entry in entries if entry.get("time")), default=None)
