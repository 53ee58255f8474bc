"""Yang et al.'s Tables 1 to 3 in miniature: tutor, virtual path and Pixel Shuffle on CamVid 480x360, three seeds each.

    python runs/camvid_fasterseg.py CAMVID TEACHER [--seeds "0 1 2"] [key=value ...]

TEACHER is weights of a segmentation network of CamVid's classes (efficientnet_lite0_dpc.camvid is shipped). key=value
are overrides of every training (train.threads=1).

The paper trains its last student 80 % longer than the baseline that it is compared with. So every seed has baselines of
20 epochs and of 36, with either head, all taught by TEACHER; a tutor that starts from the short baseline; and students
that start from the short baselines and are taught by the tutor for 16 epochs more. What the paper leaves as future work
is there too: both techniques together, and a tutor with two layers more at 1/4. Two cards come of them, in
results/ablations/:

- fasterseg_published: against the baseline of 20 epochs, as the paper compares;
- fasterseg_equal: against the baseline of 36 epochs: every row has had 36.

All are judged on val with their last averaged weights; test is not looked at. Runs that are done are kept, and one that
was stopped goes on.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from camvid_ablations import ROOT, featherseg, judged, summarise

from featherseg.cards import card, write_card

FIRST, LATER = 20, 16
SHORT = ("augment.crop=[192,256]", "schedule.warmup=50", "train.ema=0.995", "train.evaluate_every=null")
EPOCHS = {"baseline": FIRST, "tutor": LATER, "student": LATER}
VIRTUAL_PATH = (
    "optimizer.lr=0.001",
    "distillation.affinity.weight=1",
    "distillation.affinity.pairs=[{student: 1/8, teacher: 1/4, weight: 1.0}, "
    "{student: 1/16, teacher: 1/16, weight: 0.8}, {student: 1/32, teacher: 1/32, weight: 0.8}]",
)
"""What the recipe's last stage is beside its first, for a student that is no stage of it."""

DEEPER_TUTOR = ("model.arguments.quarter_path=[64, 64, 64, 128]", "optimizer.lr=0.001")


def staged_run(seed: int, options: argparse.Namespace) -> Path:
    """Teacher, tutor, student; the run's folder, which holds those of its stages."""
    name = f"fasterseg-staged-seed{seed}"
    overrides = [f"stages.{stage}.train.epochs={epochs}" for stage, epochs in EPOCHS.items()]
    for stage in EPOCHS:
        overrides += [f"stages.{stage}.{override}" for override in common(seed, options)]
    return distil("camvid_fasterseg_distillation", name, overrides, options.teacher, options, last="student")


def single_run(
    name: str, network: str, epochs: int, seed: int, options: argparse.Namespace, *more: str, teacher: str | None = None
) -> Path:
    """A student in one step; the run's folder."""
    overrides = [f"model.name={network}", f"train.epochs={epochs}", *more, *common(seed, options)]
    run = f"fasterseg-{name}-seed{seed}"
    return distil("camvid_distil_fasterseg", run, overrides, teacher or options.teacher, options)


def common(seed: int, options: argparse.Namespace) -> tuple[str, ...]:
    return *SHORT, f"train.seed={seed}", f"data.source={options.camvid}", *options.overrides


def distil(
    recipe: str, name: str, overrides: list[str], teacher: str, options: argparse.Namespace, last: str = ""
) -> Path:
    """Train unless that is done; ``last`` is the stage that ends a sequence. The run's folder."""
    folder = options.runs / name
    if not (folder / last / "card.json").is_file():
        resume = ["--resume"] if any(folder.rglob("checkpoint.safetensors")) else []
        given = ["--teacher", teacher, "--output", str(options.runs), *resume]
        featherseg("distill", recipe, f"name={name}", *overrides, *given)
    return folder


def runs_of(seed: int, options: argparse.Namespace) -> tuple[dict[str, Path], dict[str, Path]]:
    """The folders of a seed's rows, trained where they are not, as published and with equal epochs."""
    student, shuffling = "fasterseg_student", "fasterseg_student_ps"
    staged = staged_run(seed, options)
    tutor = str(staged / "tutor" / "weights.safetensors")
    short = single_run("ps", shuffling, FIRST, seed, options)
    start = f"start.weights={short / 'weights.safetensors'}"
    both = single_run("ps-virtual", shuffling, LATER, seed, options, *VIRTUAL_PATH, start, teacher=tutor)
    start = (f"start.weights={staged / 'baseline' / 'weights.safetensors'}", "start.carry=backbone")
    deep = single_run("tutor-deep", "fasterseg_tutor", LATER, seed, options, *DEEPER_TUTOR, *start)
    taught = {
        "tutor": staged / "tutor",
        "tutor with two layers more at 1/4": deep,
        "virtual path": staged / "student",
        "pixel shuffle and virtual path": both,
    }
    published = {"baseline": staged / "baseline", "pixel shuffle": short}
    equal = {
        "baseline": single_run("long", student, FIRST + LATER, seed, options),
        "pixel shuffle": single_run("ps-long", shuffling, FIRST + LATER, seed, options),
    }
    return published | taught, equal | taught


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("camvid", help="CamVid 480x360 in the SegNet layout")
    parser.add_argument("teacher", help="weights of the teacher")
    parser.add_argument("--seeds", default="0 1 2", help="two or more, in quotes (default '0 1 2')")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of the runs (default runs)")
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="of every training, after the short schedule's"
    )
    options = parser.parse_intermixed_args()
    seeds = [int(seed) for seed in options.seeds.split()]
    if len(seeds) < 2:
        parser.error("--seeds: a spread needs two seeds or more")
    rows: dict[str, dict[str, list[dict[str, Any]]]] = {"published": {}, "equal": {}}
    for seed in seeds:
        for protocol, folders in zip(rows, runs_of(seed, options), strict=True):
            for row, folder in folders.items():
                rows[protocol].setdefault(row, []).append(judged(folder, options.camvid))
    for protocol, judgements in rows.items():
        one = judgements["baseline"][0]
        made = card(
            "ablation",
            protocol=f"{one['protocol']}, {len(seeds)} seeds",
            figures=summarise(judgements),
            command=["python", *sys.argv],
            seeds=seeds,
            data_fingerprint=one["data_fingerprint"],
            recipe="camvid_fasterseg_distillation",
            compared_with="baseline",
            schedule=[*SHORT, f"epochs: {EPOCHS}, alone {FIRST + LATER}"],
            teacher=options.teacher,
        )
        print(f"card: {write_card(ROOT / 'results' / 'ablations' / f'fasterseg_{protocol}.json', made)}")


if __name__ == "__main__":
    main()
