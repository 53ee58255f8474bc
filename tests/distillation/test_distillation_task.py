"""A student as a task: what it is compared with, its teacher that stays as it was, and runs that are gone on with."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_students import (
    AFFINITY,
    CLASSES,
    CROP,
    STUDENT,
    TUTOR,
    make,
    run_student,
    save,
    student_recipe,
)
from torch import nn

from featherseg.data.batches import Batch, BatchPlan, training_batches
from featherseg.data.labels import IGNORE
from featherseg.distillation.task import DistillationTask
from featherseg.distillation.teacher import Teacher, teacher_of
from featherseg.errors import FeathersegError
from featherseg.losses.affinity import affinity_loss
from featherseg.losses.distillation import divergence
from featherseg.models.output import InputSpec, SegmentationOutput
from featherseg.models.weights import read_metadata, read_weights
from featherseg.training.log import read_log
from featherseg.training.segmentation import SegmentationTask
from featherseg.training.task import UpdateSize


def batch_of(task: SegmentationTask, step: int = 0, size: int = 2) -> Batch:
    plan = BatchPlan(task.length, size)
    return next(training_batches(task.samples, plan, start=step, stop=step + 1, workers=0))


def loss_of(task: SegmentationTask, batch: Batch) -> torch.Tensor:
    return task.loss(task.network, batch, UpdateSize(task.weight(batch), len(batch)))


def value_of(task: SegmentationTask, batch: Batch) -> float:
    with torch.no_grad():
        return float(loss_of(task, batch))


def tutor(seed: int = 1) -> Teacher:
    return teacher_of(make(TUTOR, seed), name="tutor")


def losses(folder: Path) -> list[float]:
    return [entry["loss"] for entry in read_log(folder) if "loss" in entry]


@pytest.mark.parametrize("at", ["logits", "labels"])
def test_a_student_with_its_teachers_weights_has_no_divergence(at):
    settings = {"affinity": {}, "kl": {"at": at}, "supervised": 0.0}
    task = DistillationTask(student_recipe(distillation=settings), teacher_of(make(STUDENT, 3)))
    task.network.load_state_dict(task.teacher.network.state_dict())
    task.network.eval()
    assert value_of(task, batch_of(task)) == pytest.approx(0.0, abs=1e-6)
    with torch.no_grad():
        for parameter in task.network.parameters():
            parameter.add_(0.1)
    assert value_of(task, batch_of(task)) > 1e-3


def test_the_loss_is_the_criterion_and_the_weighted_comparisons():
    """Against the losses' own functions on the very maps; the tutor's logits and the student's lie on other grids."""
    weights = {"kl": {"weight": 0.5, "at": "labels"}, "affinity": {"weight": 2.0}}
    recipe = student_recipe(distillation=weights)
    task = DistillationTask(recipe, tutor())
    batch = batch_of(task)
    task.network.eval()
    found = loss_of(task, batch)

    student: Any = task.network
    teacher: Any = task.teacher.network
    images = student.input_spec.normalise(batch.images)
    ours, theirs = student.features(images), teacher.features(images)
    small, large = student.predict(ours).logits, teacher.predict(theirs).logits
    full = [one.input_spec.enlarge(logits, CROP) for one, logits in ((student, small), (teacher, large))]
    wanted = 0.5 * divergence(full[0], full[1], batch.targets)
    for (a, b), weight in (
        ((ours.fused, teacher.prediction_map(theirs)), 1.0),
        ((ours.branches[0].refines[16], theirs.branches[0].refines[16]), 0.8),
        ((ours.branches[0].arms[32], theirs.branches[0].arms[32]), 0.8),
    ):
        wanted = wanted + 2.0 * weight * affinity_loss(a, b)
    supervised = SegmentationTask(student_recipe(distillation=None))
    supervised.network = student
    torch.testing.assert_close(found, loss_of(supervised, batch) + wanted.mean(), rtol=1e-5, atol=1e-6)


def test_a_comparison_of_weight_zero_is_not_made():
    task = DistillationTask(student_recipe(distillation={"affinity": {"weight": 0.0}}), tutor())
    assert task.pairs == ()


def test_channel_wise_distillation_moves_the_students_logits_alone():
    settings = {"affinity": {}, "kl": {"weight": 0.0}, "channel_wise": {"weight": 3.0}, "supervised": 0.0}
    task = DistillationTask(student_recipe(distillation=settings), tutor())
    loss_of(task, batch_of(task)).backward()
    moved = {name for name, one in task.network.named_parameters() if one.grad is not None and one.grad.abs().sum() > 0}
    assert "heads8.conv_1x1.weight" in moved
    assert "heads16.conv_1x1.weight" not in moved


def test_the_loss_of_parts_adds_up_to_the_whole_batchs():
    task = DistillationTask(student_recipe(), tutor())
    task.network.eval()
    batch = batch_of(task, size=3)
    size = UpdateSize(task.weight(batch), len(batch))
    first, second = (task.loss(task.network, part, size) for part in batch.split(2))
    torch.testing.assert_close(first + second, loss_of(task, batch))


def test_the_teacher_is_as_it_was_after_a_training(tmp_path):
    teacher = tutor()
    before = {name: tensor.clone() for name, tensor in teacher.network.state_dict().items()}
    run_student(tmp_path, student_recipe(), teacher)
    after = teacher.network.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(parameter.grad is None for parameter in teacher.network.parameters())
    assert not teacher.network.training


def test_the_student_learns_from_the_teacher(tmp_path):
    """Without labels' part of the loss: the divergence from the teacher falls."""
    settings = {"affinity": {}, "supervised": 0.0}
    train = {"steps": 24}
    run_student(tmp_path, student_recipe(distillation=settings, train=train), tutor())
    falling = losses(tmp_path)
    assert sum(falling[-4:]) < 0.75 * sum(falling[:4])


def test_the_teachers_own_input_spec_is_used():
    """A teacher that gives the images back shows what it was fed."""

    class Mirror(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images

    spec = InputSpec("BGR", (0.1, 0.2, 0.3), (0.5, 0.5, 0.5), output_stride=1)
    images = torch.randint(0, 256, (1, 8, 8, 3), dtype=torch.uint8)
    taught = teacher_of(Mirror(), spec=spec)(images)
    wanted = (images.flip(-1).permute(0, 3, 1, 2) / 255 - torch.tensor([0.1, 0.2, 0.3]).view(1, 3, 1, 1)) / 0.5
    torch.testing.assert_close(taught.logits, wanted)


def test_a_teacher_with_another_stride_and_corner_convention_is_read_where_the_students_pixels_are():
    """A teacher whose logits say where in the image they lie must say the same at the student's pixels."""

    class Places(nn.Module):
        def forward(self, images: torch.Tensor) -> SegmentationOutput:
            columns = (torch.arange(images.shape[-1] // 2) + 0.5) * 2 - 0.5
            return SegmentationOutput(columns.expand(len(images), CLASSES, images.shape[-2] // 2, -1).clone())

    settings = {"affinity": {}, "kl": {"weight": 0.0}, "channel_wise": {"weight": 1.0, "temperature": 1.0}}
    recipe = student_recipe(distillation=settings | {"supervised": 0.0})
    task = DistillationTask(recipe, teacher_of(Places(), spec=InputSpec(output_stride=2, align_corners=False)))

    class Student(nn.Module):
        def forward(self, images: torch.Tensor) -> SegmentationOutput:
            columns = torch.linspace(0, CROP[1] - 1, 8).clamp(0.5, CROP[1] - 1.5)
            return SegmentationOutput(columns.expand(len(images), CLASSES, 4, 8).clone().requires_grad_())

    task.network = Student()
    assert value_of(task, batch_of(task)) == pytest.approx(0.0, abs=1e-5)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_run_that_was_stopped_goes_on_to_the_same_bits(precision, tmp_path):
    recipe = student_recipe(train={"precision": precision})
    run_student(tmp_path / "whole", recipe, tutor())

    def stop(entry: dict[str, Any]) -> None:
        if entry["step"] == 2:
            os.kill(os.getpid(), signal.SIGINT)

    assert run_student(tmp_path / "cut", recipe, tutor(), progress=stop).step == 2
    run_student(tmp_path / "cut", recipe, tutor(), resume=True)
    assert losses(tmp_path / "cut") == losses(tmp_path / "whole")
    whole, cut = (read_weights(tmp_path / name / "weights.safetensors").tensors for name in ("whole", "cut"))
    assert all(torch.equal(whole[name], cut[name]) for name in whole)


def test_the_trained_weights_are_the_students_alone_and_name_the_teacher(tmp_path):
    path = save(tmp_path / "tutor.safetensors", TUTOR, 1)
    recipe = student_recipe(distillation={"teacher": str(path)}, train={"steps": 1})
    run_student(tmp_path / "run", recipe)
    made = tmp_path / "run" / "weights.safetensors"
    assert set(read_weights(made).tensors) == set(make(STUDENT).state_dict())
    assert read_metadata(made)["taught_by"]["file"] == f"{tmp_path.name}/tutor.safetensors"
    assert str(tmp_path) not in str(read_metadata(made)["recipe"])


def test_unlabelled_pixels_count_in_the_published_divergence_alone():
    for reduction, counts in (("published", True), ("labelled", False)):
        settings = {"affinity": {}, "supervised": 0.0, "kl": {"reduction": reduction}}
        task = DistillationTask(student_recipe(distillation=settings), tutor())
        batch = batch_of(task)
        empty = Batch(batch.images, torch.full_like(batch.targets, IGNORE), batch.keys)
        task.network.eval()
        assert bool(loss_of(task, empty) > 0) == counts


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"affinity": {"weight": 1.0, "pairs": [{"student": "1/4", "teacher": "1/4"}]}},
            r"the student .*no path '1/4'",
        ),
        (
            {"affinity": {"weight": 1.0, "pairs": [{"student": "1/8", "teacher": "1/64"}]}},
            r"the teacher \(FasterSegTutor\) has no path '1/64'.*It names 1/4, 1/8, 1/16, 1/32",
        ),
        (
            {"affinity": {"weight": 1.0, "pairs": [{"student": "fmm", "teacher": "1/8"}]}},
            "no path 'fmm'; did you mean 'ffm'",
        ),
    ],
)
def test_pairs_that_do_not_exist_are_refused(settings, message):
    with pytest.raises(FeathersegError, match=message):
        DistillationTask(student_recipe(distillation=settings), tutor())


def test_a_tutor_without_the_quarter_path_is_refused():
    pairs = [{"student": "1/8", "teacher": "1/4"}]
    recipe = student_recipe(distillation={"affinity": AFFINITY | {"pairs": pairs}})
    with pytest.raises(FeathersegError, match=r"the teacher .*no path '1/4'.*path at 1/4 is fasterseg_tutor"):
        DistillationTask(recipe, teacher_of(make(STUDENT, 1)))


def test_a_module_that_gives_no_map_is_refused_when_it_is_met():
    pairs = [{"student": "ffm.norm", "teacher": "1/4"}, {"student": "1/16", "teacher": "heads16"}]
    task = DistillationTask(student_recipe(distillation={"affinity": AFFINITY | {"pairs": pairs}}), tutor())
    with pytest.raises(FeathersegError, match=r"the teacher .*'heads16' is not run.*Name the module around it"):
        loss_of(task, batch_of(task))


def test_teachers_that_do_not_fit_are_refused(tmp_path):
    def refused(teacher: object, message: str) -> None:
        with pytest.raises(FeathersegError, match=message):
            DistillationTask(student_recipe(distillation={"teacher": teacher and str(teacher)}))

    other = save(tmp_path / "other.safetensors", TUTOR, num_classes=3, count=3, classes=["a", "b", "c"])
    refused(other, "knows 3 classes and the data has 11")
    turned = save(tmp_path / "turned.safetensors", TUTOR, classes=["building", *"abcdefghij"])
    refused(turned, "its class 0 is 'building' and that of the data is")
    refused("fasterseg_tutor", "is a network, and a teacher has to have learnt something")
    refused(tmp_path / "nothing.safetensors", "distillation.teacher: .*no such weights file")
    refused(None, "student: has no teacher yet. Give its weights: featherseg distill --teacher")
    small = save(tmp_path / "classifier.safetensors", STUDENT, architecture="mobilenet_v2")
    refused(small, "mobilenet_v2 is no segmentation network")


def test_a_module_with_other_classes_is_refused_when_it_is_met():
    recipe = student_recipe(distillation={"affinity": {}})
    task = DistillationTask(recipe, teacher_of(make(STUDENT, 0, classes=3)))
    with pytest.raises(FeathersegError, match="knows 3 classes and the data has 11"):
        loss_of(task, batch_of(task))


def test_a_module_without_an_input_spec_is_refused():
    with pytest.raises(FeathersegError, match="has no input_spec; give spec="):
        teacher_of(nn.Conv2d(3, CLASSES, 1))
