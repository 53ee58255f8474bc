"""What a teacher costs a step of distillation on a CPU, run by PyTorch and by OpenVINO.

Loss and backward pass of a student on one batch of procedural scenes, in bfloat16: with the teacher in PyTorch, with
`distillation.runtime=openvino`, and with what the teacher said kept from before, which is the student's own share.
Measured in one process with pinned threads, in interleaved rounds.
"""

import time
from collections.abc import Callable

import torch

from featherseg.data.batches import Batch, BatchPlan, training_batches
from featherseg.distillation.task import DistillationTask
from featherseg.recipes.reading import read_recipe
from featherseg.training.task import UpdateSize
from measuring import finish, interleaved, load_average, parser, summary


def step(task: DistillationTask, batch: Batch) -> Callable[[], float]:
    """A function that takes the loss of ``batch`` and its gradients, and gives the milliseconds."""
    size = UpdateSize(task.weight(batch), len(batch))

    def run() -> float:
        began = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16):
            loss = task.loss(task.network, batch, size)
        loss.backward()
        return 1000 * (time.perf_counter() - began)

    return run


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--student", default="fasterseg_student", help="network (default fasterseg_student)")
    arguments.add_argument("--teacher", default="efficientnet_lite0_dpc.camvid", help="weights, file or shipped name")
    arguments.add_argument("--crop", type=int, nargs=2, default=(192, 256), metavar=("H", "W"), help="of the images")
    arguments.add_argument("--batch", type=int, default=8, help="images of a step (default 8)")
    arguments.add_argument("--rounds", type=int, default=12, help="interleaved rounds (default 12)")
    arguments.add_argument("--threads", type=int, default=1, help="of each runtime (default 1)")
    options = arguments.parse_args()
    torch.set_num_threads(options.threads)
    load = load_average()
    height, width = options.crop
    overrides = [
        f"model.name={options.student}",
        "data={source: streets, size: [360, 480], count: 8, val_count: 1}",
        f"augment.crop=[{height},{width}]",
        f"train.batch_size={options.batch}",
        f"distillation.teacher={options.teacher}",
    ]
    tasks = {
        name: DistillationTask(read_recipe("camvid_distil_fasterseg", [*overrides, f"distillation.runtime={runtime}"]))
        for name, runtime in (("pytorch", "pytorch"), ("openvino", "openvino"), ("no teacher", "pytorch"))
    }
    plan, samples = BatchPlan(tasks["pytorch"].length, options.batch), tasks["pytorch"].samples
    batch = next(training_batches(samples, plan, start=0, stop=1, workers=0))
    told = tasks["no teacher"].taught(batch.images)
    tasks["no teacher"].taught = lambda images: told  # type: ignore[method-assign]
    contestants = {name: step(task, batch) for name, task in tasks.items()}
    for run in contestants.values():
        run()
        run()
    taken = interleaved(contestants, options.rounds, print)
    figures: dict[str, object] = {f"{name}, ms": summary(values) for name, values in taken.items()}
    medians = {name: summary(values)["median"] for name, values in taken.items()}
    figures["step with pytorch's / with openvino's"] = round(medians["pytorch"] / medians["openvino"], 2)
    own = medians["no teacher"]
    figures["teacher in pytorch / in openvino"] = round((medians["pytorch"] - own) / (medians["openvino"] - own), 2)
    figures["teacher's share of a step, pytorch, %"] = round(100 * (1 - own / medians["pytorch"]), 1)
    figures["teacher's share of a step, openvino, %"] = round(100 * (1 - own / medians["openvino"]), 1)
    finish(
        "teacher runtime",
        f"{options.student} by {options.teacher}, {height}x{width}/batch {options.batch}, bf16",
        figures,
        options.card,
        load,
        seeds=[0],
        rounds=options.rounds,
        threads=options.threads,
    )


if __name__ == "__main__":
    main()
