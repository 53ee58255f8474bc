"""The page of a run, from what a run leaves behind."""

import json

import numpy as np
import pytest

from featherseg.cards import card, write_card
from featherseg.data.labels import LabelSet
from featherseg.errors import FeathersegError
from featherseg.metrics.calibration import calibration_counts
from featherseg.report.training_report import Example, training_report

EVIL = "<script>steal()</script>"
LABELS = LabelSet("two", (EVIL, "road & kerb"), ((250, 10, 20), (20, 10, 250)))


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "my-run"
    folder.mkdir()
    rows = [{"step": step, "loss": 1.0 / (step + 1)} for step in range(30)]
    (folder / "log.jsonl").write_text("\n".join(json.dumps(row) for row in rows) + "\n")
    made = card(
        "evaluation",
        protocol="two/8x8/train→val",
        figures={"miou": 64.256, "miou_interval": [61.0, 67.5], "boundary_iou": None, "iou": {"a": 1.0}},
        paper={"miou": 69.3},
        command="featherseg train two.yaml data.root=/srv/two",
        seeds=[7],
        data_fingerprint="f00d",
        notes=EVIL,
    )
    write_card(folder / "card.json", made)
    return folder


def example():
    random = np.random.default_rng(0)
    label = random.integers(0, 2, (8, 8)).astype(np.uint8)
    return Example(random.integers(0, 256, (8, 8, 3)).astype(np.uint8), label, 1 - label, EVIL)


def test_the_page_shows_figures_with_interval_and_paper_and_what_was_run(run):
    path = training_report(
        run,
        labels=LABELS,
        confusion=np.array([[9, 1], [2, 8]]),
        calibration=calibration_counts(np.array([0.9], np.float32), np.array([True])),
        examples=[example(), example()],
        facts={"recipe": "two.yaml", "wall time": "12 s"},
        next_steps="featherseg predict photo.jpg --weights <yours>",
    )
    text = path.read_text()
    assert path == run / "report.html"
    for shown in ("64.26", "61.00 … 67.50", "69.30", "two/8x8/train→val", "data.root=two", "f00d", "12 s"):
        assert shown in text
    assert "featherseg predict photo.jpg --weights &lt;yours&gt;" in text
    assert text.count("<img ") == 1 + 1 + 2 + 2 + 1  # loss, legend, strips, bars and confusion, calibration


def test_a_malicious_class_name_stays_text(run):
    text = training_report(run, labels=LABELS, confusion=np.eye(2, dtype=int), examples=[example()]).read_text()
    assert "<script" not in text
    assert "&lt;script&gt;steal()&lt;/script&gt;" in text
    assert "road &amp; kerb" in text


def test_the_page_names_nothing_outside_itself(run):
    text = training_report(run, labels=LABELS, confusion=np.eye(2, dtype=int)).read_text()
    assert "http:" not in text
    assert "https:" not in text


def test_a_run_that_was_never_judged_has_a_page(tmp_path):
    text = training_report(tmp_path, labels=LABELS).read_text()
    assert "No card was written yet." in text


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(FeathersegError, match="no such run folder"):
        training_report(tmp_path / "none", labels=LABELS)
