"""What the benchmarks take for a write of the operator."""

import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from bench.audit import AuditLog, Write, objects_of, to, write_of
from bench.errors import BenchError

AT = datetime(2026, 1, 1, tzinfo=UTC)


def event(namespace: str = "tenant-1", *, code: int = 200, agent: str = "Python/3 aiohttp/3", **target: str) -> str:
    found: dict[str, Any] = {
        "verb": "patch",
        "userAgent": agent,
        "objectRef": {"resource": "secrets", "namespace": namespace, "name": "mail-smtp", **target},
        "responseStatus": {"code": code},
        "stageTimestamp": AT.isoformat().replace("+00:00", "Z"),
    }
    return json.dumps(found)


def write(name: str = "mail-smtp", *, resource: str = "secrets", code: int = 200, at: float = 0.0) -> Write:
    return Write("patch", resource, "tenant-1", name, code, at)


def test_a_line_of_the_log_is_a_write() -> None:
    assert write_of(event()) == Write("patch", "secrets", "tenant-1", "mail-smtp", 200, AT.timestamp())
    status = write_of(event(resource="mailserversettings", subresource="status"))
    assert status is not None
    assert status.resource == "mailserversettings/status"


def test_a_benchmarks_own_request_is_none_of_the_operators() -> None:
    assert write_of(event(agent="mailsettings-bench")) is None


def test_what_was_refused_changed_nothing() -> None:
    writes = [write(), write(), write("other"), write("refused", code=409), write(resource="events")]
    assert len(to(writes, "secrets")) == 3
    assert objects_of(writes, "secrets") == 2


def test_the_log_is_read_on_from_where_it_was_left(tmp_path: Path) -> None:
    log = AuditLog(tmp_path)
    log.options()
    assert log.writes == []
    file = tmp_path / "audit.log"
    first, second = event("a") + "\n", event("b") + "\n"
    file.write_text(first + second[:20])
    assert [each.namespace for each in log.writes] == ["a"]
    with file.open("a") as end:
        end.write(second[20:])
    assert [each.namespace for each in log.writes] == ["a", "b"]
    log.forget()
    assert log.writes == []


async def test_it_is_waited_for_until_all_is_written_and_nothing_follows(tmp_path: Path) -> None:
    log = AuditLog(tmp_path)
    log.options()
    (tmp_path / "audit.log").write_text(event("a") + "\n")
    assert len(await log.settled(lambda writes: len(writes) == 1, timeout_s=5)) == 1
    with pytest.raises(BenchError, match="1 writes"):
        await log.settled(lambda writes: len(writes) == 2, timeout_s=0.1)


def test_moments_are_those_of_this_machines_clock(tmp_path: Path) -> None:
    found = write_of(event().replace(AT.isoformat().replace("+00:00", "Z"), datetime.now(UTC).isoformat()))
    assert found is not None
    assert abs(found.at - time.time()) < 60
