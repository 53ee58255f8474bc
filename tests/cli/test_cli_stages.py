"""A sequence of stages by the command line: pictures, then two trainings on street scenes, stopped and gone on with."""

import os
import re
import signal
from pathlib import Path

import pytest
from PIL import Image

from featherseg.cards import read_card
from featherseg.cli.main import main
from featherseg.deploy.segmenter import load
from featherseg.files import file_sha256
from featherseg.models.weights import read_metadata
from featherseg.recipes.reading import read_experiment
from featherseg.training import loop

RECIPE = """
name: small
model: {{name: fassd_net_l2}}
stages:
  - name: pictures
    task: classification
    model: {{name: hardnet_petite}}
    data: {{source: {pictures}}}
    augment: {{crop: [32, 32], scale: [0.5, 1.0]}}
    train: {{steps: 1, batch_size: 2, precision: fp32, workers: 0, device: cpu}}
  - name: wide
    carry: backbone
    data: {{source: streets, size: [32, 64], count: 2, val_count: 1}}
    augment: {{crop: [32, 64]}}
    train: {{steps: 2, batch_size: 2, precision: fp32, workers: 0, device: cpu}}
  - name: fine
    carry: all_but_logits
    data: {{source: streets, size: [32, 64], count: 2, val_count: 1, seed: 1}}
    augment: {{crop: [32, 64], scale_step: 0.5, padding: bottom_right, padding_value: 128, flip_last: true}}
    optimizer: {{kind: adam, decay: kernels_but_depthwise}}
    schedule: {{slow_start: 1}}
    train: {{steps: 3, batch_size: 2, precision: fp32, workers: 0, device: cpu}}
"""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("sequence")
    for split in ("train", "val"):
        for name, colour in (("blue", (0, 0, 200)), ("red", (200, 0, 0))):
            folder = root / "pictures" / split / name
            folder.mkdir(parents=True)
            Image.new("RGB", (32, 32), colour).save(folder / "0.png")
    path = root / "small.yaml"
    path.write_text(RECIPE.format(pictures=root / "pictures"))
    return path


@pytest.fixture(scope="module")
def told(recipe, tmp_path_factory):
    """The folder of a sequence that was stopped in its last stage and gone on with by the command that it printed."""
    output = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        factor = loop.learning_rate_factor

        def signalled(schedule, now, steps):
            if (now, steps) == (1, 3):
                os.kill(os.getpid(), signal.SIGINT)
            return factor(schedule, now, steps)

        patch.setattr(loop, "learning_rate_factor", signalled)
        lines: list[str] = []
        patch.setattr("featherseg.cli.train.note", lines.append)
        patch.setattr("featherseg.cli.stages.note", lines.append)
        assert main(["train", str(recipe), "train.seed=3", "--output", str(output)]) == 130
        stopped = lines.copy()
        lines.clear()
        assert not (output / "small/weights.safetensors").exists()
        _, _, command = stopped[-1].partition("Go on with: featherseg ")
        assert main(command.split()) == 0
    return output / "small", stopped, lines


@pytest.fixture(scope="module")
def run(told) -> Path:
    return told[0]


def test_it_says_which_stage_it_is_at_and_what_was_carried_over(told):
    _, stopped, resumed = told
    assert [line for line in stopped if line.startswith("stage ")] == [
        "stage 1 of 3: pictures",
        "stage 2 of 3: wide",
        "stage 3 of 3: fine",
    ]
    carried = [line for line in stopped if "tensors carried over" in line]
    assert [line.split(" from ")[0] for line in carried] == ["backbone", "all_but_logits"]
    assert any("2 start fresh: finalConv.weight, finalConv.bias" in line for line in stopped)
    assert "stopped after step 2 of 3" in stopped[-1]
    assert [line.partition(", in ")[0] for line in resumed if line.startswith("stage ")] == [
        "stage 1 of 3: pictures: finished",
        "stage 2 of 3: wide: finished",
        "stage 3 of 3: fine",
    ]


def test_every_stage_leaves_what_a_run_leaves(run):
    for stage in ("pictures", "wide", "fine"):
        names = {path.name for path in (run / stage).iterdir()}
        expected = {"recipe.yaml", "weights.safetensors", "log.jsonl", "card.json", "report.html"}
        assert expected | {"checkpoint.safetensors"} <= names


def test_the_sequence_leaves_the_last_weights_and_a_card_that_names_every_stage(run):
    assert file_sha256(run / "weights.safetensors") == file_sha256(run / "fine/weights.safetensors")
    assert load(run / "weights.safetensors").labels.name == "camvid11"
    card = read_card(run / "card.json")
    assert [(stage["name"], stage["carry"], stage["steps"]) for stage in card["stages"]] == [
        ("pictures", None, 1),
        ("wide", "backbone", 2),
        ("fine", "all_but_logits", 3),
    ]
    assert card["steps"] == 6
    assert card["seeds"] == [3]
    assert card["figures"] == read_card(run / "fine/card.json")["figures"]
    assert card["protocol"] == "streets/64x32/train→val"


def test_the_weights_say_what_they_started_from(run):
    started = read_metadata(run / "weights.safetensors")["started_from"]
    assert started["carry"] == "all_but_logits"
    assert started["sha256"] == file_sha256(run / "wide/weights.safetensors")


def test_the_kept_recipe_is_the_one_that_ran(run, recipe):
    assert read_experiment(run / "recipe.yaml") == read_experiment(recipe, ["train.seed=3"])


def test_resuming_a_finished_sequence_keeps_its_card(run):
    before = (run / "card.json").read_bytes()
    assert main(["train", str(run / "recipe.yaml"), "--resume", "--output", str(run.parent)]) == 0
    assert (run / "card.json").read_bytes() == before


def test_a_changed_stage_is_refused_at_resumption(run, capsys):
    again = ["train", str(run / "recipe.yaml"), "stages.wide.optimizer.lr=0.5", "--resume", "--output", str(run.parent)]
    assert main(again) == 2
    assert "other values of optimizer.lr" in capsys.readouterr().err


def test_a_second_sequence_of_the_name_is_refused(run, recipe, capsys):
    assert main(["train", str(recipe), "--output", str(run.parent)]) == 2
    assert "--resume" in capsys.readouterr().err


def test_the_report_of_a_sequence_is_its_last_stages(run, capsys):
    assert main(["report", str(run)]) == 0
    assert capsys.readouterr().out.strip() == str(run / "fine/report.html")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("stages.fine.data.source=nowhere", r"fine: nowhere: no such folder.*stages\.fine\.data\.source=PATH"),
        ("stages.fine.data.val_split=vla", "stage 3 of 3: fine: streets: no split 'vla'"),
        ("stages.pictures.data.source=nowhere", "stage 1 of 3: pictures: nowhere: there is no such folder"),
        ("stages.wide.train.device=gpu", "stage 2 of 3: wide: train.device='gpu' is no device"),
        ("stages.fine.loss.class_weights=[1.0]", "stage 3 of 3: fine: loss.class_weights has 1 values"),
        ("stages.pictures.data.val_split=vla", "stage 1 of 3: pictures: .*: no split 'vla'; did you mean 'val'"),
        ("stages.wide.task=classification", r"stage wide: data\.size: is of a segmentation, and this is a class"),
        ("stages.fine.model.name=hardnet_petite", "stage 3 of 3: fine: model.name=hardnet_petite: a network for class"),
        ("stages.pictures.model.name=drbanet", "stage 1 of 3: pictures: model.name=drbanet: a network for segmen"),
        ("stages.fine.model.name=drbanet", "stage 3 of 3: fine: .*cannot carry all_but_logits"),
    ],
)
def test_a_late_stages_mistake_is_told_before_the_first_step(override, message, recipe, tmp_path, capsys):
    assert main(["train", str(recipe), override, "--output", str(tmp_path)]) == 2
    assert re.search(message, capsys.readouterr().err)
    assert not (tmp_path / "small").exists()


def test_carrying_the_logits_over_to_other_classes_is_refused_before_the_first_step(
    recipe, small_data, tmp_path, capsys
):
    given = [f"stages.fine.data={{source: {small_data}}}", "stages.fine.carry=everything"]
    assert main(["train", str(recipe), *given, "--output", str(tmp_path)]) == 2
    assert re.search(r"fine: has 3 classes and wide has 11, .*all_but_logits", capsys.readouterr().err)
    assert not (tmp_path / "small").exists()
