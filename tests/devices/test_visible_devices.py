"""``CUDA_VISIBLE_DEVICES`` as the CUDA guide has it."""

from __future__ import annotations

import pytest

from modelmgr.devices.visible import FoundGpu, FoundInstance, select_visible

GPUS = (
    FoundGpu(0, "GPU-aaaa-1"),
    FoundGpu(1, "GPU-aabb-2"),
    FoundGpu(2, "GPU-cccc-3", (FoundInstance(0, "MIG-1111"), FoundInstance(2, "MIG-2222"))),
)


@pytest.mark.parametrize(
    ("specification", "expected"),
    [
        (None, ["0", "1", "2/0", "2/2"]),
        ("", []),
        ("-1", []),
        ("1", ["1"]),
        ("1,0", ["1", "0"]),
        (" 1 , 0 ", ["1", "0"]),
        ("0,-1,1", ["0"]),
        ("0,7,1", ["0"]),
        ("0,cuda:1", ["0"]),
        ("1,1,0", ["1", "0"]),
        ("GPU-aabb", ["1"]),
        ("GPU-aabb-2,0", ["1", "0"]),
        ("GPU-aa", []),  # two begin so
        ("GPU-dddd", []),
        ("MIG-2222", ["2/2"]),
        ("MIG-2,MIG-1", ["2/2", "2/0"]),
        ("MIG-", []),
        ("2", ["2/0", "2/2"]),
        ("NoDevFiles", []),
        ("²", []),
    ],
)
def test_the_visible_devices_are_those_named_until_the_first_that_is_none(
    specification: str | None, expected: list[str]
) -> None:
    visible = select_visible(specification, GPUS)
    assert [
        f"{device.gpu.index}/{device.instance.index}"
        if device.instance is not None
        else str(device.gpu.index)
        for device in visible
    ] == expected


def test_gpus_are_numbered_in_the_order_they_are_named() -> None:
    names = [device.name for device in select_visible("MIG-2222,0,MIG-1111", GPUS)]
    assert names == ["cuda:0/mig:2", "cuda:1", "cuda:0/mig:0"]


def test_a_gpu_whose_uuid_is_unknown_is_found_by_number_only() -> None:
    lost = (FoundGpu(0, None, problem="lost"), FoundGpu(1, "GPU-1"))
    assert [device.gpu.index for device in select_visible("GPU-1,0", lost)] == [1, 0]
