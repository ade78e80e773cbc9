"""The ledger of test mails: Secrets in the operator's namespace that outlive every object and every process.

A count is written on the version that was read, so that of two replicas none loses the other's. What was read or
written last is kept here, and the next count is written on that: where somebody has written since, the API server
refuses, and it is read again. What is kept is never believed that there is no room. What cannot be counted is not sent.
"""

import asyncio
import base64
import json
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime
from typing import Final

from mailsettings.api import names
from mailsettings.core.digest import Digester
from mailsettings.core.mails import Account, Bounds, Counts, accounts, corrected, counted, read_counts, written_counts
from mailsettings.core.probe import Hold, TestMail
from mailsettings.edges.errors import described
from mailsettings.edges.kubernetes import (
    UNREACHABLE,
    ApiError,
    Json,
    KubernetesApi,
    core_collection_path,
    core_path,
)

DATA_KEY: Final = "counts.json"

PATIENCE_S: Final = 10
"""How long a mail waits to be counted: the mail server waits meanwhile."""

ATTEMPTS: Final = 6
FIRST_PAUSE_S: Final = 0.1
"""Before the second attempt; each later pause is twice as long."""


_UNANSWERED: Final = (*UNREACHABLE, json.JSONDecodeError)
"""There was no answer, or one that was cut off."""


_Step = Callable[[Account], Awaitable[Hold | None]]


class _UnreadableError(Exception):
    """A shard holds something else than counts: it would be wrong to take that for nothing. The text says which."""


class MailLedger:
    """Counts test mails."""

    def __init__(
        self, api: KubernetesApi, namespace: str, *, digest: Digester, bounds: Bounds, logger: logging.Logger
    ) -> None:
        """Nothing is read yet.

        Args:
            api: The connection.
            namespace: The operator's.
            digest: Makes the names of accounts.
            bounds: How many mails there may be.
            logger: Is told in full why a mail is not counted.
        """
        self._api = api
        self._namespace = namespace
        self._digest = digest
        self._bounds = bounds
        self._logger = logger
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        """By shard: this process's own mails need not compete."""
        self._kept: dict[str, Json] = {}
        """By shard: its Secret as it was read or written last."""

    async def look(self, mail: TestMail) -> Hold | None:
        """Why a mail cannot be sent just now; None: nothing is known against it. Counts nothing."""
        return await self._for_each_account(mail, self._look)

    async def count(self, mail: TestMail) -> Hold | None:
        """Counts a mail that is about to be sent; why it may not be sent, or None: it may.

        If others take the last room of one account just then, the mail stays counted on the other one.
        """
        return await self._for_each_account(mail, self._expect_room, self._count)

    async def _for_each_account(self, mail: TestMail, *steps: _Step) -> Hold | None:
        """The first hold. Each step is done for all accounts at the same time, since a mail server waits meanwhile."""
        concerned = accounts(mail, self._digest, self._bounds, operator_namespace=self._namespace)
        try:
            async with asyncio.timeout(PATIENCE_S):
                for step in steps:
                    hold = _first_hold(await asyncio.gather(*map(step, concerned), return_exceptions=True))
                    if hold is not None:
                        return hold
        except ApiError as error:
            return self._not_counted(f"the API server says {error.status} {error.reason}", error)
        except _UNANSWERED as error:
            return self._not_counted("the API server does not answer", error)
        except _UnreadableError as error:
            return self._not_counted(str(error), error)
        return None

    def _not_counted(self, why: str, error: Exception) -> Hold:
        self._logger.warning("a test mail is not counted, and so not sent: %s (%s)", why, described(error))
        return Hold(why, None)

    async def _look(self, account: Account) -> Hold | None:
        return await self._tried(account, self._try_to_look)

    async def _count(self, account: Account) -> Hold | None:
        return await self._tried(account, self._try_to_count)

    async def _tried(self, account: Account, step: _Step) -> Hold | None:
        pause_s = FIRST_PAUSE_S
        async with self._turns[account.shard]:
            for _ in range(ATTEMPTS - 1):
                try:
                    return await step(account)
                except (ApiError, *_UNANSWERED) as error:
                    if not _may_pass(error):
                        raise
                await asyncio.sleep(pause_s)
                pause_s *= 2
            return await step(account)

    async def _try_to_look(self, account: Account) -> Hold | None:
        document = await self._read(account)
        found = await self._counted(document, account)
        return found if isinstance(found, Hold) else None

    async def _try_to_count(self, account: Account) -> Hold | None:
        if await self._count_on_kept(account):
            return None
        document = await self._read(account)
        found = await self._counted(document, account)
        if isinstance(found, Hold):
            return found
        await self._write(document, account, found)
        return None

    async def _expect_room(self, account: Account) -> Hold | None:
        """As `_look`, but what is kept is believed if it has room: `_count` is told if that is not so any more."""
        kept = self._kept.get(account.shard)
        if kept is not None and _room(kept, account) is not None:
            return None
        return await self._look(account)

    async def _count_on_kept(self, account: Account) -> bool:
        """Whether the mail is counted; else what is kept does not do."""
        kept = self._kept.get(account.shard)
        room = _room(kept, account) if kept is not None else None
        if room is None:
            return False
        try:
            await self._write(kept, account, room)
        except ApiError as error:
            if not (error.is_conflict or error.is_not_found):
                raise
            return False
        return True

    async def _read(self, account: Account) -> Json | None:
        """A shard's Secret; None: there is none.

        Raises:
            _UnreadableError: it cannot be read.
        """
        self._kept.pop(account.shard, None)
        document = await self._api.get(self._path(account))
        if document is not None:
            _counts(document)
            self._kept[account.shard] = document
        return document

    async def _counted(self, document: Json | None, account: Account) -> Counts | Hold:
        """As `mails.counted`; what a wrong clock wrote is mended, if it is in the way."""
        now, counts = datetime.now(UTC), _counts(document)
        right = corrected(counts, now)
        found = counted(right, account, now)
        if isinstance(found, Hold) and right != counts:
            await self._write(document, account, right)
        return found

    async def _write(self, document: Json | None, account: Account, counts: Counts) -> None:
        """Writes counts on a version, or where there is nothing yet."""
        data = {DATA_KEY: base64.b64encode(written_counts(counts).encode()).decode("ascii")}
        if document is None:
            written = await self._api.create(
                core_collection_path("secrets", self._namespace), self._manifest(account, data)
            )
        else:
            version = {"resourceVersion": document["metadata"]["resourceVersion"]}
            written = await self._api.merge(self._path(account), {"metadata": version, "data": data})
        self._kept[account.shard] = written

    def _manifest(self, account: Account, data: dict[str, str]) -> Json:
        return {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "name": names.mail_ledger_name(account.shard),
                "namespace": self._namespace,
                "labels": {names.LABEL_MANAGED_BY: names.MANAGED_BY},
            },
            "type": names.MAIL_LEDGER_TYPE,
            "data": data,
        }

    def _path(self, account: Account) -> str:
        return core_path("secrets", self._namespace, names.mail_ledger_name(account.shard))


def _first_hold(ended: Iterable[Hold | BaseException | None]) -> Hold | None:
    """The first of what was found for each account.

    Raises:
        BaseException: what one of them has ended by.
    """
    holds = []
    for each in ended:
        if isinstance(each, BaseException):
            raise each
        holds.append(each)
    return next(filter(None, holds), None)


def _may_pass(error: Exception) -> bool:
    """Whether it may go better in a moment. If only the answer was lost, the mail is counted once too often."""
    if not isinstance(error, ApiError):
        return True
    return error.is_conflict or error.is_not_found or error.is_temporary


def _room(document: Json, account: Account) -> Counts | None:
    """The counts with one more mail in them; None: there is no room for it."""
    now = datetime.now(UTC)
    found = counted(corrected(_counts(document), now), account, now)
    return None if isinstance(found, Hold) else found


def _counts(document: Json | None) -> Counts:
    """What a shard holds.

    Raises:
        _UnreadableError: it cannot be read.
    """
    if document is None:
        return {}
    text = (document.get("data") or {}).get(DATA_KEY, "")
    try:
        return read_counts(base64.b64decode(text, validate=True).decode())
    except ValueError:
        name = document["metadata"]["name"]
        raise _UnreadableError(f"the counts in the Secret {name} cannot be read") from None
