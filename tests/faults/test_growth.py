"""That the soak sees what grows, and only that."""

from dataclasses import replace

import pytest

from tests.faults.growth import Size, check_flat

SIZE = Size(memory_kb=150_000, files=30, threads=6, parts=40, disk_bytes_per_message=240.0)


def test_what_comes_and_goes_is_flat() -> None:
    sizes = [SIZE] * 30
    sizes[27] = replace(SIZE, memory_kb=190_000)
    sizes[28] = replace(SIZE, disk_bytes_per_message=400.0)

    check_flat(sizes)


@pytest.mark.parametrize(
    "grown",
    [
        {"memory_kb": 170_000},
        {"files": 60},
        {"threads": 30},
        {"parts": 400},
        {"disk_bytes_per_message": 270.0},
    ],
)
def test_what_grows_is_found(grown: dict[str, int]) -> None:
    larger = replace(SIZE, **grown)

    with pytest.raises(AssertionError, match=next(iter(grown))):
        check_flat([SIZE] * 15 + [larger] * 15)
