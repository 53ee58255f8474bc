"""The layers that networks share, against PyTorch's own."""

import pytest
import torch
from torch.nn import functional as F

from featherseg.models.layers import prelu


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
def test_channels_last_prelu_equals_torch_in_value_and_gradient(dtype: torch.dtype, tolerance: float) -> None:
    torch.manual_seed(0)
    x = torch.randn(3, 7, 9, 11).to(dtype).contiguous(memory_format=torch.channels_last).requires_grad_()
    slopes = torch.randn(7, requires_grad=True)
    weight = torch.randn_like(x)
    ours, theirs = prelu(x, slopes), F.prelu(x, slopes.to(dtype))
    torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)
    for own, reference in zip(
        torch.autograd.grad(ours, (x, slopes), weight), torch.autograd.grad(theirs, (x, slopes), weight), strict=True
    ):
        torch.testing.assert_close(own, reference, rtol=tolerance, atol=tolerance)


def test_channels_last_prelu_keeps_the_layout() -> None:
    x = torch.randn(2, 3, 4, 5).contiguous(memory_format=torch.channels_last).requires_grad_()
    assert prelu(x, torch.ones(3, requires_grad=True)).is_contiguous(memory_format=torch.channels_last)
