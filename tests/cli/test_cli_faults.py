"""A person's mistake at the command line: one line that helps, exit code 2, no traceback."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from featherseg.cli.main import main
from featherseg.models.import_mobile import SOURCES
from featherseg.models.importer import import_encoder
from featherseg.models.registry import create_model
from featherseg.models.weights import describe_network, read_weights, save_weights


@pytest.fixture
def refused(capsys):
    """Run a command that must be refused, and return its one line."""

    def run(*arguments: object) -> str:
        code = main([str(argument) for argument in arguments])
        shown = capsys.readouterr()
        assert code == 2
        assert shown.out == ""
        assert shown.err.startswith("featherseg: error: ")
        assert shown.err.count("\n") == 1
        assert "Traceback" not in shown.err
        return shown.err

    return run


def test_unknown_command(refused):
    assert "predikt" in refused("predikt", "a.png")


def test_unknown_option(refused):
    assert "--wieghts" in refused("predict", "a.png", "--wieghts", "x")


def test_missing_option(refused):
    assert "--weights" in refused("predict", "a.png", "-o", "out")


def test_unknown_model(refused):
    assert "did you mean 'fassd_net_l2'" in refused("complexity", "fasd_net_l2")


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("output_strid=8", "did you mean 'output_stride'"),
        ("output_stride=7", "shufflenet_v2_dpc: output_stride is 7; it must be 8, 16"),
        ("decoder", "not key=value"),
    ],
)
def test_wrong_argument_of_a_network(refused, argument, said):
    assert said in refused("complexity", "shufflenet_v2_dpc", argument)


def test_unknown_paper(refused):
    assert "did you mean 'fassd_net'" in refused("complexity", "--paper", "fassdnet")


def test_model_and_paper_at_once(refused):
    assert "one network or one --paper" in refused("complexity", "fassd_net", "--paper", "fassd_net")


@pytest.mark.parametrize("size", ["1024", "0x12", "axb", "-1x5"])
def test_wrong_size(refused, size):
    assert "1024x2048" in refused("complexity", "fassd_net", f"--size={size}")


def test_unknown_task(refused):
    assert "did you mean 'segmentation'" in refused("models", "--task", "segmentaton")


def test_missing_data(refused, tmp_path):
    assert "no such folder" in refused("check", tmp_path / "gone")


def test_unknown_recipe(refused):
    assert "did you mean 'quickstart'" in refused("train", "quickstrat")


def test_unknown_recipe_key(refused, small_recipe, tmp_path):
    line = refused("train", small_recipe, "train.epoch=3", "--output", tmp_path)
    assert "did you mean 'epochs'" in line
    assert not any(tmp_path.iterdir())


def test_wrong_type_in_a_recipe(refused, small_recipe, tmp_path):
    assert "train.batch_size" in refused("train", small_recipe, "train.batch_size=many", "--output", tmp_path)


def test_nothing_to_resume_is_told_before_data_is_read_and_leaves_no_folder(refused, small_recipe, tmp_path):
    line = refused("train", small_recipe, f"data.source={tmp_path / 'gone'}", "--resume", "--output", tmp_path)
    assert "no checkpoint to resume from" in line
    assert not any(tmp_path.iterdir())


def test_train_on_own_data_asks_for_the_folder(refused, tmp_path):
    assert "set data.source=PATH" in refused("train", "own_data", "--output", tmp_path)


@pytest.mark.parametrize("workers", [0, 1])
def test_spoilt_data_found_in_training_leads_to_the_check(small_recipe, small_data, tmp_path, capsys, workers):
    data = shutil.copytree(small_data, tmp_path / "data")
    for image in (data / "images/train").iterdir():
        image.write_bytes(image.read_bytes()[:-20])
    options = [f"data.source={data}", f"train.workers={workers}", "--output", str(tmp_path / "runs")]
    assert main(["train", str(small_recipe), *options]) == 2
    told = capsys.readouterr().err.splitlines()[-1]
    assert "images/train" in told
    assert f"`featherseg check {data}` reads every file" in told


def test_a_data_set_without_test_split_names_the_option(refused, small_data, small_weights, tmp_path):
    data = shutil.copytree(small_data, tmp_path / "data")
    for kind in ("images", "masks"):
        shutil.rmtree(data / kind / "test")
    assert "Choose --split train or --split val." in refused("eval", "-w", small_weights, "--data", data)


def test_missing_weights(refused, tmp_path):
    line = refused("predict", "a.png", "-w", tmp_path / "gone.safetensors", "-o", tmp_path / "out")
    assert "no such weights file" in line


def test_unknown_weights_name(refused, small_data):
    assert "no shipped weights" in refused("eval", "-w", "fassd_net_l9.nowhere", "--data", small_data)


def test_weights_for_another_architecture(refused, small_weights, tmp_path):
    weights = read_weights(small_weights)
    wrong = save_weights(
        tmp_path / "wrong.safetensors", weights.tensors, weights.metadata | {"architecture": "fassd_net"}
    )
    assert "not for fassd_net" in refused("predict", "a.png", "-w", wrong, "-o", tmp_path / "out")


def test_weights_of_an_unknown_architecture(refused, small_weights, tmp_path):
    weights = read_weights(small_weights)
    wrong = save_weights(
        tmp_path / "wrong.safetensors", weights.tensors, weights.metadata | {"architecture": "fasdnet"}
    )
    assert "wrong.safetensors" in refused("predict", "a.png", "-w", wrong, "-o", tmp_path / "out")


def test_a_pickle_posing_as_weights(refused, tmp_path):
    torch.save({"a": torch.zeros(2)}, tmp_path / "posing.safetensors")
    line = refused("predict", "a.png", "-w", tmp_path / "posing.safetensors", "-o", tmp_path / "out")
    assert "featherseg import" in line


def test_garbled_weights(refused, tmp_path):
    (tmp_path / "w.safetensors").write_bytes(b"\xff" * 100)
    assert "damaged" in refused("predict", "a.png", "-w", tmp_path / "w.safetensors", "-o", tmp_path / "out")


def test_import_of_another_network(refused, tmp_path):
    torch.save(create_model("fassd_net_l2", 3).state_dict(), tmp_path / "l2.pth")
    line = refused("import", "fassd_net_aspp", tmp_path / "l2.pth", "-o", tmp_path / "out.safetensors")
    assert "not a checkpoint of fassd_net_aspp" in line
    assert not (tmp_path / "out.safetensors").exists()


@pytest.fixture(scope="module")
def encoder_alone(tmp_path_factory):
    """What ``featherseg import`` makes of a public file of features, by the names of its source."""
    folder = tmp_path_factory.mktemp("encoder")
    source = next(source for source in SOURCES if source.title.startswith("tonylins"))
    theirs = {ours: name for name, ours in source.layers.items()}
    state = {}
    for name, tensor in create_model("mobilenet_v2").state_dict().items():
        layer, _, leaf = name.rpartition(".")
        if layer != "fc":
            state[f"{theirs[layer]}.{leaf}"] = tensor
    torch.save(state, folder / "features.pth")
    out = folder / "features.safetensors"
    assert main(["import", "mobilenet_v2", str(folder / "features.pth"), "-o", str(out)]) == 0
    return out


@pytest.mark.parametrize("command", ["predict", "eval", "imported again"])
def test_weights_without_their_last_layer_give_no_answers(
    command, encoder_alone, small_data, refused, tmp_path, capsys
):
    weights, out = encoder_alone, tmp_path / "out"
    if command == "imported again":
        weights = tmp_path / "again.safetensors"
        assert main(["import", "mobilenet_v2", str(encoder_alone), "-o", str(weights)]) == 0
        capsys.readouterr()
    picture = next(small_data.rglob("*.png"))
    if command == "eval":
        line = refused("eval", "-w", weights, "--data", small_data)
    else:
        line = refused("predict", picture, "-w", weights, "--task", "classify", "-o", out)
    assert "an encoder alone: what it was imported from has no fc.weight, fc.bias" in line
    assert f"start.encoder={weights}" in line


def test_weights_without_their_last_layer_start_a_training(encoder_alone):
    arguments = {"normalisation": "imagenet", "backbone_eps": 1e-5}
    network = create_model("mobilenet_v2_basic", 3, **arguments)
    assert import_encoder(network, encoder_alone).percent == 100


def test_import_to_another_format(refused, tmp_path):
    assert "out.safetensors" in refused("import", "fassd_net", tmp_path / "a.pth", "-o", tmp_path / "out.pth")


def test_data_with_other_classes(refused, small_data, tmp_path):
    network = create_model("fassd_net_l2", 5)
    about = describe_network(network, "fassd_net_l2", 5)
    weights = save_weights(tmp_path / "w.safetensors", network.state_dict(), about)
    assert "has 3 classes" in refused("eval", "-w", weights, "--data", small_data)


def test_data_with_its_classes_in_another_order(refused, small_data, small_weights, tmp_path):
    weights = read_weights(small_weights)
    about = weights.metadata | {"classes": ["thing", "ground", "rare"]}
    swapped = save_weights(tmp_path / "w.safetensors", weights.tensors, about)
    assert "another order" in refused("eval", "-w", swapped, "--data", small_data)


@pytest.mark.parametrize("scales", ["a", "0", "1,,2", "1,-2", "nan"])
def test_wrong_scales(refused, small_data, small_weights, scales):
    assert "0.75,1,1.25" in refused("eval", "-w", small_weights, "--data", small_data, f"--scales={scales}")


def test_unknown_split(refused, small_data, small_weights):
    assert "--split train or --split val or --split test" in refused(
        "eval", "-w", small_weights, "--data", small_data, "--split", "tset"
    )


def test_report_on_a_folder_that_is_no_run(refused, tmp_path):
    assert "recipe.yaml" in refused("report", tmp_path)


def test_predict_into_the_folder_of_the_images(refused, small_data, small_weights):
    images = small_data / "images/test"
    assert "overwrite" in refused("predict", images, "-w", small_weights, "-o", images)


def test_predict_on_an_empty_folder(small_weights, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert main(["predict", str(tmp_path / "empty"), "-w", str(small_weights), "-o", str(tmp_path / "out")]) == 2
    assert "no images" in capsys.readouterr().err


def test_predict_does_what_it_can(small_weights, tmp_path, capsys):
    Image.fromarray(np.zeros((1, 1, 3), np.uint8)).save(tmp_path / "one.png")
    (tmp_path / "broken.png").write_bytes(b"no image")
    given = ["broken.png", "one.png", "gone.png"]
    arguments = [str(tmp_path / name) for name in given]
    assert main(["predict", *arguments, "-w", str(small_weights), "-o", str(tmp_path / "out")]) == 2
    shown = capsys.readouterr().err.splitlines()
    assert [line.split(": ")[:2] for line in shown] == [["featherseg", "error"]] * 2
    assert "broken.png" in shown[0]
    assert "gone.png" in shown[1]
    assert (tmp_path / "out/one.png").exists()


def test_interrupted_command_exits_130(monkeypatch):
    import featherseg.data.check as checker

    def interrupted(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(checker, "check_dataset", interrupted)
    assert main(["check", "streets"]) == 130
