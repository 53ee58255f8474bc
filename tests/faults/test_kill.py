"""``kill -9`` at any moment, in mid-step and in mid-save: the resumed training leaves the same bytes.

``python tests/faults/kill_many.py --kills 50`` does it fifty times for the record.
"""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("kill_many.py")


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [["--kills", "4"], ["--points", "--steps", "4"], ["--stages", "--kills", "4", "--steps", "30"]],
    ids=["random", "mid-save", "stages"],
)
def test_killed_trainings_resume_to_the_same_weights_and_log(options: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *options], capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    kills, _, same = done.stdout.partition(" kills (")
    assert int(kills) >= 4
    assert f"{kills} identical" in same
