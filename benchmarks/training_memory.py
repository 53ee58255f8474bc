"""Is the peak memory of training flat from step 100 on?

Runs `featherseg.training.loop.train` on procedural scenes, with everything a training does: a worker process that
augments, EMA, log, checkpoints, judging on val. The kernel's high-water mark of resident memory is read and reset every
--window steps, for the training process and its worker; a window's figure is the sum of both. Every window holds a
checkpoint and a judging. Growth is the last window's peak against that of the first that begins at step 100 or later.
"""

import tempfile
from pathlib import Path
from typing import Any

import torch

from featherseg.recipes.reading import read_recipe
from featherseg.training.loop import train
from featherseg.training.segmentation import SegmentationTask
from measuring import children, finish, load_average, parser, peak_mib, reset_peak

FROM_STEP = 100
SCENES = 64


class Windows:
    """Peaks of memory, window by window: (last step, MiB)."""

    def __init__(self, length: int) -> None:
        self.length = length
        self.peaks: list[tuple[int, float]] = []

    def __call__(self, progress: dict[str, Any]) -> None:
        """Called by the loop after every step."""
        if progress["step"] % self.length:
            return
        processes: list[int | str] = ["self", *children()]
        self.peaks.append((progress["step"], round(sum(peak_mib(process) for process in processes), 1)))
        for process in processes:
            reset_peak(process)
        print(f"step {progress['step']}: {self.peaks[-1][1]} MiB", flush=True)


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--model", default="fassd_net_l2", help="network (default fassd_net_l2)")
    arguments.add_argument("--steps", type=int, default=600, help="of the training (default 600)")
    arguments.add_argument("--window", type=int, default=50, help="steps of a window (default 50)")
    arguments.add_argument("--size", type=int, nargs=2, default=(360, 480), metavar=("H", "W"), help="of the scenes")
    arguments.add_argument("--batch", type=int, default=8, help="images of a step (default 8)")
    arguments.add_argument("--threads", type=int, default=2, help="of torch (default 2)")
    options = arguments.parse_args()
    if options.steps < FROM_STEP + 2 * options.window:
        arguments.error(f"--steps must be at least {FROM_STEP + 2 * options.window} with --window {options.window}")
    load = load_average()
    size = list(options.size)
    recipe = read_recipe(
        "camvid_fassd_net_l2",
        [
            f"model.name={options.model}",
            "data.source=streets",
            f"data.size={size}",
            f"data.count={SCENES}",
            "data.val_count=8",
            f"augment.crop={size}",
            "start={}",
            f"train.steps={options.steps}",
            f"train.batch_size={options.batch}",
            f"train.threads={options.threads}",
            "train.workers=1",
            "train.device=cpu",
            f"train.checkpoint_every={options.window}",
            f"train.evaluate_every={max(1, options.window // (SCENES // options.batch))}",
        ],
    )
    windows = Windows(options.window)
    with tempfile.TemporaryDirectory() as folder:
        task = SegmentationTask(recipe)
        result = train(task, recipe, Path(folder), progress=windows)
    if result.stopped_by is not None:
        raise SystemExit(f"stopped by signal {result.stopped_by} at step {result.step}: nothing to report")
    later = [(step, peak) for step, peak in windows.peaks if step - options.window >= FROM_STEP]
    first, last = later[0][1], later[-1][1]
    figures = {
        f"peak at step {later[0][0]}, MiB": first,
        f"peak at step {later[-1][0]}, MiB": last,
        "greatest from step 100 on, MiB": max(peak for _, peak in later),
        "growth, percent": round(100 * (last / first - 1), 2),
        "growth, KiB a step": round(1024 * (last - first) / max(1, later[-1][0] - later[0][0]), 2),
    }
    finish(
        "training memory",
        f"{options.model}/{size[0]}x{size[1]}/batch {options.batch}, high-water marks of {options.window} steps each",
        figures,
        options.card,
        load,
        seeds=[recipe.train.seed],
        windows=[{"step": step, "peak_mib": peak} for step, peak in windows.peaks],
        threads=torch.get_num_threads(),
    )


if __name__ == "__main__":
    main()
