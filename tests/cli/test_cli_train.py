"""The training command: what a run leaves behind, how it stops, how it goes on, and the quickstart."""

import os
import signal

import pytest

from featherseg.cards import read_card
from featherseg.cli import common
from featherseg.cli.main import main
from featherseg.data import sources
from featherseg.deploy.segmenter import load
from featherseg.models.weights import read_metadata
from featherseg.recipes.reading import read_recipe
from featherseg.recipes.shipped import shipped_recipes
from featherseg.training import loop


@pytest.fixture(scope="module")
def run(small_recipe, tmp_path_factory):
    """The folder of a finished run."""
    output = tmp_path_factory.mktemp("runs")
    assert main(["train", str(small_recipe), "optimizer.lr=0.02", "--output", str(output)]) == 0
    return output / "small"


def test_card_and_weights_name_no_loss_that_the_network_never_had(run):
    for told in (read_card(run / "card.json"), read_metadata(run / "weights.safetensors")):
        assert "kind" in told["recipe"]["loss"]
        assert not {"boundary", "boundary_weight", "auxiliary_weight"} & told["recipe"]["loss"].keys()


def test_a_loss_on_a_head_that_the_network_lacks_begins_no_run(small_recipe, tmp_path, capsys):
    assert main(["train", str(small_recipe), "loss.boundary=published", "--output", str(tmp_path)]) == 2
    assert "loss.boundary=published: is for networks with an output 'boundary'" in capsys.readouterr().err
    assert not (tmp_path / "small").exists()


def test_a_run_that_was_begun_with_such_a_loss_goes_on(small_recipe, tmp_path, monkeypatch):
    arguments = ["train", str(small_recipe), "loss.boundary=published", "--output", str(tmp_path)]
    with monkeypatch.context() as patch:
        patch.setattr("featherseg.training.heads.check_heads", lambda *_: None)
        assert main(arguments) == 0
    assert main([*arguments, "--resume"]) == 0


def stop_at(step: int, number: int, monkeypatch) -> None:
    """Let the process receive a signal while the training computes ``step``."""
    factor = loop.learning_rate_factor

    def signalled(schedule, now, steps):
        if now == step:
            os.kill(os.getpid(), number)
        return factor(schedule, now, steps)

    monkeypatch.setattr(loop, "learning_rate_factor", signalled)


def test_a_run_leaves_recipe_weights_log_card_and_report(run):
    names = {path.name for path in run.iterdir()}
    assert {"recipe.yaml", "weights.safetensors", "log.jsonl", "card.json", "report.html"} <= names
    assert load(run / "weights.safetensors").labels.classes == ("ground", "thing", "rare")
    assert "What it sees" in (run / "report.html").read_text()


def test_the_kept_recipe_is_the_one_that_ran(run, small_recipe):
    assert read_recipe(run / "recipe.yaml") == read_recipe(small_recipe, ["optimizer.lr=0.02"])


def test_the_card_says_how_the_run_came_about(run, small_data):
    card = read_card(run / "card.json")
    assert card["kind"] == "training"
    assert card["protocol"].endswith("train→val")
    assert card["command"].startswith("featherseg train small.yaml optimizer.lr=0.02")
    assert card["seeds"] == [0]
    assert set(card["data_fingerprints"]) == {"train", "val"}
    assert card["figures"]["score"] is not None
    assert str(small_data.parent) not in (run / "card.json").read_text()


def test_report_is_made_again_from_the_folder(run, capsys):
    (run / "report.html").unlink()
    assert main(["report", str(run)]) == 0
    assert capsys.readouterr().out.strip() == str(run / "report.html")
    assert "Classes" in (run / "report.html").read_text()


def test_a_second_run_of_the_name_is_refused_and_changes_nothing(run, small_recipe, capsys):
    before = (run / "recipe.yaml").read_bytes()
    assert main(["train", str(small_recipe), "optimizer.lr=0.5", "--output", str(run.parent)]) == 2
    assert "--resume" in capsys.readouterr().err
    assert (run / "recipe.yaml").read_bytes() == before


def test_a_terminated_run_exits_143(small_recipe, tmp_path, monkeypatch, capsys):
    stop_at(0, signal.SIGTERM, monkeypatch)
    assert main(["train", str(small_recipe), "--output", str(tmp_path)]) == 143
    assert "stopped after step 1 of 3" in capsys.readouterr().err


def test_an_interrupted_run_says_at_once_that_it_stops(small_recipe, tmp_path, monkeypatch, capfd):
    heard = []
    save = loop.save_checkpoint
    monkeypatch.setattr(loop, "save_checkpoint", lambda *a: (heard.append(capfd.readouterr().err), save(*a)))
    stop_at(0, signal.SIGINT, monkeypatch)
    assert main(["train", str(small_recipe), "--output", str(tmp_path)]) == 130
    assert heard[0].count("stopping after this step; saving ...") == 1


def test_without_a_terminal_every_judging_and_every_half_minute_is_a_line(small_recipe, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(common, "SECONDS_BETWEEN_LINES", 0.0)
    options = ["train.evaluate_every=3", "train.steps=6", "--output", str(tmp_path)]
    assert main(["train", str(small_recipe), *options]) == 0
    shown = capsys.readouterr()
    lines = shown.err.splitlines()
    assert [line.split("  ")[0] for line in lines if line.startswith("judged")] == [
        "judged at step 3 of 6",
        "judged at step 6 of 6",
    ]
    assert all("loss" in line and "img/s" in line and "left" in line for line in lines if line.startswith("judged"))
    assert any(line.startswith("training: 6 of 6  loss") for line in lines)
    assert "training" not in shown.out


def test_without_a_terminal_a_quick_command_prints_no_progress(capsys):
    with common.progress_bar("predicting") as advance:
        advance(1)
        advance(2, 5, "words")
    assert capsys.readouterr() == ("", "")


def test_help_names_the_shipped_recipes_and_shows_a_list(capsys):
    assert main(["train", "--help"]) == 0
    shown = capsys.readouterr().out
    for name in shipped_recipes():
        assert name in shown
    assert "'augment.crop=[240,320]' train.batch_size=4" in shown


def test_a_run_stopped_in_its_last_step_is_not_called_done(small_recipe, tmp_path, monkeypatch):
    again = ["train", str(small_recipe), "--output", str(tmp_path)]
    with monkeypatch.context() as patch:
        stop_at(2, signal.SIGTERM, patch)
        assert main(again) == 143
    assert not (tmp_path / "small/card.json").exists()
    assert main([*again, "--resume"]) == 0
    assert read_card(tmp_path / "small/card.json")["figures"]["score"] is not None


def test_an_interrupted_run_exits_130_and_goes_on_by_the_command_it_prints(small_recipe, tmp_path, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        stop_at(1, signal.SIGINT, patch)
        assert main(["train", str(small_recipe), "--output", str(tmp_path)]) == 130
    *_, told = capsys.readouterr().err.strip().splitlines()
    assert "stopped after step 2 of 3" in told
    _, _, command = told.partition("Go on with: featherseg ")
    assert main(command.split()) == 0
    assert (tmp_path / "small/card.json").exists()


def test_a_loss_that_is_not_finite_exits_1(small_recipe, tmp_path, capsys):
    assert main(["train", str(small_recipe), "optimizer.lr=1.0e+30", "--output", str(tmp_path)]) == 1
    assert "nothing was updated" in capsys.readouterr().err


def test_classifiers_train_by_the_same_command(tmp_path):
    from PIL import Image

    for split in ("train", "val"):
        for name, colour in (("blue", (0, 0, 200)), ("red", (200, 0, 0))):
            folder = tmp_path / "images" / split / name
            folder.mkdir(parents=True)
            Image.new("RGB", (32, 32), colour).save(folder / "0.png")
    arguments = [f"data.source={tmp_path / 'images'}", "train.epochs=null", "train.steps=1", "train.batch_size=2"]
    arguments += ["train.precision=fp32", "train.workers=0", "augment.crop=[32,32]", "train.device=cpu"]
    assert main(["train", "tiny_imagenet_hardnet", *arguments, "--output", str(tmp_path)]) == 0
    run = tmp_path / "tiny_imagenet_hardnet"
    assert read_card(run / "card.json")["figures"]["top1"] is not None
    assert (run / "report.html").exists()


def test_quickstart_goes_through_and_says_what_to_type_next(tmp_path, monkeypatch, capsys):
    for split in sources.STREETS_COUNTS:
        monkeypatch.setitem(sources.STREETS_COUNTS, split, 4)
    small = ["data.size=[48,64]", "data.count=4", "data.val_count=2", "augment.crop=[48,64]"]
    # Fewer steps than this leave batch norm's averages so far off that the logits overflow.
    short = [
        "train.steps=12",
        "train.ema=0",
        "train.precision=fp32",
        "train.batch_size=2",
        "train.workers=0",
        "train.device=cpu",
    ]
    (tmp_path / "run").mkdir()
    (tmp_path / "run/checkpoint.safetensors").write_text("of an earlier quickstart, which is done again")
    assert main(["quickstart", "--output", str(tmp_path), *small, *short]) == 0
    shown = capsys.readouterr().out
    assert "mIoU" in shown
    assert "featherseg train own_data name=mine data.source=path/to/data" in shown
    page = (tmp_path / "report.html").read_text()
    for title in ("What it sees", "Classes", "Training", "What to type next"):
        assert title in page
    assert len(list((tmp_path / "predicted").glob("*_overlay.png"))) == 4
    assert read_card(tmp_path / "card.json")["protocol"] == "streets/64x48/train→test"


def test_quickstart_starts_from_the_shipped_weights_where_there_are_any(tmp_path, monkeypatch):
    from featherseg.cli import quickstart
    from featherseg.models import shipped

    ran = []
    for split in sources.STREETS_COUNTS:
        monkeypatch.setitem(sources.STREETS_COUNTS, split, 1)
    monkeypatch.setattr(quickstart, "run_training", lambda recipe, *_, **__: ran.append(recipe) or 1)
    for names in ([], ["fassd_net_l2.camvid.safetensors"]):
        monkeypatch.setattr(shipped, "SHIPPED", tmp_path)
        for name in names:
            (tmp_path / name).touch()
        assert main(["quickstart", "--output", str(tmp_path / "out")]) == 1
    assert [recipe.start.weights for recipe in ran] == [None, "fassd_net_l2.camvid"]


def test_a_warm_up_as_long_as_the_run_is_told(small_recipe, tmp_path, capsys):
    command = ["train", str(small_recipe), "schedule.warmup=3", "--output", str(tmp_path)]
    assert main(command) == 0
    assert "schedule.warmup=3 lasts as long as the 3 updates" in capsys.readouterr().err


def test_a_pixel_shuffle_network_is_trained_and_predicts_from_one_command_each(small_recipe, small_data, tmp_path):
    model = ["model.name=fasterseg_student_ps", "augment.crop=[64,64]", "train.steps=1"]
    assert main(["train", str(small_recipe), *model, "--output", str(tmp_path)]) == 0
    weights = str(tmp_path / "small" / "weights.safetensors")
    picture = str(small_data / "images" / "val" / "0.png")
    assert main(["predict", picture, "--weights", weights, "-o", str(tmp_path / "out")]) == 0
    assert list((tmp_path / "out").iterdir())
