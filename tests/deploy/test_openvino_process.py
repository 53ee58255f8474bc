"""What a process that uses OpenVINO does besides: it ends, and it tells nobody of itself."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("openvino")


def run(program: str, home: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("NUMBA_")}
    subprocess.run([sys.executable, "-c", program], env=environment | {"HOME": str(home)}, check=True, timeout=90)


def test_a_process_that_ran_compiled_loops_in_a_thread_ends(tmp_path):
    # numba on OpenVINO's TBB would wait for ever at the end
    run(
        """if True:
        from threading import Thread
        import numba, torch
        from featherseg.deploy.labels import label_map
        from featherseg.deploy.openvino import openvino_core
        from featherseg.models.compiled import match_threads
        from featherseg.models.output import InputSpec

        @numba.njit(parallel=True)
        def count(number):
            total = 0
            for one in numba.prange(number):
                total += 1
            return total

        def work():
            for _ in range(2):
                label_map(torch.randn(3, 30, 40), InputSpec(), (120, 160))
            match_threads()
            assert count(1000) == 1000

        openvino_core()
        thread = Thread(target=work)
        thread.start()
        thread.join()
        assert numba.threading_layer() != "tbb", numba.threading_layer()
        """,
        tmp_path,
    )


def test_importing_openvino_leaves_nothing_in_the_home_folder(tmp_path):
    run("from featherseg.deploy.openvino import openvino_core; openvino_core()", tmp_path)
    assert list(tmp_path.iterdir()) == []
