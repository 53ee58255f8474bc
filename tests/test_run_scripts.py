"""The scripts under runs/: which commands they give, with stand-ins for the programs that they call."""

import os
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

RUNS = Path(__file__).parents[1] / "runs"


@pytest.fixture
def commands(tmp_path: Path):
    """Runs a script in an empty folder and gives the words of each command of featherseg's."""
    (tmp_path / "bin").mkdir()
    for program in ("featherseg", "python"):
        stand_in = tmp_path / "bin" / program
        stand_in.write_text(f'#!/bin/sh\nfor word; do printf "%s\\t" "$word"; done >> {tmp_path}/{program}.log\n')
        stand_in.write_text(f"{stand_in.read_text()}echo >> {tmp_path}/{program}.log\n")
        stand_in.chmod(0o755)

    def run(script: str, *arguments: str, **variables: str) -> list[list[str]]:
        settings = {**os.environ, **variables, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
        subprocess.run(["bash", str(RUNS / script), *arguments], cwd=tmp_path, env=settings, check=True)
        return [line.strip().split("\t") for line in (tmp_path / "featherseg.log").read_text().splitlines()]

    return run


def test_caltechs_networks_are_compared_with_the_papers(commands) -> None:
    (compare,) = (words for words in commands("caltech101.sh", "data", "weights.pth", "0 1") if words[0] == "compare")
    assert [word.split("=")[0] for word in compare[1:-2]] == [
        "pyramid_mobilenet",
        "mobilenet_v2",
        "mobilenet_v1",
        "shufflenet_v1",
        "mobilenet_v2_finetune",
    ]


def test_ssd_is_trained_without_the_arguments_of_the_others_trunk(commands) -> None:
    trainings = [words for words in commands("detectors.sh", "kitti", "classifier") if words[0] == "train"]
    cleared = {words[2].removeprefix("name="): "model.arguments={}" in words for words in trainings}
    assert len(cleared) == 6
    assert {name for name, clear in cleared.items() if clear} == {
        "streets_ssd300_vgg16-seed0",
        "kitti_ssd300_vgg16-seed0",
    }


def test_every_variant_of_an_ablation_is_a_recipe_and_a_network() -> None:
    import torch

    from featherseg.models.registry import create_model
    from featherseg.recipes.reading import read_recipe

    found = spec_from_file_location("camvid_ablations", RUNS / "camvid_ablations.py")
    assert found is not None
    assert found.loader is not None
    script = module_from_spec(found)
    sys.modules[found.name] = script  # where its dataclasses look for their types
    found.loader.exec_module(script)
    starts = {}
    for name, ablation in script.ABLATIONS.items():
        for variant in ablation.variants:
            recipe = read_recipe(ablation.recipe, [*script.SHORT, *ablation.overrides(variant, Path("c.safetensors"))])
            with torch.device("meta"):
                create_model(recipe.model.name, 11, **recipe.model.arguments)
            starts[name, variant] = recipe.start.encoder
    assert starts["trunk", "pyramid from nothing"] is None
    assert starts["trunk", "pyramid from a classifier"] == "c.safetensors"
    assert [name for name, ablation in script.ABLATIONS.items() if ablation.needs_classifier()] == ["trunk"]
