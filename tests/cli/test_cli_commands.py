"""What the commands print and write."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from featherseg.cards import read_card
from featherseg.cli.eval import protocol_origin
from featherseg.cli.main import app, main
from featherseg.deploy.segmenter import load
from featherseg.models import shipped
from featherseg.models.registry import create_model, list_models

COMMANDS = [command.name for command in app.registered_commands]


@pytest.fixture
def figures(capsys):
    """Run a command and read its stdout as JSON."""

    def run(*arguments: object, code: int = 0):
        assert main([str(argument) for argument in arguments]) == code
        return json.loads(capsys.readouterr().out)

    return run


def test_every_command_has_help_with_an_example(capsys):
    assert {"train", "eval", "import"} <= set(COMMANDS)
    for command in COMMANDS:
        assert main([command, "--help"]) == 0
        shown = capsys.readouterr().out
        _, _, example = shown.partition("Example:")
        assert f"featherseg {command}" in example, command


def test_help_and_import_load_nothing_heavy():
    heavy = ("torch", "numpy", "cv2", "PIL", "matplotlib", "numba", "rich.progress")  # pydantic is typer's own
    program = (
        "import sys, featherseg\n"
        "from featherseg.cli.main import main\n"
        "assert main(['--help']) == 0 and main(['train', '--help']) == 0\n"
        f"print('loaded:', [name for name in {heavy!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
    assert "loaded: []" in done.stdout


def test_version(capsys):
    import featherseg

    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"featherseg {featherseg.__version__}\n"


def test_models_lists_every_network_with_its_parameters(figures):
    listed = {row["model"]: row["parameters"] for row in figures("models", "--json")}
    assert list(listed) == list_models()
    # 2,845,351 for 19 classes: Rosas-Arias et al. 2020, Table I, says 2.85 M.
    assert listed["fassd_net"] == 2_845_351


def test_models_lists_classifiers_apart(capsys):
    assert main(["models", "--task", "classification"]) == 0
    shown = capsys.readouterr().out
    assert "hardnet_petite" in shown
    assert "fassd_net" not in shown


def test_models_lists_shipped_weights(figures, small_weights, tmp_path, monkeypatch):
    monkeypatch.setattr(shipped, "SHIPPED", tmp_path)
    (tmp_path / "fassd_net_l2.small.safetensors").write_bytes(small_weights.read_bytes())
    (row,) = figures("models", "--weights", "--json")
    assert (row["weights"], row["classes"], row["trained_on"]) == ("fassd_net_l2.small", 3, "small/48x32/train")


def test_complexity_of_one_network(figures):
    counted = figures("complexity", "fassd_net_l2", "--size", "64x96", "--classes", "11", "--json")
    assert {"model", "parameters", "parameters_deployed", "conv_macs", "size"} <= set(counted)
    assert counted["size"] == [64, 96]
    assert counted["parameters"] == sum(p.numel() for p in create_model("fassd_net_l2", 11).parameters())


def test_complexity_of_one_network_with_arguments(figures):
    counted = figures("complexity", "shufflenet_v2_dpc", "output_stride=8", "decoder=true", "--size", "64x96", "--json")
    ours = create_model("shufflenet_v2_dpc", output_stride=8, decoder=True)
    assert counted["parameters"] == sum(p.numel() for p in ours.parameters())
    coarser = figures("complexity", "shufflenet_v2_dpc", "decoder=true", "--size", "64x96", "--json")
    assert counted["conv_macs"] > 2 * coarser["conv_macs"]


def test_complexity_of_weights_is_that_of_their_network(figures, small_weights):
    counted = figures("complexity", small_weights, "--size", "64x96", "--json")
    expected = figures("complexity", "fassd_net_l2", "--size", "64x96", "--classes", "3", "--json")
    assert counted == expected | {"model": str(small_weights)}


@pytest.mark.parametrize("asked", [["--classes", "5"], ["width=2"]], ids=str)
def test_complexity_of_weights_takes_nothing_that_they_tell_themselves(small_weights, capsys, asked):
    assert main(["complexity", str(small_weights), *asked]) == 2
    assert f"{asked[0]} cannot be set" in capsys.readouterr().err


def test_complexity_of_weights_that_are_not_there_names_those_that_are(capsys):
    assert main(["complexity", "fassd_net_l2.camvit"]) == 2
    assert "did you mean 'fassd_net_l2.camvid'" in capsys.readouterr().err


def test_complexity_beside_the_paper(figures):
    rows = figures("complexity", "--paper", "fassd_net", "--json")
    assert all({"row", "paper", "ours"} <= set(row) for row in rows)
    assert {"FASSD-Net-L1", "FASSD-Net-L2", "FC-HarDNet-70"} <= {row["row"] for row in rows}


def test_complexity_beside_a_paper_of_several_sizes(capsys):
    assert main(["complexity", "--paper", "shufflenet_v2_dpc"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert {"360x640", "224x224"} == {word for line in lines for word in line.split() if word in ("360x640", "224x224")}
    assert "MB, paper" in lines[0]
    assert "parameters" not in lines[0]  # the paper prints none


def test_check_of_sound_data(figures, small_data):
    report = figures("check", small_data, "--json")
    assert report["ok"] is True
    assert set(report["classes"]) == {"ground", "thing", "rare"}


def test_check_of_spoilt_data_exits_1(figures, small_data, tmp_path):
    import shutil

    shutil.copytree(small_data, tmp_path / "spoilt")
    mask = tmp_path / "spoilt/masks/train/1.png"
    mask.write_bytes(mask.read_bytes()[:40])
    report = figures("check", tmp_path / "spoilt", "--json", code=1)
    assert report["ok"] is False
    assert any(problem["where"] == str(mask) for problem in report["problems"])


def test_eval_prints_figures_and_writes_card_and_picture(figures, small_data, small_weights, tmp_path):
    card_file, picture = tmp_path / "card.json", tmp_path / "confusion.png"
    command = ("eval", "-w", small_weights, "--data", small_data, "--card", card_file, "--picture", picture)
    shown = figures(*command, "--json")
    assert 0 <= shown["miou"] <= 100
    assert set(shown["iou"]) == {"ground", "thing", "rare"}
    assert shown["images"] == 3
    card = read_card(card_file)
    assert card["kind"] == "evaluation"
    assert card["seeds"] == [7]  # of the training that made the weights
    assert card["figures"]["miou"] == shown["miou"]
    assert card["data_fingerprint"] == shown["data_fingerprint"]
    assert len(card["weights_sha256"]) == 64
    assert str(tmp_path) not in card_file.read_text()
    with Image.open(picture) as opened:
        opened.verify()


def test_eval_agrees_with_labels_counted_by_hand(figures, small_data, small_weights):
    shown = figures("eval", "-w", small_weights, "--data", small_data, "--json")
    segmenter = load(small_weights)
    met, joined = np.zeros(3), np.zeros(3)
    for number in range(3):
        with Image.open(small_data / f"masks/test/{number}.png") as stored:
            truth = np.array(stored)
        found = segmenter.predict(small_data / f"images/test/{number}.png").labels
        for k in range(3):
            met[k] += ((found == k) & (truth == k)).sum()
            joined[k] += (((found == k) | (truth == k)) & (truth != 255)).sum()
    np.testing.assert_allclose(list(shown["iou"].values()), 100 * met / joined, atol=0.01)


def test_views_are_named_in_the_protocol(figures, small_data, small_weights):
    shown = figures("eval", "-w", small_weights, "--data", small_data, "--flip", "--scales", "0.5,1", "--json")
    assert shown["protocol"].endswith("→test+flip+ms0.5,1")


def test_protocol_names_the_data_of_the_training_where_it_is_another():
    assert protocol_origin("camvid11/480x360/train", "camvid11/480x360") == "train"
    assert protocol_origin("streets/320x240/train", "camvid11/480x360") == "streets/320x240/train"
    assert protocol_origin(None, "camvid11/480x360") == "unknown"


def test_eval_for_a_person_is_a_table(small_data, small_weights, capsys):
    assert main(["eval", "-w", str(small_weights), "--data", str(small_data)]) == 0
    shown = capsys.readouterr().out
    assert "mIoU" in shown
    assert "ground" in shown


def test_predict_writes_labels_overlay_and_shares(small_data, small_weights, tmp_path, capsys):
    images = small_data / "images/test"
    assert main(["predict", str(images), "-w", str(small_weights), "-o", str(tmp_path)]) == 0
    assert "3 images" in capsys.readouterr().out
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {f"{i}{end}" for i in range(3) for end in (".png", "_overlay.png", ".json")}
    with Image.open(tmp_path / "0.png") as stored:
        np.testing.assert_array_equal(np.array(stored), load(small_weights).predict(images / "0.png").labels)


def test_predict_without_overlays(small_data, small_weights, tmp_path):
    image = small_data / "images/test/0.png"
    assert main(["predict", str(image), "-w", str(small_weights), "-o", str(tmp_path), "--no-overlay"]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"0.png", "0.json"}


@pytest.mark.parametrize("source", ["text", "weights", "data"])
def test_import_takes_class_names_from_anywhere(source, small_data, small_weights, tmp_path, capsys):
    torch.save(create_model("fassd_net_l2", 3).state_dict(), tmp_path / "theirs.pth")
    given = {"text": small_data / "classes.txt", "weights": small_weights, "data": small_data}[source]
    out = tmp_path / "ours.safetensors"
    arguments = ["import", "fassd_net_l2", str(tmp_path / "theirs.pth"), "-o", str(out), "--classes-from", str(given)]
    assert main(arguments) == 0
    assert "100.00 %" in capsys.readouterr().out
    assert load(out).labels.classes == ("ground", "thing", "rare")


def test_complexity_of_a_paper_leaves_a_card(tmp_path):
    path = tmp_path / "counts.json"
    assert main(["complexity", "--paper", "fassd_net", "--card", str(path), "--json"]) == 0
    rows = read_card(path)["figures"]["rows"]
    assert {row["model"]: row["ours"]["parameters"] for row in rows if row["row"] == "+MDA"} == {
        "fassd_net_mda": 2_379_207
    }
