"""A classifier from a folder of images to comparisons: check, train, stop and go on, eval, predict, compare, report."""

import json
import signal
from pathlib import Path

import cv2
import numpy as np
import pytest

import featherseg
from featherseg.cards import read_card
from featherseg.cli.compare import parse_network
from featherseg.cli.main import main
from featherseg.errors import FeathersegError
from featherseg.models.weights import read_metadata, read_weights
from featherseg.training import loop
from featherseg.training.log import read_log

SHAPES = ("bar", "disc", "frame")
RECIPE = """
name: shapes
task: classification
model: {{name: shufflenet_v2}}
data: {{source: {source}, test_count: 12, val_count: 6, drop_classes: [noise]}}
augment: {{crop: [32, 32], scale: [0.6, 1.0], rand_augment: [1, 3], mixup: 0.2, view: centre}}
optimizer: {{kind: adamw, lr: 0.003}}
schedule: {{kind: constant}}
train: {{steps: 16, batch_size: 12, precision: fp32, workers: 0, threads: 1, device: cpu, log_every: 1, {more}}}
"""


def shape(kind: str, number: int) -> np.ndarray:
    """A procedural picture: a bright shape somewhere on a dim ground."""
    random = np.random.default_rng([SHAPES.index(kind) if kind in SHAPES else 9, number])
    image = random.integers(0, 60, (48, 60, 3)).astype(np.uint8)
    x, y = (int(v) for v in random.integers(18, 30, 2))
    colour = {"bar": (40, 40, 230), "disc": (40, 230, 40), "frame": (230, 40, 40)}.get(kind)
    if kind == "bar":
        cv2.rectangle(image, (x - 3, 4), (x + 3, 44), colour, -1)
    elif kind == "disc":
        cv2.circle(image, (x, y), 12, colour, -1)
    elif kind == "frame":
        cv2.rectangle(image, (x - 12, y - 12), (x + 12, y + 12), colour, 3)
    return image


def write_shapes(root: Path, count: int = 16) -> Path:
    for kind in (*SHAPES, "noise"):
        (root / "101_ObjectCategories" / kind).mkdir(parents=True)
        for number in range(count):
            path = root / "101_ObjectCategories" / kind / f"image_{number:04}.png"
            cv2.imwrite(str(path), shape(kind, number))
    return root


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_shapes(tmp_path_factory.mktemp("shapes") / "shapes")


@pytest.fixture(scope="module")
def recipe(data, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "shapes.yaml"
    path.write_text(RECIPE.format(source=data, more="checkpoint_every: 5"))
    return path


@pytest.fixture(scope="module")
def run(recipe, tmp_path_factory) -> Path:
    """The folder of a finished run."""
    output = tmp_path_factory.mktemp("runs")
    assert main(["train", str(recipe), "--output", str(output)]) == 0
    return output / "shapes"


@pytest.fixture
def figures(capsys):
    """Run a command and read its stdout as JSON."""

    def run(*arguments: object, code: int = 0):
        assert main([str(argument) for argument in arguments]) == code
        return json.loads(capsys.readouterr().out)

    return run


def test_a_run_learns_and_leaves_its_split_card_and_report(run):
    assert {"weights.safetensors", "split.json", "card.json", "report.html"} <= {path.name for path in run.iterdir()}
    losses = [entry["loss"] for entry in read_log(run) if "loss" in entry]
    assert np.mean(losses[-4:]) < np.mean(losses[:4])
    card = read_card(run / "card.json")
    assert card["protocol"] == "caltech101-3/32x32-centre0.875/train→val.seed0"
    assert {"top1", "top1_interval", "top5", "mean_class_accuracy"} <= set(card["figures"])
    assert "most often taken for" in (run / "report.html").read_text()


def stop_at(step, monkeypatch):
    """Let the system ask a training to stop in a step."""
    factor = loop.learning_rate_factor

    def signalled(schedule, now, steps):
        if now == step:
            signal.raise_signal(signal.SIGTERM)
        return factor(schedule, now, steps)

    monkeypatch.setattr(loop, "learning_rate_factor", signalled)


def test_a_stopped_run_goes_on_to_the_same_bytes(run, recipe, tmp_path, monkeypatch):
    """Mixing and every augmentation are those that a run which nobody stopped would have had."""
    stop_at(6, monkeypatch)
    command = ["train", str(recipe), "--output", str(tmp_path)]
    assert main(command) == 128 + signal.SIGTERM
    monkeypatch.undo()
    assert main([*command, "--resume"]) == 0
    ours, theirs = (read_weights(folder / "weights.safetensors").tensors for folder in (tmp_path / "shapes", run))
    assert all(np.array_equal(ours[name].numpy(), theirs[name].numpy()) for name in theirs)


def test_the_pyramid_papers_classifier_trains_by_its_recipe_and_goes_on_where_it_was_stopped(
    data, tmp_path, monkeypatch
):
    sizes = ["augment.crop=[32,32]", "augment.view_size=[32,32]", "data.test_count=12", "data.val_count=6"]
    brief = ["train.epochs=null", "train.steps=3", "train.batch_size=4", "train.evaluate_every=null", "train.workers=0"]
    settings = [
        f"data.source={data}",
        "data.drop_classes=[noise]",
        *sizes,
        *brief,
        "train.threads=1",
        "train.device=cpu",
    ]
    command = ["train", "caltech101_scratch", "model.name=pyramid_mobilenet", *settings, "--output"]
    assert main([*command, str(tmp_path / "whole")]) == 0
    stop_at(1, monkeypatch)
    assert main([*command, str(tmp_path / "parts")]) == 128 + signal.SIGTERM
    monkeypatch.undo()
    assert main([*command, str(tmp_path / "parts"), "--resume"]) == 0
    ours, theirs = (
        read_weights(tmp_path / name / "caltech101_scratch/weights.safetensors").tensors for name in ("parts", "whole")
    )
    assert any("acti" in name for name in theirs)
    assert all(np.array_equal(ours[name].numpy(), theirs[name].numpy()) for name in theirs)


def test_a_run_is_the_same_from_the_split_file_of_another(run, recipe, data, tmp_path):
    copy = tmp_path / "again.yaml"
    text = recipe.read_text().replace(
        "test_count: 12, val_count: 6, drop_classes: [noise]", f"split_file: {run}/split.json"
    )
    copy.write_text(text.replace("steps: 16", "steps: 1"))
    assert main(["train", str(copy), "--output", str(tmp_path)]) == 0
    assert (tmp_path / "shapes/split.json").read_text().count("image_") == (run / "split.json").read_text().count(
        "image_"
    )
    ours, theirs = (read_metadata(folder / "weights.safetensors")["split"] for folder in (tmp_path / "shapes", run))
    assert ours["sha256"] == theirs["sha256"]


def test_eval_judges_the_split_that_was_not_trained_on(figures, run, data, tmp_path):
    names = (tmp_path / "card.json", tmp_path / "said.json")
    options = ("--data", data, "--card", names[0], "--predictions", names[1])
    shown = figures("eval", "-w", run / "weights.safetensors", *options, "--json")
    assert shown["images"] == 12
    assert shown["protocol"] == "caltech101-3/32x32-centre0.875/train→test.seed0"
    assert set(shown["class_accuracy"]) == set(SHAPES)
    for name, (low, high) in shown["class_accuracy_interval"].items():
        assert 0 <= low <= shown["class_accuracy"][name] <= high <= 100
        assert high - low > 20  # of at most a dozen images
    assert shown["top1_interval"][0] <= shown["top1"] <= shown["top1_interval"][1]
    assert shown["top5"] == 100  # of three classes
    card = read_card(names[0])
    assert (card["figures"]["top1"], card["model"], card["seeds"]) == (shown["top1"], "shufflenet_v2", [0])
    said, split = json.loads(names[1].read_text()), json.loads((run / "split.json").read_text())
    assert sorted(said["images"]) == sorted(split["test"])


def test_eval_agrees_with_what_predict_says_of_each_image(figures, run, data, tmp_path):
    shown = figures("eval", "-w", run / "weights.safetensors", "--data", data, "--json")
    classifier = featherseg.load(run / "weights.safetensors")
    names = json.loads((run / "split.json").read_text())["test"]
    right = [classifier.predict(data / f"101_ObjectCategories/{n}.png").top()[0][0] == n.split("/")[0] for n in names]
    assert shown["top1"] == pytest.approx(100 * np.mean(right), abs=1e-3)


def test_eval_refuses_a_split_that_training_images_are_in(run, data, tmp_path, capsys):
    """The same classes and names, but an image more: another draw."""
    other = write_shapes(tmp_path / "other", count=17)
    command = ["eval", "-w", str(run / "weights.safetensors"), "--data", str(other)]
    assert main(command) == 2
    assert "other splits than" in capsys.readouterr().err
    assert main([*command, "--split-file", str(run / "split.json")]) == 2
    assert "Restore the data" in capsys.readouterr().err


def test_eval_refuses_other_classes_by_name(run, tmp_path, capsys):
    other = write_shapes(tmp_path / "other")
    (other / "101_ObjectCategories/disc").rename(other / "101_ObjectCategories/disk")
    assert main(["eval", "-w", str(run / "weights.safetensors"), "--data", str(other)]) == 2
    error = capsys.readouterr().err
    assert "1 more (disk) and 1 fewer (disc)" in error


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--scales", "0.5,1"], "sees its own view"),
        (["--split", "tset"], "did you mean 'test'"),
        (["--split-file", "nowhere.json"], r"nowhere.json: the split cannot be read"),
    ],
)
def test_eval_refuses_wrong_options(run, data, capsys, options, message):
    assert main(["eval", "-w", str(run / "weights.safetensors"), "--data", str(data), *options]) == 2
    assert message in capsys.readouterr().err


def test_predictions_are_of_classifiers(small_weights, small_data, tmp_path, capsys):
    command = ["eval", "-w", str(small_weights), "--data", str(small_data), "--predictions", str(tmp_path / "x.json")]
    assert main(command) == 2
    assert "--predictions is of classifiers" in capsys.readouterr().err


def test_predict_writes_and_prints_the_five_best_classes(run, data, tmp_path, capsys):
    image = data / "101_ObjectCategories/disc/image_0000.png"
    command = ["predict", str(image), "-w", str(run / "weights.safetensors"), "-o", str(tmp_path / "out")]
    assert main([*command, "--task", "classify"]) == 0
    shown = capsys.readouterr().out
    about = json.loads((tmp_path / "out/image_0000.json").read_text())
    assert about["size"] == {"height": 48, "width": 60}
    assert sum(row["probability"] for row in about["top"]) == pytest.approx(1, abs=1e-5)  # of three classes
    best = about["top"][0]
    assert f"{image}: {best['class']} {100 * best['probability']:.1f} %" in shown
    assert "1 image classified" in shown
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["image_0000.json"]
    assert main(command) == 0  # again, over its own files


def test_predict_refuses_a_task_that_the_weights_do_not_do(run, small_weights, capsys):
    for weights, task, does in (
        (run / "weights.safetensors", "segment", "classification"),
        (small_weights, "classify", "segmentation"),
    ):
        assert main(["predict", "x.png", "-w", str(weights), "-o", "nowhere", "--task", task]) == 2
        assert f"does {does}" in capsys.readouterr().err


def test_a_spoilt_image_is_reported_and_the_others_are_classified(run, data, tmp_path, capsys):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.png").write_bytes((data / "101_ObjectCategories/bar/image_0000.png").read_bytes())
    (folder / "b.png").write_bytes(b"no picture")
    assert main(["predict", str(folder), "-w", str(run / "weights.safetensors"), "-o", str(tmp_path / "out")]) == 2
    caught = capsys.readouterr()
    assert "b.png" in caught.err
    assert "1 image classified" in caught.out


def test_compare_gives_the_difference_of_two_files(figures, tmp_path):
    """Of 100 images A has 60 right and B 70; B alone has 20, A alone 10."""
    right = {"a": [True] * 60 + [False] * 40, "b": [True] * 50 + [False] * 10 + [True] * 20 + [False] * 20}
    for name, hits in right.items():
        images = {f"{i:03}": [0, 0 if hit else 1, 1 if hit else 0] for i, hit in enumerate(hits)}
        content = {"kind": "predictions of a classifier", "protocol": "p", "classes": ["x", "y"], "images": images}
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    shown = figures(
        "compare", tmp_path / "a.json", f"better={tmp_path / 'b.json'}", "--card", tmp_path / "c.json", "--json"
    )
    first, second = shown["networks"]
    assert (first["network"], first["top1"], second["network"], second["top1"]) == ("a", 60, "better", 70)
    assert (second["difference"], second["only_first"], second["only_this"]) == (10, 10, 20)
    assert second["mcnemar_p"] == pytest.approx(0.0987, abs=1e-4)  # scipy.stats.binomtest(10, 30).pvalue
    low, high = second["difference_interval"]
    assert -2 < low < 1 < 19 < high < 22  # 10 ± 1.96 * sqrt(30 - 1) = -0.6 to 20.6
    assert read_card(tmp_path / "c.json")["figures"]["networks"] == shown["networks"]


def test_compare_tells_and_cards_the_protocol_of_every_network(tmp_path, capsys):
    for name, protocol in (("a", "at 128"), ("b", "at 128"), ("c", "at 168")):
        content = {"protocol": protocol, "classes": ["x", "y"], "images": {"one": [0, 1], "two": [1, 1]}}
        (tmp_path / f"{name}.json").write_text(json.dumps({"kind": "predictions of a classifier"} | content))
    files = [str(tmp_path / f"{name}.json") for name in "abc"]
    assert main(["compare", *files, "--card", str(tmp_path / "card.json")]) == 0
    card, told = read_card(tmp_path / "card.json"), "c was judged by another protocol than a: at 168"
    assert [row["protocol"] for row in card["figures"]["networks"]] == ["at 128", "at 128", "at 168"]
    assert card["notes"] == f"{told}."
    assert told in capsys.readouterr().err
    assert main(["compare", *files[:2], "--card", str(tmp_path / "card.json")]) == 0
    assert read_card(tmp_path / "card.json")["notes"] is None


def test_compare_refuses_other_images_and_files_that_are_none(tmp_path, capsys):
    for name, key in (("a", "one"), ("b", "two")):
        content = {
            "kind": "predictions of a classifier",
            "protocol": "p",
            "classes": ["x", "y"],
            "images": {key: [0, 1]},
        }
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    (tmp_path / "c.json").write_text("{}")
    assert main(["compare", str(tmp_path / "a.json"), str(tmp_path / "b.json")]) == 2
    assert "of other images than" in capsys.readouterr().err
    assert main(["compare", str(tmp_path / "a.json"), str(tmp_path / "c.json")]) == 2
    assert "no predictions of a classifier" in capsys.readouterr().err
    huge = (tmp_path / "a.json").read_text().replace("[0, 1]", f"[0, {2**70}]")
    (tmp_path / "c.json").write_text(huge)
    assert main(["compare", str(tmp_path / "a.json"), str(tmp_path / "c.json")]) == 2
    assert "no predictions of a classifier" in capsys.readouterr().err
    assert main(["compare", str(tmp_path / "a.json")]) == 2
    with pytest.raises(FeathersegError, match="names no predictions"):
        parse_network("x=")


def test_check_of_class_folders(figures, data):
    report = figures("check", data, "--json")
    assert report["ok"] is True
    assert report["classes"]["disc"] == {"all": 16}


def test_check_of_spoilt_class_folders_exits_1(figures, tmp_path, capsys):
    root = write_shapes(tmp_path / "spoilt", count=3) / "101_ObjectCategories"
    (root / "bar/image_0001.png").write_bytes(b"no picture")
    (root / "empty").mkdir()
    report = figures("check", tmp_path / "spoilt", "--json", code=1)
    assert {"empty class"} < {problem["kind"] for problem in report["problems"]}
    assert main(["check", str(tmp_path / "spoilt")]) == 1
    assert "NOT fit for training" in capsys.readouterr().out


def test_load_gives_a_classifier_that_says_what_it_has_not(run, data):
    classifier = featherseg.load(run / "weights.safetensors")
    assert isinstance(classifier, featherseg.Classifier)
    result = classifier.predict(data / "101_ObjectCategories/disc/image_0000.png")
    assert [name for name, _ in result.top()] != []
    for owner in (classifier, result):
        with pytest.raises(FeathersegError, match="labels: a classifier says what an image shows, not where"):
            _ = owner.labels
        assert not hasattr(owner, "overlay")
