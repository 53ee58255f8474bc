"""Draw the documentation's pictures: a prediction of shipped weights on a procedural street scene, and what
`featherseg report` draws of the cards.

python docs/make_picture.py [--weights fassd_net.camvid] [--scene 7]
"""

import argparse
import re
from pathlib import Path

import numpy as np

import featherseg
from featherseg.data.colour import legend_strip
from featherseg.data.streets import Streets
from featherseg.files import atomic_write
from featherseg.report.card_files import gather_cards
from featherseg.report.card_report import card_report
from featherseg.report.plots import image_png, strip

PICTURES = Path(__file__).parent / "pictures"


def accuracy_against_speed() -> bytes:
    """The picture of the report on ``results/`` that has the most points, with the page's style, as a file."""
    page = card_report(gather_cards([Path(__file__).parents[1] / "results"])).html
    drawing = max(re.findall(r"<svg viewBox.*?</svg>", page, re.DOTALL), key=lambda drawn: drawn.count("<title>"))
    style = re.findall(r"<style>.*?</style>", page, re.DOTALL)[0]
    return drawing.replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg"', 1).replace("\n", style, 1).encode()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", default="fassd_net.camvid")
    parser.add_argument("--scene", type=int, default=7)
    parser.add_argument("-o", "--output", type=Path, default=PICTURES / "prediction.png")
    arguments = parser.parse_args()
    sample = Streets("test", arguments.scene + 1, (360, 480)).read(arguments.scene)
    segmenter = featherseg.load(arguments.weights)
    predicted = segmenter.predict(sample.image).labels
    picture = strip(sample.image, sample.label, predicted, segmenter.labels.palette)
    present = sorted({int(k) for k in np.unique(predicted)})
    legend = legend_strip(segmenter.labels, present, picture.shape[1])
    atomic_write(arguments.output, image_png(np.vstack([picture, legend])))
    atomic_write(PICTURES / "accuracy_speed.svg", accuracy_against_speed())


if __name__ == "__main__":
    main()
