"""Label maps by Triton: the cases of ``label_triton_cases.py``, what Triton makes of the kernels, and doing without."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from featherseg.deploy import labels
from featherseg.models.output import InputSpec

CASES = Path(__file__).with_name("label_triton_cases.py")
needs_triton = pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed")
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU that CUDA knows")


@needs_triton
@pytest.mark.parametrize("interpreted", [True, pytest.param(False, marks=needs_gpu)], ids=["interpreter", "gpu"])
def test_the_cases_of_label_maps_by_triton_hold(interpreted, tmp_path):
    surroundings = os.environ | {"TRITON_INTERPRET": str(int(interpreted)), "TRITON_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", str(CASES)]
    done = subprocess.run(command, env=surroundings, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@needs_triton
def test_on_a_gpu_nothing_is_fused_but_what_is_written(tmp_path):
    """Compiled for a GPU, which takes none: with the order that fuses nothing, there is no fused operation."""
    program = """if True:
        import triton
        from triton.backends.compiler import GPUTarget
        from triton.compiler import ASTSource
        from featherseg.deploy.label_triton import UNCLEAR, label_tiles
        pointers = {"logits": "*bf16", "winners": "*u8", "tops": "*i32", "fy": "*fp32", "lefts": "*i32", "fx": "*fp32"}
        pointers |= {"labels": "*u8", "sure": "*fp32"}
        whole = dict.fromkeys(("classes", "height", "width", "rows", "columns"), "i32")
        fixed = {"ORDER": "none", "CONFIDENCE": False, "UNCLEAR": UNCLEAR, "ROWS": 4, "COLUMNS": 32}
        source = ASTSource(label_tiles, pointers | whole | dict.fromkeys(fixed, "constexpr"), fixed)
        made = triton.compile(source, target=GPUTarget("cuda", 80, 32), options={"enable_fp_fusion": False})
        assert made.asm["cubin"]
        print(*{word.split(".")[0] for word in made.asm["ptx"].split() if word.endswith(".f32")})
    """
    surroundings = os.environ | {"TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", program], env=surroundings, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert {"mul", "add"} <= set(done.stdout.split())
    assert "fma" not in done.stdout.split()


def test_without_triton_maps_on_a_gpu_are_left_to_pytorch(monkeypatch):
    monkeypatch.setitem(sys.modules, "triton", None)
    monkeypatch.delitem(sys.modules, "featherseg.deploy.label_triton", raising=False)
    monkeypatch.setattr(labels, "_gpu_kernels", labels._gpu_kernels.__wrapped__)
    assert labels.labels_on_gpu(torch.zeros(3, 4, 20), InputSpec(), (12, 130)) is None
