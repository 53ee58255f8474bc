"""The log: JSON lines, cut back to the checkpoint on resume, deaf to a line that was cut short."""

import json
from pathlib import Path

import pytest

from featherseg.errors import FeathersegError
from featherseg.training.log import NAME, TrainingLog, read_log


def test_entries_are_json_lines_that_are_there_at_once(tmp_path: Path) -> None:
    log = TrainingLog(tmp_path, 0)
    log.write({"step": 1, "loss": 0.5})
    log.write({"step": 2, "evaluation": {"score": None}})
    lines = (tmp_path / NAME).read_text().splitlines()
    log.close()
    assert [json.loads(line) for line in lines] == [
        {"step": 1, "loss": 0.5},
        {"step": 2, "evaluation": {"score": None}},
    ]


def test_resuming_drops_what_lies_past_the_checkpoint_and_a_cut_line(tmp_path: Path) -> None:
    (tmp_path / NAME).write_text(
        '{"step": 1}\n{"step": 2}\n{"step": 2, "evaluation": {}}\n{"step": 3}\n{"step": 4, "lo'
    )
    log = TrainingLog(tmp_path, 2)
    log.write({"step": 3, "again": True})
    log.close()
    steps = [{"step": 1}, {"step": 2}, {"step": 2, "evaluation": {}}, {"step": 3, "again": True}]
    assert read_log(tmp_path) == steps


def test_a_new_run_begins_a_new_log(tmp_path: Path) -> None:
    (tmp_path / NAME).write_text('{"step": 0}\n{"step": 1}\n')
    TrainingLog(tmp_path, 0).close()
    assert read_log(tmp_path) == []


def test_processes_that_do_not_write_leave_the_file_alone(tmp_path: Path) -> None:
    (tmp_path / NAME).write_text('{"step": 1}\n')
    log = TrainingLog(tmp_path, 0, active=False)
    log.write({"step": 2})
    log.close()
    assert read_log(tmp_path) == [{"step": 1}]


def test_garbage_in_a_log_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(b'\xff\xfe\n[1]\n"a"\n{"loss": 1}\n\n{"step": 5}\n')
    assert read_log(tmp_path) == [{"step": 5}]
    assert read_log(tmp_path / "elsewhere") == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_gives_a_message(tmp_path: Path) -> None:
    log = TrainingLog(tmp_path, 0)
    assert log._file is not None
    log._file.close()
    log._file = Path("/dev/full").open("w")  # noqa: SIM115
    with pytest.raises(FeathersegError, match="could not be written: No space left"):
        log.write({"step": 1})
    log.close()
