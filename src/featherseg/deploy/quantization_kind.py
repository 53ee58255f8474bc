"""Are calibration images of the kind that a network was trained on?

Choices worth knowing:

- The network itself knows: a batch norm keeps the mean and the variance of its channels over the training images. Those
  of the first one, behind the first convolution, are held against those of the calibration images.
- The distance of a channel is the Kullback-Leibler divergence of the two normal distributions, in nats; that of the
  images is the median over the channels, which a few dead ones do not move.
- Measured with the three shipped networks trained on CamVid, on five images each: its splits 0.01 to 0.03, also at
  half the size, 0.04 to 0.11 at twice; street scenes of other sources and COCO 0.07 to 0.22; noise 0.48 to 1.1;
  CamVid at a quarter of its brightness 0.8 to 1.5, its masks in colours 0.9 to 1.1, its masks as they are 1.2 to 3.
- Of the later batch norms a median told masks and COCO apart less well: they differ between photographs already.
- What it does not tell: photographs of other things, grey ones, blurred ones, red and blue swapped (0.01 to 0.22), and
  anything of a network without batch norms.
"""

import torch
from torch import Tensor, nn

from featherseg.deploy.quantization_images import Samples
from featherseg.models.output import InputSpec

UNLIKE = 0.35
_SHOWN = 10


class _FirstNorm:
    """Sums over all pixels of what the first batch norm of a network reads, a value a channel, in float64."""

    def __init__(self) -> None:
        self.norm: nn.BatchNorm2d | None = None
        self.count, self.sum, self.squares = 0, torch.zeros(1), torch.zeros(1)

    def add(self, module: nn.Module, given: tuple[Tensor, ...]) -> None:
        """The hook of every batch norm; the first to be called is the first of the network."""
        if self.norm is None:
            self.norm = module  # type: ignore[assignment]
        if module is self.norm:
            values = given[0].double()
            self.count += values.numel() // values.shape[1]
            self.sum = self.sum + values.sum((0, 2, 3))
            self.squares = self.squares + values.square().sum((0, 2, 3))

    def distances(self) -> Tensor | None:
        """Of each channel, from what the batch norm remembers; None where none remembers."""
        if self.norm is None or self.norm.running_mean is None or self.norm.running_var is None:
            return None
        mean = self.sum / self.count
        variance = (self.squares / self.count - mean.square()).clamp_min(0) + self.norm.eps
        kept_mean, kept = self.norm.running_mean.double(), self.norm.running_var.double() + self.norm.eps
        return ((variance + (mean - kept_mean).square()) / kept - 1 - (variance / kept).log()) / 2


@torch.inference_mode()
def distance_from_training(network: nn.Module, images: Samples) -> float | None:
    """How far ten of ``images`` are from those that ``network`` was trained on, in nats; 0 is alike.

    Args:
        network: in ``eval()``, on the CPU.
        images: at most ten of them are shown, evenly spread.

    Returns:
        None where the network has no batch norms that remember.
    """
    spec: InputSpec = network.input_spec  # type: ignore[assignment]
    first = _FirstNorm()
    norms = [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]
    hooks = [norm.register_forward_pre_hook(first.add) for norm in norms]
    try:
        for sample in images.spread(_SHOWN) if norms else ():
            network(spec.normalise(torch.from_numpy(sample.image)[None]))
    finally:
        for hook in hooks:
            hook.remove()
    found = first.distances()
    return None if found is None else float(found.median())


def unlike_training(network: nn.Module, images: Samples) -> float | None:
    """The distance where it is far, see :func:`distance_from_training`; else None."""
    distance = distance_from_training(network, images)
    return distance if distance is not None and distance > UNLIKE else None


def unlike_told(images: str, distance: float) -> str:
    """What a person is told of images at such a distance, see :func:`unlike_training`; ``images`` names them."""
    return (
        f"the images of {images} are of another kind than those that the network was trained on (distance "
        f"{distance:.2g}; of a like kind, at most {UNLIKE:g}): their ranges may cost accuracy that such images cannot "
        "show. Calibrate and judge on images of the kind that it will see"
    )
