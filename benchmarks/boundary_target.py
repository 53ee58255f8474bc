"""What the boundary ground truth costs, as a share of DRBANet's training step.

A step is the network, cross-entropy on both semantic outputs, the boundary loss with its target, the backward pass and
SGD, in bfloat16 and channels_last as the recipes train. In every step, between forward and backward, where caches are
as cold as training leaves them, each target is computed once more and timed: the two of ``losses.boundary`` and, for
comparison, the published recipe in its own operators, three float32 convolutions. Their order turns from step to step,
and their time is taken off the step's. A share is a ratio of medians over one run's steps, with pinned threads, on
labels of procedural scenes.
"""

import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from featherseg.data.labels import CAMVID11, IGNORE
from featherseg.losses.boundary import boundary_target
from featherseg.models.drbanet import DRBANet
from featherseg.recipes.schema import Loss
from featherseg.training.segmentation import criterion
from featherseg.training.task import UpdateSize
from measuring import finish, load_average, parser, summary
from steps import scenes


def convolved_target(labels: Tensor) -> Tensor:
    """The published recipe in float32 convolutions: float ``[B, 1, H, W]``."""
    laplacian = torch.full((1, 1, 3, 3), -1.0)
    laplacian[..., 1, 1] = 8.0
    ids = labels[:, None].float()
    maps = []
    for stride in (1, 2, 4):
        edges = F.conv2d(ids, laplacian, stride=stride, padding=1).clamp(min=0)
        maps.append((F.interpolate(edges, ids.shape[2:], mode="nearest") > 0.1).float())
    return (F.conv2d(torch.cat(maps, 1), torch.tensor([0.6, 0.3, 0.1]).view(1, 3, 1, 1)) > 0.1).float()


def timed(work: Callable[[], object]) -> float:
    """Milliseconds that one call takes."""
    began = time.perf_counter()
    work()
    return 1000 * (time.perf_counter() - began)


def measure(images: Tensor, labels: Tensor, steps: int, warm_up: int) -> dict[str, list[float]]:
    """Milliseconds of each of ``steps`` training steps of a fresh DRBANet, and of each target within them."""
    torch.manual_seed(0)
    network = DRBANet(len(CAMVID11)).train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    labelled = float((labels != IGNORE).sum())
    targets: dict[str, Callable[[], object]] = {
        "corrected": lambda: boundary_target(labels, "corrected"),
        "published": lambda: boundary_target(labels, "published"),
        "published, convolved": lambda: convolved_target(labels),
    }
    taken: dict[str, list[float]] = {name: [] for name in ("step", *targets)}

    def step(order: list[str]) -> None:
        optimizer.zero_grad(set_to_none=True)
        batch = network.input_spec.normalise(images).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            output = network(batch)
        for name in order:
            taken[name].append(timed(targets[name]))
        size = UpdateSize(labelled, len(labels))
        criterion(output, labels, Loss(), network.input_spec, weight=labelled, total=size).backward()
        optimizer.step()

    names = list(targets)
    for number in range(warm_up + steps):
        shift = number % len(names)
        whole = timed(lambda order=names[shift:] + names[:shift]: step(order))
        taken["step"].append(whole - sum(taken[name][-1] for name in names))
        print(f"step {number + 1}/{warm_up + steps}: " + ", ".join(f"{name} {v[-1]:.1f}" for name, v in taken.items()))
    return {name: values[warm_up:] for name, values in taken.items()}


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--size", type=int, nargs=2, default=(360, 480), metavar=("H", "W"), help="of the images")
    arguments.add_argument("--batch", type=int, default=8, help="images of a step (default 8)")
    arguments.add_argument("--steps", type=int, default=15, help="counted steps (default 15)")
    arguments.add_argument("--warm-up", type=int, default=3, help="steps that are not counted (default 3)")
    arguments.add_argument("--threads", type=int, default=2, help="of torch (default 2)")
    options = arguments.parse_args()
    torch.set_num_threads(options.threads)
    load = load_average()
    images, labels = (torch.from_numpy(array) for array in scenes(tuple(options.size), options.batch))
    taken = measure(images, labels, options.steps, options.warm_up)
    median = {name: summary(values)["median"] for name, values in taken.items()}
    figures: dict[str, object] = {f"{name}, ms": summary(values) for name, values in taken.items()}
    for name in list(taken)[1:]:
        figures[f"{name} / step, %"] = round(100 * median[name] / median["step"], 2)
    height, width = options.size
    finish(
        "boundary target",
        f"drbanet/{height}x{width}/batch {options.batch}, median of steps",
        figures,
        options.card,
        load,
        seeds=[0],
        steps=options.steps,
        threads=options.threads,
    )


if __name__ == "__main__":
    main()
