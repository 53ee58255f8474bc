"""A teacher that OpenVINO runs says what PyTorch's says."""

import sys

import pytest
import torch
from test_distillation_task import batch_of, tutor, value_of
from tiny_students import run_student, student_recipe

from featherseg.distillation.openvino_teacher import in_openvino
from featherseg.distillation.task import DistillationTask
from featherseg.errors import FeathersegError
from featherseg.models.weights import read_weights

PATHS = ("1/4", "1/16")
SETTINGS = {"affinity": {"weight": 1.0, "form": "pooled", "grid": [4, 8]}}


@pytest.fixture(autouse=True)
def installed():
    pytest.importorskip("openvino")


def images(count: int = 2, size: tuple[int, int] = (32, 64)) -> torch.Tensor:
    return torch.randint(0, 256, (count, *size, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("autocast", [False, True])
def test_logits_and_maps_are_pytorchs_in_float32(autocast):
    teacher = tutor()
    plain = teacher(images(), PATHS)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        told = in_openvino(teacher, "fp32")(images(), PATHS)
    torch.testing.assert_close(told.logits, plain.logits, rtol=1e-4, atol=1e-4)
    assert tuple(told.maps) == PATHS
    for path in PATHS:
        torch.testing.assert_close(told.maps[path], plain.maps[path], rtol=1e-4, atol=1e-4)


def test_batches_of_every_shape_are_taken_and_the_last_answer_is_not_overwritten():
    teacher = tutor()
    compiled = in_openvino(teacher, "fp32")
    for given in (images(), images(1), images(2, (64, 64)), images()):
        torch.testing.assert_close(compiled(given).logits, teacher(given).logits, rtol=1e-4, atol=1e-4)
    first, again = compiled(images()).logits, compiled(images().flip(0)).logits
    torch.testing.assert_close(first, again.flip(0), rtol=1e-4, atol=1e-4)


def test_the_loss_is_that_with_pytorchs_teacher():
    plain = DistillationTask(student_recipe(distillation=SETTINGS), tutor())
    quick = DistillationTask(student_recipe(distillation=SETTINGS | {"runtime": "openvino"}), tutor())
    assert value_of(quick, batch_of(quick)) == pytest.approx(value_of(plain, batch_of(plain)), rel=1e-4)


def test_a_training_in_bfloat16_gives_the_same_bits_twice(tmp_path):
    recipe = student_recipe(distillation=SETTINGS | {"runtime": "openvino"}, train={"precision": "bf16", "steps": 2})
    for name in ("one", "other"):
        run_student(tmp_path / name, recipe, tutor())
    one, other = (read_weights(tmp_path / name / "weights.safetensors").tensors for name in ("one", "other"))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_a_precision_that_cpus_lack_is_refused():
    with pytest.raises(FeathersegError, match=r"runs in fp32 or bf16, and .* is fp16"):
        in_openvino(tutor(), "fp16")


def test_without_the_package_it_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(FeathersegError, match="pip install openvino"):
        in_openvino(tutor(), "fp32")(images())


def test_a_network_that_openvino_does_not_take_is_named():
    teacher = tutor()

    def broken(_: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("no such thing")

    teacher.network.forward = broken  # type: ignore[method-assign]
    with pytest.raises(FeathersegError, match="OpenVINO does not take tutor"):
        in_openvino(teacher, "fp32")(images())
