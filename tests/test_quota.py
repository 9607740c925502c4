"""What control groups allow a process, read from trees of files as Linux shows them."""

from pathlib import Path

import pytest

from hear_axlstm.quota import quota

V2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
V1 = "33 32 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:9 - cgroup cgroup rw,cpu,cpuacct\n"
OTHER = "21 1 8:1 / / rw - ext4 /dev/sda1 rw\n34 32 0:30 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"


@pytest.fixture
def machine(tmp_path):
    """Make a tree of files from the groups of the process, the mounts, and the texts of files below the folder of groups."""

    def make(groups: str, mounts: str, files: dict[str, str]) -> Path:
        texts = {"proc/self/cgroup": groups, "proc/self/mountinfo": OTHER + mounts}
        for name, text in (texts | {f"sys/fs/cgroup/{name}": text for name, text in files.items()}).items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path

    return make


@pytest.mark.parametrize(
    ("limit", "count"),
    [
        ("max 100000", None),
        ("50000 100000", 1),
        ("150000 100000", 2),
        ("100000 100000", 1),
        ("25000 10000", 3),
        ("1 0", None),
    ],
)
def test_a_quota_is_rounded_up(machine, limit, count):
    assert quota(machine("0::/app.slice\n", V2, {"app.slice/cpu.max": f"{limit}\n"})) == count


def test_the_tightest_of_the_groups_above_counts(machine):
    files = {"cpu.max": "800000 100000", "a/cpu.max": "130000 100000", "a/b/cpu.max": "max 100000", "other/cpu.max": "1 100"}
    assert quota(machine("0::/a/b\n", V2, files)) == 2


@pytest.mark.parametrize(("time", "count"), [("-1", None), ("50000", 1), ("150000", 2)])
def test_the_first_version_of_control_groups(machine, time, count):
    files = {
        f"cpu,cpuacct/docker/{name}": text for name, text in (("cpu.cfs_quota_us", time), ("cpu.cfs_period_us", "100000"))
    }
    assert quota(machine("5:memory:/elsewhere\n4:cpu,cpuacct:/docker/abc\n0::/\n", V1 + V2, files)) == count


def test_a_container_that_sees_only_its_own_part_of_the_tree(machine):
    mounts = V1.replace("0:29 /", "0:29 /docker/abc").replace("cpu,cpuacct rw", r"of\040mine rw")
    files = {"of mine/cpu.cfs_quota_us": "150000", "of mine/cpu.cfs_period_us": "50000"}
    assert quota(machine("4:cpu,cpuacct:/docker/abc\n", mounts, files)) == 3


@pytest.mark.parametrize("path", ["/", "/../..", "/gone/with/its/group"])
def test_a_group_outside_of_what_is_mounted(machine, path):
    assert quota(machine(f"0::{path}\n", V2, {"cpu.max": "200000 100000"})) == 2


def test_a_system_without_control_groups(tmp_path, machine):
    assert quota(tmp_path) is None
    assert quota(machine("0::/\n", "", {})) is None
