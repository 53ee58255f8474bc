"""KL and channel-wise distillation against PyTorch's own KL, written out loops, and known facts."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from featherseg.losses.distillation import channel_wise, divergence, pixel_divergence

IGNORE = 255


def logits(seed: int, *shape: int) -> Tensor:
    return 3 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def labels(seed: int, *shape: int) -> Tensor:
    made = torch.randint(0, 4, shape, generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    return torch.where(made == 3, IGNORE, made).to(torch.uint8)


def distribution(values: list[float], temperature: float) -> list[float]:
    powers = [math.exp(value / temperature) for value in values]
    return [power / sum(powers) for power in powers]


def kl(student: list[float], teacher: list[float], temperature: float) -> float:
    q, p = distribution(student, temperature), distribution(teacher, temperature)
    return temperature**2 * sum(b * math.log(b / a) for a, b in zip(q, p, strict=True))


@given(st.integers(0, 9999), st.integers(1, 5), st.floats(0.5, 8.0))
def test_a_pixels_divergence_is_that_of_its_two_distributions(seed, classes, temperature):
    student, teacher = logits(seed, 2, classes, 2, 3), logits(seed + 1, 2, classes, 2, 3)
    found = pixel_divergence(student, teacher, temperature)
    for place in ((0, 0, 0), (1, 1, 2)):
        b, y, x = place
        wanted = kl(student[b, :, y, x].tolist(), teacher[b, :, y, x].tolist(), temperature)
        assert float(found[place]) == pytest.approx(wanted, rel=1e-6, abs=1e-9)


@pytest.mark.filterwarnings("ignore:reduction")
@given(st.integers(0, 9999), st.integers(2, 6))
def test_the_published_reduction_is_the_mean_that_pytorch_takes_over_everything(seed, classes):
    student, teacher = logits(seed, 3, classes, 4, 5), logits(seed + 1, 3, classes, 4, 5)
    found = divergence(student, teacher, labels(seed, 3, 4, 5), reduction="published").mean()
    wanted = nn.KLDivLoss(reduction="mean")(student.log_softmax(1), teacher.softmax(1))
    torch.testing.assert_close(found, wanted)


@given(st.integers(0, 9999))
def test_the_sound_reduction_is_a_mean_over_the_labelled_pixels(seed):
    student, teacher, truth = logits(seed, 2, 3, 4, 5), logits(seed + 1, 2, 3, 4, 5), labels(seed, 2, 4, 5)
    found = divergence(student, teacher, truth, temperature=2.0)
    each = pixel_divergence(student, teacher, 2.0)
    for image in range(2):
        counted = each[image][truth[image] != IGNORE]
        assert float(found[image]) == pytest.approx(float(counted.mean()) if len(counted) else 0.0)


def test_an_image_without_labels_counts_nothing_and_has_no_gradient():
    student = logits(0, 1, 3, 4, 5).requires_grad_()
    loss = divergence(student, logits(1, 1, 3, 4, 5), torch.full((1, 4, 5), IGNORE, dtype=torch.uint8))
    loss.sum().backward()
    assert float(loss.detach()) == 0.0
    assert student.grad is not None
    assert torch.equal(student.grad, torch.zeros_like(student))


@given(st.integers(0, 9999), st.floats(0.5, 8.0))
def test_channel_wise_is_the_mean_divergence_of_the_channels_over_the_pixels(seed, temperature):
    student, teacher = logits(seed, 2, 3, 2, 3), logits(seed + 1, 2, 3, 2, 3)
    found = channel_wise(student, teacher, temperature)
    for image in range(2):
        channels = [
            kl(student[image, c].flatten().tolist(), teacher[image, c].flatten().tolist(), temperature)
            for c in range(3)
        ]
        assert float(found[image]) == pytest.approx(sum(channels) / 3, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("loss", [pixel_divergence, channel_wise])
def test_a_student_like_its_teacher_has_no_loss_and_no_gradient(loss):
    student = logits(5, 2, 4, 3, 3).requires_grad_()
    value = loss(student, student.detach().clone(), 4.0).sum()
    value.backward()
    assert float(value.detach()) == pytest.approx(0.0, abs=1e-12)
    assert student.grad is not None
    assert student.grad.abs().max() < 1e-12


@pytest.mark.parametrize("loss", [pixel_divergence, channel_wise])
def test_the_students_gradient_is_right_and_the_teacher_gets_none(loss):
    student, teacher = logits(6, 2, 3, 2, 2).requires_grad_(), logits(7, 2, 3, 2, 2).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: loss(x, teacher, 2.0), student)
    loss(student, teacher, 2.0).sum().backward()
    assert teacher.grad is None


@pytest.mark.parametrize("loss", [pixel_divergence, channel_wise])
def test_a_teacher_that_is_sure_to_the_last_digit_gives_a_finite_loss(loss):
    """Soft-max underflows to 0 there, and the logarithm of 0 is no number."""
    teacher = torch.tensor([400.0, -400.0]).view(1, 2, 1, 1).expand(1, 2, 2, 2)
    student = torch.zeros(1, 2, 2, 2, requires_grad=True)
    value = loss(student, teacher, 1.0).sum()
    value.backward()
    assert bool(value.isfinite())
    assert student.grad is not None
    assert bool(student.grad.isfinite().all())


def test_half_precision_logits_are_compared_in_float32():
    student, teacher = logits(8, 1, 3, 2, 2).bfloat16(), logits(9, 1, 3, 2, 2).bfloat16()
    found = pixel_divergence(student, teacher)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, pixel_divergence(student.double(), teacher.double()).float())
