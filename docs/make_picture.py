"""Draw the README's picture: a prediction of shipped weights on a procedural street scene.

python docs/make_picture.py [--weights fassd_net.camvid] [--scene 7]
"""

import argparse
from pathlib import Path

import numpy as np

import featherseg
from featherseg.data.colour import legend_strip
from featherseg.data.streets import Streets
from featherseg.files import atomic_write
from featherseg.report.plots import image_png, strip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", default="fassd_net.camvid")
    parser.add_argument("--scene", type=int, default=7)
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).parent / "pictures" / "prediction.png")
    arguments = parser.parse_args()
    sample = Streets("test", arguments.scene + 1, (360, 480)).read(arguments.scene)
    segmenter = featherseg.load(arguments.weights)
    predicted = segmenter.predict(sample.image).labels
    picture = strip(sample.image, sample.label, predicted, segmenter.labels.palette)
    present = sorted({int(k) for k in np.unique(predicted)})
    legend = legend_strip(segmenter.labels, present, picture.shape[1])
    atomic_write(arguments.output, image_png(np.vstack([picture, legend])))


if __name__ == "__main__":
    main()
