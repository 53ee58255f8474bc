"""Two gloo processes teach a student what one does with the whole batch, whether outputs are kept on disk or not."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from featherseg.training.log import read_log

SCRIPT = Path(__file__).with_name("two_students.py")


@pytest.mark.slow
@pytest.mark.skipif(not torch.distributed.is_available(), reason="PyTorch was built without processes")
def test_two_processes_equal_one_with_the_whole_batch_when_batch_norm_is_frozen(tmp_path: Path) -> None:
    """Shares of two images and of one. Both runs with a cache use one folder: the second finds it filled."""
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(tmp_path)], capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    for kept in (False, True):
        folders = (tmp_path / f"{count}-{kept}" for count in (1, 2))
        one, two = ([entry["loss"] for entry in read_log(folder) if "loss" in entry] for folder in folders)
        assert len(one) == 4
        assert two == pytest.approx(one, rel=1e-4)
