"""``featherseg balance``: what it writes and when it writes nothing."""

import json

import pytest
import torch

from featherseg.cli.main import main
from featherseg.models.weights import read_weights, save_weights


@pytest.fixture
def constant_weights(small_weights, tmp_path):
    """A function that makes weights that see one class everywhere."""

    def make(number: int):
        weights = read_weights(small_weights)
        tensors = dict(weights.tensors)
        tensors["finalConv.weight"] = torch.zeros_like(tensors["finalConv.weight"])
        tensors["finalConv.bias"] = torch.nn.functional.one_hot(torch.tensor(number), 3).float()
        return save_weights(tmp_path / f"constant{number}.safetensors", tensors, weights.metadata)

    return make


def miou(capsys, weights, data) -> float:
    assert main(["eval", "--weights", str(weights), "--data", str(data), "--split", "val", "--json"]) == 0
    return json.loads(capsys.readouterr().out)["miou"]


def test_balanced_weights_judge_better_and_say_how_they_came_about(constant_weights, small_data, tmp_path, capsys):
    rare, out = constant_weights(2), tmp_path / "balanced.safetensors"
    assert main(["balance", "--weights", str(rare), "--data", str(small_data), "-o", str(out), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["written"]
    assert told["held_out_after"] > told["held_out_before"]
    assert miou(capsys, out, small_data) == pytest.approx(told["after"], abs=0.01)
    assert miou(capsys, rare, small_data) == pytest.approx(told["before"], abs=0.01)
    noted = read_weights(out).metadata["balance"]
    assert noted["data"].endswith("/val")
    assert noted["biases"] == told["biases"]


def test_where_nothing_is_gained_nothing_is_written(constant_weights, small_data, tmp_path, capsys):
    common, out = constant_weights(0), tmp_path / "balanced.safetensors"
    assert main(["balance", "--weights", str(common), "--data", str(small_data), "-o", str(out)]) == 1
    assert not out.exists()
    assert "nothing is gained" in capsys.readouterr().out


def test_balanced_weights_are_not_balanced_again(constant_weights, small_data, tmp_path, capsys):
    out = tmp_path / "balanced.safetensors"
    assert main(["balance", "--weights", str(constant_weights(2)), "--data", str(small_data), "-o", str(out)]) == 0
    assert (
        main(["balance", "--weights", str(out), "--data", str(small_data), "-o", str(tmp_path / "b.safetensors")]) == 2
    )
    assert "is balanced already" in capsys.readouterr().err


def test_a_split_that_is_not_there_is_refused(constant_weights, small_data, tmp_path, capsys):
    arguments = ["balance", "--weights", str(constant_weights(2)), "--data", str(small_data), "--split", "vall"]
    assert main([*arguments, "-o", str(tmp_path / "b.safetensors")]) == 2
    assert "--split val" in capsys.readouterr().err
