"""Energy counters of a made-up machine, by a clock that the runs move."""

from pathlib import Path

import pytest

from featherseg.bench.energy import counters, joules_per_run


def package(root: Path, name: str, microjoules: int | str, wraps_at: int = 10**9) -> Path:
    folder = root / name
    folder.mkdir(parents=True)
    (folder / "energy_uj").write_text(f"{microjoules}\n")
    (folder / "max_energy_range_uj").write_text(f"{wraps_at}\n")
    return folder / "energy_uj"


class Machine:
    """Runs of one second each that use so many microjoules of every counter."""

    def __init__(self, used: dict[Path, int], wraps_at: int = 10**9) -> None:
        self.used, self.wraps_at, self.now = used, wraps_at, 0.0

    def run(self) -> None:
        self.now += 1.0
        for file, microjoules in self.used.items():
            file.write_text(str((int(file.read_text()) + microjoules) % (self.wraps_at + 1)))

    def clock(self) -> float:
        return self.now


def test_a_machine_without_counters_gives_none(tmp_path):
    assert joules_per_run(lambda: None, root=tmp_path / "none") is None


def test_energy_is_averaged_over_the_runs_of_all_packages(tmp_path):
    used = {package(tmp_path, "intel-rapl:0", 5): 2_000_000, package(tmp_path, "intel-rapl:1", 7): 1_000_000}
    machine = Machine(used)
    assert joules_per_run(machine.run, seconds=4.0, root=tmp_path, clock=machine.clock) == pytest.approx(3.0)


def test_a_counter_that_begins_again_is_followed(tmp_path):
    file = package(tmp_path, "intel-rapl:0", 900, wraps_at=999)
    machine = Machine({file: 300}, wraps_at=999)
    assert joules_per_run(machine.run, seconds=1.0, root=tmp_path, clock=machine.clock) == pytest.approx(300e-6)


def test_parts_of_a_package_are_not_counted_twice(tmp_path):
    package(tmp_path, "intel-rapl:0", 1)
    package(tmp_path, "intel-rapl:0:0", 1)
    assert [counter.file.parent.name for counter in counters(tmp_path)] == ["intel-rapl:0"]


def test_a_counter_that_cannot_be_read_is_left_out(tmp_path):
    package(tmp_path, "intel-rapl:0", "secret")
    assert counters(tmp_path) == []
