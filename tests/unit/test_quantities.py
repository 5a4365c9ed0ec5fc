"""Durations and sizes: what people write, as numbers; and numbers, as people read them."""

from __future__ import annotations

import pytest

from ansible_collections.hearth.fleet.plugins.module_utils import quantities


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        pytest.param("90s", 90, id="seconds"),
        pytest.param("5m", 300, id="minutes"),
        pytest.param("5min", 300, id="minutes-as-systemd-writes-them"),
        pytest.param("2h30m", 9000, id="two-units"),
        pytest.param("2h 30m", 9000, id="spaces"),
        pytest.param("30d", 2_592_000, id="days"),
        pytest.param("1w", 604_800, id="weeks"),
        pytest.param("45", 45, id="no-unit"),
        pytest.param(45, 45, id="number"),
        pytest.param(0, 0, id="nothing"),
    ],
)
def test_durations(written: object, seconds: int) -> None:
    assert quantities.seconds(written) == seconds


@pytest.mark.parametrize("written", ["", "s", "5 weeks", "1.5h", "-5s", -5, 1.5, True, None, ["5s"], "5s later"])
def test_what_is_no_duration_is_refused_with_an_example(written: object) -> None:
    with pytest.raises(ValueError, match=r"is not a duration; write it like 90s, 5m, 2h30m or 30d"):
        quantities.seconds(written)


@pytest.mark.parametrize(
    ("written", "count"),
    [
        pytest.param("512M", 512 * 2**20, id="mebibytes"),
        pytest.param("4G", 4 * 2**30, id="gibibytes"),
        pytest.param("1.5G", 3 * 2**29, id="fraction"),
        pytest.param("2 T", 2 * 2**40, id="space"),
        pytest.param("8GiB", 8 * 2**30, id="iec-suffix"),
        pytest.param("8GB", 8 * 2**30, id="suffixes-are-powers-of-1024"),
        pytest.param("64K", 65536, id="kibibytes"),
        pytest.param("1024", 1024, id="no-unit"),
        pytest.param("10B", 10, id="bytes"),
        pytest.param(1024, 1024, id="number"),
        pytest.param(0, 0, id="nothing"),
    ],
)
def test_sizes(written: object, count: int) -> None:
    assert quantities.size_bytes(written) == count


@pytest.mark.parametrize("written", ["", "G", "4 gigs", "-1M", -1, 1.5, True, None, {"G": 4}])
def test_what_is_no_size_is_refused_with_an_example(written: object) -> None:
    with pytest.raises(ValueError, match=r"is not a size; write it like 512M, 4G or 1\.5G"):
        quantities.size_bytes(written)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0s"), (59, "59s"), (60, "1m"), (90, "1m30s"), (3600, "1h"), (2_592_000, "30d"), (93_784, "1d2h3m4s")]
)
def test_durations_for_people_can_be_read_back(seconds: int, text: str) -> None:
    assert quantities.duration_text(seconds) == text
    assert quantities.seconds(text) == seconds


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (512 * 2**20, "512.0 MiB"),
        (4 * 2**30, "4.0 GiB"),
        (3 * 2**40, "3.0 TiB"),
        (5000 * 2**40, "5000.0 TiB"),
    ],
)
def test_sizes_for_people(count: int, text: str) -> None:
    assert quantities.size_text(count) == text
