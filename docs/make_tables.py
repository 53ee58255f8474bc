"""Write the tables of the documentation from the cards under ``results/``; ``--check`` only compares.

python docs/make_tables.py [--check]
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from speed_rows import (
    affinity_table,
    choice_table,
    latency_tables,
    paper_speed_table,
    peaks_sentence,
    roofline_table,
    searched_table,
    speed_table,
)
from table_rows import (
    BOUNDARY_COST,
    CAMVID,
    COMPLEXITY,
    DRBANET,
    FASTERSEG,
    JUDGEMENT,
    LITERT,
    LOOKS,
    MOBILE,
    MOBILE_FAMILIES,
    MOBILE_HEADS,
    MOBILE_OPTIONS,
    PYRAMID,
    PYRAMID_ACCURACY,
    STRIDES,
    TRAINING,
    ablation,
    boundary_rows,
    camvid_rows,
    classifier_table,
    judgement_rows,
    litert_rows,
    looks,
    mobile_heads,
    mobile_options,
    printed_accuracies,
    quantized,
    stride_rows,
    support_table,
)

from featherseg.cards import load_cards
from featherseg.files import atomic_write
from featherseg.report.tables import render_table, update_marked_block

ROOT = Path(__file__).parents[1]


def on_camvid(cards: dict[str, dict[str, Any]], *families: str) -> dict[str, str]:
    """The tables of a paper's page: the shipped weights, every look at test, and every training."""
    trainings = [card for card in cards.values() if card["kind"] == "training" and card["model"].startswith(families)]
    return {
        "camvid": render_table(camvid_rows(cards, *families), CAMVID),
        "looks": render_table(looks(cards, *families), LOOKS),
        "trainings": render_table(sorted(trainings, key=lambda card: card["date"]), TRAINING),
    }


def tables() -> dict[Path, dict[str, str]]:
    """Every table by document and name."""
    cards = load_cards(ROOT / "results")
    networks = [row for row in cards["complexity/fassd_net"]["figures"]["rows"] if "count" in row["ours"]]
    mobile = [row for row in cards["complexity/shufflenet_v2_dpc"]["figures"]["rows"] if "gflops" in row["ours"]]
    readings = [row for row in cards["complexity/drbanet"]["figures"]["rows"] if "count" in row["ours"]]
    pyramid = cards["complexity/pyramid_mobilenet"]["figures"]["rows"]
    return {
        ROOT / "docs/deploy.md": {
            "support": support_table(cards["support"]),
            "int8": quantized(cards, "openvino", "onnx"),
            "large": speed_table(cards["speed/fassd_net_l2_1024x2048"]),
            "peaks": peaks_sentence(cards["speed/fassd_net_l2_1024x2048"]),
            "roofline": roofline_table(cards["speed/fassd_net_l2_1024x2048"]),
            "small": speed_table(cards["speed/fassd_net_l2_360x480"]),
            "mobile": speed_table(cards["speed/shufflenet_v2_dpc_512x1024"]),
            "choice": choice_table(cards["speed/choice_360x480"]),
        },
        ROOT / "README.md": {"networks": render_table(camvid_rows(cards), CAMVID)},
        ROOT / "docs/protocols.md": {
            "judgement": render_table(judgement_rows(cards["benchmarks/cityscapes_evaluation"]["figures"]), JUDGEMENT)
        },
        ROOT / "docs/papers/fassd_net.md": {
            **on_camvid(cards, "fassd_net", "hardnet"),
            "complexity": render_table(networks, COMPLEXITY),
            "speed": paper_speed_table(cards["speed/fassd_net_paper"]),
        },
        ROOT / "docs/papers/drbanet.md": {
            **on_camvid(cards, "drbanet"),
            "complexity": render_table(readings, DRBANET),
            "ablation": ablation(cards["ablations/boundary"]),
            "trunk": classifier_table(cards["pretraining/tiny_imagenet_drbanet_trunk.training"]),
            "boundary": render_table(boundary_rows(cards["benchmarks/boundary_target"]["figures"]), BOUNDARY_COST),
        },
        ROOT / "docs/papers/shufflenet_v2_dpc.md": {
            **on_camvid(cards, *MOBILE_FAMILIES),
            "complexity": render_table(mobile, MOBILE),
            "ablation": ablation(cards["ablations/heads"]),
            "decoder": ablation(cards["ablations/decoder"]),
            "int8": quantized(cards, "litert"),
            "heads": render_table(mobile_heads(), MOBILE_HEADS),
            "options": render_table(mobile_options(), MOBILE_OPTIONS),
            "strides": render_table(stride_rows(cards["benchmarks/output_stride"]["figures"]), STRIDES),
            "litert": render_table(litert_rows(cards["benchmarks/litert_speed"]), LITERT),
        },
        ROOT / "docs/papers/fasterseg.md": {
            "complexity": render_table(cards["complexity/fasterseg"]["figures"]["rows"], FASTERSEG),
            "affinity": affinity_table(cards),
            "latency": latency_tables(cards),
            "published": ablation(cards["ablations/fasterseg_published"]),
            "equal": ablation(cards["ablations/fasterseg_equal"]),
            "searched": searched_table(cards["ablations/camvid_search"]),
        },
        ROOT / "docs/papers/pyramid_mobilenet.md": {
            "complexity": render_table([row for row in pyramid if row.get("classes", 1) > 1], PYRAMID),
            "printed": render_table(printed_accuracies(pyramid), PYRAMID_ACCURACY),
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="exit with 1 if a table is not what the cards say")
    check = parser.parse_args().check
    stale = []
    for path, blocks in tables().items():
        before = after = path.read_text(encoding="utf-8")
        for name, table in blocks.items():
            after = update_marked_block(after, name, table)
        if after != before:
            stale.append(path.relative_to(ROOT))
            if not check:
                atomic_write(path, after)
    if check and stale:
        sys.exit(f"not what the cards say: {', '.join(map(str, stale))}. Run: python docs/make_tables.py")


if __name__ == "__main__":
    main()
