"""``featherseg search`` from end to end on three pictures, and how it stops, resumes and refuses."""

import json
import os
import signal

import pytest

from featherseg.cli.main import main
from featherseg.cli.search import parse_budget
from featherseg.errors import FeathersegError
from featherseg.models.fasterseg import FasterSeg
from featherseg.models.fasterseg_architecture import read_architecture
from featherseg.models.fasterseg_published import PUBLISHED
from featherseg.recipes.reading import read_recipe
from featherseg.recipes.search_reading import read_search
from featherseg.recipes.shipped import SHIPPED, shipped_searches
from featherseg.search import loop
from featherseg.search.found import training_recipe


@pytest.fixture(scope="module")
def search_recipe(tmp_path_factory, small_data):
    """Three steps of the smallest space."""
    path = tmp_path_factory.mktemp("recipe") / "small_search.yaml"
    path.write_text(
        f"name: small_search\nspace: {{layers: 4, base: 3, widths: [4, 12]}}\nteacher: {{kind: none}}\n"
        f"latency: {{size: [64, 64], budget: 10000, threads: 1, seconds: 0.001}}\ndata: {{source: {small_data}}}\n"
        "augment: {crop: [64, 64]}\npretrain: {epochs: 1, iterations: 1}\nsearch: {epochs: 1, iterations: 2}\n"
        "train: {workers: 0, threads: 1, device: cpu, checkpoint_every: 1, recalibration: 2}\n"
    )
    return path


@pytest.fixture(scope="module")
def searched(search_recipe, tmp_path_factory):
    """The folder of a finished search."""
    output = tmp_path_factory.mktemp("runs")
    assert main(["search", str(search_recipe), "--budget", "10s", "--output", str(output)]) == 0
    return output / "small_search"


def test_a_search_leaves_a_network_its_latencies_a_picture_and_its_training(searched):
    result = json.loads((searched / "result.json").read_text())
    assert result["measured_ms"] > 0
    assert result["predicted_ms"] > 0
    assert result["budget_ms"] == 10_000
    assert (searched / "architecture.png").read_bytes()[:4] == b"\x89PNG"
    FasterSeg(read_architecture(searched / "architecture.json"), 3)


def test_the_recipe_it_leaves_trains_that_network(searched):
    recipe = read_recipe(searched / "found.yaml")
    assert recipe.model.arguments["architecture"] == read_architecture(searched / "architecture.json").to_dict()
    steps = ["train.steps=1", "train.batch_size=2", "train.device=cpu"]
    assert main(["train", str(searched / "found.yaml"), *steps, "--output", str(searched / "trained")]) == 0


def test_a_second_search_uses_the_kept_table(searched, search_recipe, capsys):
    arguments = ["search", str(search_recipe), "name=again", "--output", str(searched.parent), "--json"]
    assert main(arguments) == 0
    told = capsys.readouterr()
    assert "operators measured" not in told.err
    assert json.loads(told.out)["architecture"]["branches"]


def test_an_interrupted_search_resumes(searched, search_recipe, tmp_path, monkeypatch, capsys):
    place = loop.Plan.place

    def signalled(self, step):
        if step == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return place(self, step)

    arguments = ["search", str(search_recipe), f"latency.table={searched / 'latency.json'}", "--output", str(tmp_path)]
    with monkeypatch.context() as patch:
        patch.setattr(loop.Plan, "place", signalled)
        assert main(arguments) == 143
    assert "stopped after step 2 of 3" in capsys.readouterr().err
    assert main(["search", str(tmp_path / "small_search/recipe.yaml"), "--resume", "--output", str(tmp_path)]) == 0
    assert json.loads((tmp_path / "small_search/result.json").read_text())["steps"] == 3


def test_a_search_goes_on_with_latencies_of_another_machine_but_says_so(
    searched, search_recipe, tmp_path, monkeypatch, capsys
):
    arguments = ["search", str(search_recipe), f"latency.table={searched / 'latency.json'}", "--output", str(tmp_path)]
    with monkeypatch.context() as patch:
        patch.setattr(loop.Plan, "place", lambda *_: os.kill(os.getpid(), signal.SIGTERM) or (False, 0, 0))
        assert main(arguments) == 143
    table = tmp_path / "small_search" / "latency.json"
    content = json.loads(table.read_text())
    content["measured_on"]["cpu"] = "another"
    table.write_text(json.dumps(content))
    capsys.readouterr()
    assert main(["search", str(tmp_path / "small_search/recipe.yaml"), "--resume", "--output", str(tmp_path)]) == 0
    assert "note: the latencies of this search were measured elsewhere (cpu 'another'" in capsys.readouterr().err
    assert json.loads((tmp_path / "small_search/result.json").read_text())["measured_ms"] is None


def test_a_network_that_measures_slower_than_the_budget_is_told_by_the_exit_code(
    searched, search_recipe, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr("featherseg.search.outcome.network_milliseconds", lambda *_: 20_000.0)
    arguments = ["search", str(search_recipe), f"latency.table={searched / 'latency.json'}", "--output", str(tmp_path)]
    assert main(arguments) == 1
    assert "(budget 10000 ms, not kept)" in capsys.readouterr().out


def test_what_the_training_afterwards_would_refuse_is_refused_before_the_search(search_recipe, tmp_path, capsys):
    assert main(["search", str(search_recipe), "augment.mixup=0.5", "--output", str(tmp_path)]) == 2
    assert "found.yaml of small_search: augment.mixup: is of a classification" in capsys.readouterr().err
    assert not (tmp_path / "small_search").exists()


def test_a_misspelt_search_is_answered_with_a_search(capsys):
    assert main(["search", "streets_smal_search"]) == 2
    assert "did you mean 'streets_small_search'" in capsys.readouterr().err


def test_the_recipe_of_a_search_is_no_training(capsys, tmp_path):
    assert main(["train", "streets_small_search", "--output", str(tmp_path)]) == 2
    assert "a search's recipe, not a training's. `featherseg search" in capsys.readouterr().err


def test_the_full_size_search_leaves_a_recipe_of_full_size():
    recipe = training_recipe(read_search("fasterseg_search"), PUBLISHED["fasterseg_student"])
    assert recipe.augment.crop == (512, 1024)
    assert recipe.augment.scale == (0.75, 1.25)
    assert (recipe.train.batch_size, recipe.data.cache) == (12, False)


def test_a_budget_that_cannot_be_met_is_refused_before_the_first_step(searched, search_recipe, tmp_path, capsys):
    arguments = ["search", str(search_recipe), f"latency.table={searched / 'latency.json'}", "--output", str(tmp_path)]
    assert main([*arguments, "--budget", "0.001ms"]) == 2
    said = capsys.readouterr().err
    assert "a budget of 0.001 ms cannot be met: the fastest network" in said
    assert not (tmp_path / "small_search").exists()


def test_a_table_of_another_machine_is_not_used_silently(searched, search_recipe, tmp_path, capsys):
    content = json.loads((searched / "latency.json").read_text())
    content["measured_on"]["cpu"] = "another"
    (tmp_path / "table.json").write_text(json.dumps(content))
    arguments = ["search", str(search_recipe), f"latency.table={tmp_path / 'table.json'}", "--output", str(tmp_path)]
    assert main(arguments) == 2
    assert "was not measured here: cpu 'another'" in capsys.readouterr().err


def test_the_recipe_of_a_training_is_refused(capsys, tmp_path):
    assert main(["search", "camvid_fassd_net", "--output", str(tmp_path)]) == 2
    assert "the recipe of a training, not of a search" in capsys.readouterr().err


@pytest.mark.parametrize(("text", "milliseconds"), [("15ms", 15.0), ("0.5 s", 500.0), ("6.25", 6.25), (".5ms", 0.5)])
def test_budgets_are_milliseconds(text, milliseconds):
    assert parse_budget(text) == milliseconds


@pytest.mark.parametrize("text", ["", "fast", "-3ms", "0", "15 fps", "1e3"])
def test_what_is_no_budget_is_refused(text):
    with pytest.raises(FeathersegError, match="is no budget"):
        parse_budget(text)


@pytest.mark.parametrize("name", shipped_searches())
def test_every_shipped_search_is_valid_and_says_its_command(name):
    assert read_search(name).name == name
    header = [line for line in (SHIPPED / f"{name}.yaml").read_text().splitlines() if line.startswith("#")]
    assert any(f"featherseg search {name}" in line for line in header)


# Of the published code; see the recipe's header.
def test_the_published_schedule():
    recipe = read_search("fasterseg_search")
    assert (recipe.pretrain.epochs, recipe.pretrain.iterations, recipe.pretrain.batch_size) == (20, 495, 3)
    assert (recipe.search.epochs, recipe.search.iterations, recipe.search.batch_size) == (30, 743, 2)
    assert (recipe.pretrain.crop, recipe.search.crop) == ((256, 512), (224, 448))
    assert (recipe.pretrain.lr, recipe.search.lr, recipe.architecture.lr) == (0.02, 0.01, 3e-4)
    official = ["behaviour=official", "latency.budget=null", "latency.keep_fps=[155,175]"]
    assert read_search("fasterseg_search", official).latency.keep_fps == (155, 175)
