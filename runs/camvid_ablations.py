"""Ablations on CamVid 480x360, three seeds each on a short schedule: boundary supervision, heads, the light decoder,
and what a classifier's trunk is worth.

    python runs/camvid_ablations.py CAMVID [--only boundary] [--seeds "0 1 2"] [--classifier FILE] [key=value ...]

Trains every variant with every seed (a run that is done is kept, one that was stopped goes on), judges each on val with
its last averaged weights, and writes one card an ablation to results/ablations/: every run, means and standard
deviations, and the differences to the first variant with Student's 95 % interval (featherseg.metrics.seeds). Test is
not looked at. Ablations that share a variant (heads and decoder) share its runs. The one of the trunk needs the weights
of a pyramid_mobilenet with rates=capped, as the recipe caltech101_pyramid_mobilenet_long trains one, and is left out
without them.

About ten minutes a run on one core; two ablations can run beside each other, each with train.threads=1.
"""

import argparse
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from featherseg.cards import card, read_card, write_card
from featherseg.metrics.seeds import mean_difference

ROOT = Path(__file__).parents[1]
SHORT = [
    "train.epochs=40",
    "augment.crop=[192,256]",
    "schedule.warmup=100",
    "train.ema=0.995",
    "train.evaluate_every=null",
]
SCORES = ("miou", "boundary_iou")
CLASSIFIER = "CLASSIFIER"  # stands for the file that --classifier gives
PYRAMID = (
    "model.name=pyramid_mobilenet_basic",
    "model.arguments={output_stride: 16, rates: capped, norm_momentum: 0.03}",
)


@dataclass(frozen=True)
class Ablation:
    """Variants of one recipe by what each overrides; the differences are to the first."""

    recipe: str
    variants: dict[str, tuple[str, ...]]

    def needs_classifier(self) -> bool:
        return any(CLASSIFIER in override for changed in self.variants.values() for override in changed)

    def overrides(self, variant: str, classifier: Path | None) -> list[str]:
        """Of a variant, with the classifier's file in its place."""
        return [override.replace(CLASSIFIER, str(classifier)) for override in self.variants[variant]]


ABLATIONS = {
    "boundary": Ablation(
        "camvid_drbanet",
        {
            "none": ("loss.boundary=none",),
            "published": ("loss.boundary=published",),
            "corrected": ("loss.boundary=corrected",),
        },
    ),
    "heads": Ablation(
        "camvid_shufflenet_v2_dpc",
        {
            "basic": ("model.name=shufflenet_v2_basic", "model.arguments.decoder=false"),
            "dpc": ("model.arguments.decoder=false",),
        },
    ),
    "decoder": Ablation(
        "camvid_shufflenet_v2_dpc",
        {
            "dpc": ("model.arguments.decoder=false",),
            "dpc with decoder": ("model.arguments.decoder=true",),
        },
    ),
    "trunk": Ablation(
        "camvid_shufflenet_v2_dpc",
        {
            "pyramid from nothing": (*PYRAMID, "start.encoder=null"),
            "pyramid from a classifier": (*PYRAMID, f"start.encoder={CLASSIFIER}"),
        },
    ),
}


def featherseg(*arguments: str) -> None:
    """Run the command line as a person would; a failure ends the script with its exit code."""
    done = subprocess.run([sys.executable, "-m", "featherseg", *arguments])
    if done.returncode:
        raise SystemExit(done.returncode)


def judged_run(name: str, recipe: str, overrides: list[str], camvid: str, folder: Path) -> dict[str, Any]:
    """Train one variant with one seed unless that is done, judge it on val, and give the evaluation's card."""
    run = folder / name
    if not (run / "card.json").is_file():
        resume = ["--resume"] if (run / "checkpoint.safetensors").is_file() else []
        featherseg(
            "train", recipe, f"name={name}", f"data.source={camvid}", *overrides, *resume, "--output", str(folder)
        )
    return judged(run, camvid)


def judged(run: Path, camvid: str) -> dict[str, Any]:
    """The card of the last averaged weights of a finished run on val, judged once."""
    if not (run / "val.json").is_file():
        weights = str(run / "weights.safetensors")
        featherseg("eval", "--weights", weights, "--data", camvid, "--split", "val", "--card", str(run / "val.json"))
    return read_card(run / "val.json")


def summarise(runs: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Means, deviations and differences to the first variant, by score."""
    first = next(iter(runs))
    figures: dict[str, Any] = {}
    for score in SCORES:
        values = {variant: [judged["figures"][score] for judged in cards] for variant, cards in runs.items()}
        for variant, scores in values.items():
            row = figures.setdefault(variant, {})
            row |= {score: round(fmean(scores), 2), f"{score}_deviation": round(stdev(scores), 2)}
            row[f"{score}_seeds"] = [round(value, 2) for value in scores]
            if variant != first:
                found = mean_difference(scores, values[first])
                row |= {
                    f"{score}_difference": round(found.difference, 2),
                    f"{score}_difference_interval": [round(found.low, 2), round(found.high, 2)],
                    f"{score}_exceeds_noise": found.exceeds_noise,
                }
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("camvid", help="CamVid 480x360 in the SegNet layout")
    parser.add_argument("--only", choices=sorted(ABLATIONS), help="one of them (default: all)")
    parser.add_argument("--seeds", default="0 1 2", help="two or more, in quotes (default '0 1 2')")
    parser.add_argument("--classifier", type=Path, help="weights that the ablation of the trunk starts from")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of the runs (default runs)")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="of every recipe, after the short schedule's")
    options = parser.parse_intermixed_args()
    seeds = [int(seed) for seed in options.seeds.split()]
    if len(seeds) < 2:
        parser.error("--seeds: a spread needs two seeds or more")
    if options.only and ABLATIONS[options.only].needs_classifier() and options.classifier is None:
        parser.error(f"--only {options.only}: needs --classifier FILE")
    for name in [options.only] if options.only else ABLATIONS:
        ablation = ABLATIONS[name]
        if ablation.needs_classifier() and options.classifier is None:
            continue
        runs: dict[str, list[dict[str, Any]]] = {variant: [] for variant in ablation.variants}
        for seed in seeds:
            for variant in ablation.variants:
                changed = ablation.overrides(variant, options.classifier)
                overrides = [*SHORT, *changed, f"train.seed={seed}", *options.overrides]
                run = f"ablation-{ablation.recipe}-{variant.replace(' ', '-')}-seed{seed}"
                runs[variant].append(judged_run(run, ablation.recipe, overrides, options.camvid, options.runs))
        judged = runs[next(iter(runs))][0]
        made = card(
            "ablation",
            protocol=f"{judged['protocol']}, {len(seeds)} seeds",
            figures=summarise(runs),
            command=["python", *sys.argv],
            seeds=seeds,
            data_fingerprint=judged["data_fingerprint"],
            recipe=ablation.recipe,
            compared_with=next(iter(runs)),
            schedule=SHORT,
            variants={variant: list(changed) for variant, changed in ablation.variants.items()},
        )
        print(f"card: {write_card(ROOT / 'results' / 'ablations' / f'{name}.json', made)}")


if __name__ == "__main__":
    main()
