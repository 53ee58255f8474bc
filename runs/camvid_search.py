"""A network searched on this machine's CPU for CamVid 480x360, and networks made by hand under the same training.

    python runs/camvid_search.py CAMVID [--budget 2ms] [--seeds "0 1 2"] [--rivals "fassd_net_l2 ..."] [key=value ...]

Searches camvid_small_search (a search that was stopped goes on; one that is done is kept), trains what it found and
every rival from nothing by camvid_distil_fasterseg on the short schedule, taught by the search's own teacher, judges
each on val with its last averaged weights, and times all together through OpenVINO in bfloat16. The card,
results/ablations/camvid_search.json, holds accuracies, their differences to the found network with Student's interval,
the times of one run, and the architecture. Test is not looked at. key=value are overrides of every training.

The times want an idle machine: with --untimed the card is written without them, and started again without it the script
does nothing but time.
"""

import argparse
import json
import sys
from pathlib import Path
from shutil import copyfile
from typing import Any

from camvid_ablations import ROOT, featherseg, judged, summarise
from camvid_fasterseg import FIRST, LATER, SHORT, common, distil

from featherseg.cards import card, read_card, write_card
from featherseg.cli.search import parse_budget

SEARCH, TRAINING, TEACHER = "camvid_small_search", "camvid_distil_fasterseg", "efficientnet_lite0_dpc.camvid"
SIZE, THREADS = "360x480", "2"
RIVALS = "fasterseg_student fassd_net_l2 shufflenet_v2_dpc"
FOUND = "found"


def searched(options: argparse.Namespace) -> Path:
    """The folder of the search, done."""
    folder: Path = options.runs / SEARCH
    if not (folder / "result.json").is_file():
        output = ["--output", str(options.runs)]
        if (folder / "checkpoint.safetensors").is_file():
            featherseg("search", str(folder / "recipe.yaml"), "--resume", *output)
        else:
            featherseg("search", SEARCH, f"data.source={options.camvid}", "--budget", options.budget, *output)
    return folder


def trained(row: str, seed: int, architecture: dict[str, Any], options: argparse.Namespace) -> Path:
    """The run of one network with one seed, done."""
    model = "fasterseg" if row == FOUND else row
    network = {"name": model, "arguments": {"architecture": architecture} if row == FOUND else {}}
    overrides = [f"model={json.dumps(network)}", f"train.epochs={FIRST + LATER}", *common(seed, options)]
    return distil(TRAINING, f"camvid_search-{row}-seed{seed}", overrides, TEACHER, options)


def times(runs: dict[str, Path], options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """What `featherseg bench` measured of each row, all in one run."""
    folder = options.runs / "camvid_search-speed"
    folder.mkdir(exist_ok=True)
    weights = [copyfile(run / "weights.safetensors", folder / f"{row}.safetensors") for row, run in runs.items()]
    way = ["--runtime", "openvino", "--precision", "bf16", "--size", SIZE, "--threads", THREADS]
    rounds = ["--rounds", "200", "--seconds", "60", "--no-memory"]
    featherseg("bench", *map(str, weights), *way, *rounds, "--card", str(folder / "card.json"))
    measured = read_card(folder / "card.json")["figures"]["contestants"]
    return {row: measured[f"{row}.safetensors, openvino bf16"] for row in runs}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("camvid", help="CamVid 480x360 in the SegNet layout")
    parser.add_argument("--budget", default="2ms", help="of the search (default 2ms)")
    parser.add_argument("--seeds", default="0 1 2", help="two or more, in quotes (default '0 1 2')")
    parser.add_argument("--rivals", default=RIVALS, help=f"networks made by hand (default '{RIVALS}')")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of the runs (default runs)")
    parser.add_argument("--untimed", action="store_true", help="leave the times out of the card")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="of every training")
    options = parser.parse_intermixed_args()
    seeds = [int(seed) for seed in options.seeds.split()]
    if len(seeds) < 2:
        parser.error("--seeds: a spread needs two seeds or more")
    result = read_result(searched(options))
    if result["search"]["budget_ms"] != parse_budget(options.budget):
        parser.error(f"the search in {options.runs / SEARCH} had a budget of {result['search']['budget_ms']} ms")
    rows = [FOUND, *options.rivals.split()]
    runs = {row: [trained(row, seed, result["architecture"], options) for seed in seeds] for row in rows}
    judgements = {row: [judged(run, options.camvid) for run in members] for row, members in runs.items()}
    figures = summarise(judgements)
    if not options.untimed:
        for row, found in times({row: members[0] for row, members in runs.items()}, options).items():
            figures[row] |= {key: found[key] for key in ("p50_ms", "p90_ms", "stages", "reference_ratio")}
    one = judgements[FOUND][0]
    made = card(
        "ablation",
        protocol=f"{one['protocol']}, {len(seeds)} seeds",
        figures=figures,
        command=["python", *sys.argv],
        seeds=seeds,
        data_fingerprint=one["data_fingerprint"],
        recipe=TRAINING,
        compared_with=FOUND,
        schedule=[*SHORT, f"epochs: {FIRST + LATER}"],
        teacher=TEACHER,
        search=result["search"],
        architecture=result["architecture"],
    )
    print(f"card: {write_card(ROOT / 'results' / 'ablations' / 'camvid_search.json', made)}")


def read_result(folder: Path) -> dict[str, Any]:
    """The architecture that a search found, and its figures."""
    search = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    architecture = json.loads((folder / "architecture.json").read_text(encoding="utf-8"))
    kept = {key: value for key, value in architecture.items() if key not in ("name", "predicted_ms", "measured_ms")}
    return {"search": search, "architecture": kept}


if __name__ == "__main__":
    main()
