"""What a watch repeats late is told from what it says anew."""

from mailsettings.controller.echoes import Echoes


def metadata(version: int, uid: str = "a") -> dict[str, str]:
    return {"uid": uid, "resourceVersion": str(version)}


def test_what_came_before_a_write_is_outdated_until_its_echo() -> None:
    echoes = Echoes()
    assert not echoes.is_outdated(metadata(8))

    echoes.wrote(metadata(10))

    assert echoes.is_outdated(metadata(9))
    assert echoes.is_outdated(metadata(9))
    assert not echoes.is_outdated(metadata(10))
    assert not echoes.is_outdated(metadata(11))


def test_versions_are_numbers() -> None:
    echoes = Echoes()
    echoes.wrote(metadata(10))
    assert echoes.is_outdated(metadata(9))
    assert not echoes.is_outdated(metadata(100))


def test_a_listing_that_has_skipped_the_echo_counts_too() -> None:
    echoes = Echoes()
    echoes.wrote(metadata(10))
    assert not echoes.is_outdated(metadata(15))


def test_after_the_echo_a_restored_cluster_may_count_anew() -> None:
    echoes = Echoes()
    echoes.wrote(metadata(10))
    assert not echoes.is_outdated(metadata(10))
    assert not echoes.is_outdated(metadata(3))


def test_objects_do_not_mix() -> None:
    echoes = Echoes()
    echoes.wrote(metadata(10))
    assert not echoes.is_outdated(metadata(5, uid="b"))
    assert echoes.is_outdated(metadata(5))
