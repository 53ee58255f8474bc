"""Choosing among small networks: what the report holds, what is never chosen, what is refused. No time is asserted."""

import json
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from featherseg.bench import choice_search
from featherseg.bench import choose as choosing
from featherseg.bench.choice_accuracy import of_weights
from featherseg.bench.choice_candidates import Candidate, Commands, Opener, Running, Shown, list_candidates
from featherseg.bench.choice_judge import Judge
from featherseg.bench.choice_search import LATE, Explored
from featherseg.bench.choose import Choice, Listed, choose, notes_of
from featherseg.bench.contestants import Opened, Source, Way, sources
from featherseg.cards import card
from featherseg.data.streets import Streets
from featherseg.deploy.session import labels_of
from featherseg.errors import FeathersegError
from featherseg.files import file_sha256
from featherseg.models.output import InputSpec
from featherseg.models.registry import create_model
from featherseg.models.shipped import list_weights, weights_path
from featherseg.models.weights import describe_network, read_metadata, save_weights

NAME = "shufflenet_v2_basic"
SIZE = (32, 48)
PROTOCOL = "small/48x32/train→val"
SLOW, FAST = 1e-3, 1e9
"""Frames a second that every network reaches, and none."""


@pytest.fixture(scope="module", autouse=True)
def few_rounds():
    """The first rounds are enough, so that no test waits for a limit."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(choice_search, "ENOUGH_ROUNDS", 1)
        yield


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> tuple[str, str]:
    """Two files of weights of which the second says that it is the more accurate."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    network = create_model(NAME, 3)
    about = describe_network(network, NAME, 3) | {"classes": ["a", "b", "c"], "task": "segmentation"}
    files = []
    for name, score in (("worse", 50.0), ("better", 60.0)):
        said = {"training": {"val": {"score": score, "protocol": PROTOCOL}}}
        files.append(str(save_weights(folder / f"{name}.safetensors", network.state_dict(), about | said)))
    return files[0], files[1]


@pytest.fixture(scope="module")
def choice(weights) -> Choice:
    return Choice((*weights, NAME), fps=SLOW, runtimes=("torch",), precisions=("fp32",), threads=1, limit=600.0)


@pytest.fixture(scope="module")
def report(choice) -> dict[str, Any]:
    return choose(choice)


def test_a_report_is_plain_json_and_fits_into_a_card(report):
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    card("choice", protocol="p", figures=report["candidates"], command="c", seeds=[], data_fingerprint=None)


def test_the_most_accurate_that_is_fast_enough_is_taken(report, weights):
    assert report["recommended"] == "better.safetensors, torch fp32"
    row = report["candidates"][report["recommended"]]
    assert (row["miou"], row["miou_from"], row["meets"], row["dominated_by"]) == (60.0, "weights", True, None)
    assert row["sha256"] == {"better.safetensors": file_sha256(weights[1])}
    assert report["front"][-1] == report["recommended"]
    assert report["protocol"] == PROTOCOL


def test_a_network_of_unknown_accuracy_is_timed_and_told_of_and_not_on_the_front(report):
    unknown = f"{NAME}, torch fp32"
    assert report["candidates"][unknown]["miou"] is None
    assert report["candidates"][unknown]["p90_ms"] > 0
    assert unknown not in report["front"]
    (said,) = [note for note in report["notes"] if unknown in note]
    assert "accuracy unknown" in said
    assert "--data" in said


def test_images_are_as_large_as_those_of_the_accuracies(report):
    assert report["size"] == list(SIZE)
    assert {tuple(row["input"]) for row in report["candidates"].values()} == {SIZE}


def test_the_commands_of_a_network_in_torch_are_one(report, weights):
    row = report["candidates"][report["recommended"]]
    assert row["commands"] == [f"featherseg predict PICTURES --weights {weights[1]} --threads 1 -o predicted"]


def test_where_none_is_fast_enough_none_is_taken_and_the_nearest_named(choice):
    found = choose(replace(choice, fps=FAST))
    assert found["recommended"] is None
    assert found["nearest"] in found["front"]


def test_where_nothing_is_known_nothing_is_taken_however_fast(choice):
    found = choose(replace(choice, given=(NAME,), size=SIZE))
    assert (found["recommended"], found["nearest"], found["front"]) == (None, None, [])
    assert found["candidates"][f"{NAME}, torch fp32"]["meets"] is True


def test_the_threads_of_the_process_are_as_before(choice):
    before = torch.get_num_threads()
    choose(replace(choice, given=choice.given[:1], threads=before + 1))
    assert torch.get_num_threads() == before


def test_what_the_time_does_not_suffice_for_is_named(choice):
    found = choose(replace(choice, limit=1e-6))
    assert len(found["candidates"]) == 1
    assert set(found["left_out"].values()) == {LATE}
    assert any(LATE in note for note in found["notes"])


def miou_by_definition(file: str, images: int) -> float:
    """Percent, class by class from whole label maps, of the first images of the scenes."""
    from featherseg.deploy.segmenter import load

    samples = [Streets("val", 60, size=(240, 320), seed=0).read(number) for number in range(images)]
    found = np.stack([load(file).predict(sample.image).labels for sample in samples])
    truth = np.stack([sample.label for sample in samples])
    scores = []
    for one in range(len(Streets("val", 1).labels)):
        union = ((truth == one) | (found == one)) & (truth != 255)
        if union.any():
            scores.append(((truth == one) & (found == one)).sum() / union.sum())
    return 100 * float(np.mean(scores))


def test_candidates_are_judged_on_data_at_every_scale(tmp_path):
    classes = Streets("val", 1).labels.classes
    network = create_model(NAME, len(classes))
    about = describe_network(network, NAME, len(classes)) | {"classes": list(classes), "task": "segmentation"}
    file = save_weights(tmp_path / "streets.safetensors", network.state_dict(), about)
    asked = Choice((str(file),), SLOW, runtimes=("torch",), precisions=("fp32",), threads=1, limit=600.0)
    found = choose(replace(asked, data="streets", images=1, size=(24, 32), scales=(1.0, 0.5)))
    rows = found["candidates"]
    whole, half = (rows[f"streets.safetensors, torch fp32{scale}"] for scale in ("", ", scale 0.5"))
    assert found["protocol"].endswith("val, 1 images")
    assert whole["miou_from"] == half["miou_from"] == "judged"
    assert whole["miou"] == pytest.approx(miou_by_definition(str(file), 1), abs=1e-3)
    assert half["input"] == [12, 16]
    assert half["commands"][-1].endswith("--scales 0.5 -o predicted")
    assert any("images of 240x320" in note for note in found["notes"])


def test_a_network_of_other_classes_than_the_data_is_not_judged_and_not_chosen(weights):
    asked = Choice(weights[:1], SLOW, runtimes=("torch",), precisions=("fp32",), threads=1, limit=600.0, size=SIZE)
    found = choose(replace(asked, data="streets", images=1, scales=(1.0,)))
    assert found["recommended"] is None
    assert any("its 3 classes are not the" in note for note in found["notes"])


def test_judging_is_not_begun_where_the_time_cannot_suffice():
    judge = Judge("streets", "val", 1, 10.0)
    (source,) = sources([NAME])
    shown = Opener(Running((24, 32), 1), choosing.Path()).open(Candidate(source, Way("torch")))
    assert judge.judge({"a": shown}, {"a": [1.0]}, (24, 32), until=float("-inf")) == {"a": None}
    assert judge.reasons == {"a": f"not judged: {LATE}"}


def test_a_scaled_candidate_labels_as_predict_with_scales_does():
    from featherseg.bench.speed import street
    from featherseg.deploy.segmenter import segmenter
    from featherseg.deploy.views import View, viewed

    (source,) = sources([NAME])
    image = street(SIZE)
    shown = Opener(Running(SIZE, 1), choosing.Path()).open(Candidate(source, Way("torch"), 0.5))
    expected = viewed(segmenter(*source.network_and_metadata), View(scales=(0.5,))).predict(image).labels
    assert np.array_equal(shown.contestant(image).run(), expected)


def test_sessions_are_shared_among_scales():
    (source,) = sources([NAME])
    opener = Opener(Running(SIZE, 1), choosing.Path())
    whole, half = (opener.open(Candidate(source, Way("torch"), scale)) for scale in (1.0, 0.5))
    assert whole.opened is half.opened


def test_shipped_weights_are_the_candidates_and_tell_their_accuracy_by_themselves():
    listed = list_candidates((), runtimes=("torch",), precisions=("fp32",))
    assert sorted(one.source.given for one in listed.candidates) == list_weights()
    known = [of_weights(read_metadata(weights_path(name))) for name in list_weights()]
    assert all(known)
    assert len({one.protocol for (one,) in known}) == 1


def test_runtimes_that_are_absent_are_named_with_their_pip_command_and_the_others_go_on(monkeypatch):
    monkeypatch.setattr("featherseg.deploy.doors.find_spec", lambda name: None)
    listed = list_candidates((NAME,), runtimes=("onnx", "torch"))
    assert {one.way.runtime for one in listed.candidates} == {"torch"}
    assert "pip install 'featherseg[onnx]'" in listed.absent["onnx"]


def test_no_candidate_at_all_is_an_error_that_names_the_pip_command(monkeypatch):
    monkeypatch.setattr("featherseg.deploy.doors.find_spec", lambda name: None)
    with pytest.raises(FeathersegError, match=r"no candidate.*pip install 'featherseg\[onnx\]'"):
        list_candidates((NAME,), runtimes=("onnx",))


def test_a_spoilt_file_is_left_out_with_its_reason_and_is_an_error_alone(choice, weights, tmp_path):
    spoilt = tmp_path / "spoilt.onnx"
    spoilt.write_bytes(b"nothing")
    found = choose(replace(choice, given=(str(spoilt), weights[0])))
    assert list(found["left_out"]) == ["spoilt.onnx, onnx fp32"]
    assert found["recommended"] == "worse.safetensors, torch fp32"
    with pytest.raises(FeathersegError, match="no candidate could be measured"):
        choose(replace(choice, given=(str(spoilt),)))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"fps": 0.0}, "--fps 0 is no rate"),
        ({"fps": float("nan")}, "--fps nan is no rate"),
        ({"limit": 0.0}, "--limit 0 is no time"),
        ({"limit": float("inf")}, "--limit inf is no time"),
        ({"images": 0}, "--images 0 judges nothing"),
        ({"threads": 0}, "--threads 0 runs nothing"),
        ({"runtimes": ("openvimo",)}, "openvino"),
        ({"given": ("nowhere.onnx",)}, "nowhere.onnx: there is no such file"),
        ({"given": ("nowhere.safetensors",)}, "no such weights"),
        ({"data": "streets", "split": "vla"}, "no split 'vla'"),
        ({"cards": ("nowhere.json",)}, "nowhere.json"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_measured(changed, said, monkeypatch):
    monkeypatch.setattr(choosing, "explore", lambda *given, **more: pytest.fail("it began to measure"))
    with pytest.raises(FeathersegError, match=said.replace(".", r"\.")):
        choose(replace(Choice((NAME,), runtimes=("torch",)), **changed))


def stub(
    runtime: str, precision: Any = "fp32", *, given="mine.safetensors", output="logits", takes=(None, None), scale=1.0
):
    """A candidate as if it were opened."""
    session: Any = SimpleNamespace(output=output, signature=SimpleNamespace(size=takes))
    source = Source(given, given)
    return Shown(Candidate(source, Way(runtime, precision), scale), Opened(session, InputSpec(), {}), (), {})


def test_an_exported_candidate_is_got_by_two_commands():
    lines = Commands(stub("openvino", "bf16", scale=0.5), Running((360, 480), 2), 2).lines
    assert lines == [
        "featherseg export mine.safetensors --to openvino -o mine.xml",
        "featherseg predict PICTURES --weights mine.xml --precision bf16 --threads 2 --scales 0.5 -o predicted",
    ]


def test_a_runtime_of_fixed_sizes_is_exported_for_the_scaled_size():
    shown = stub("litert", given="a.camvid", output="labels", takes=(180, 240), scale=0.5)
    assert Commands(shown, Running((360, 480), 2), None).lines == [
        "featherseg export a.camvid --to litert --size 180x240 -o a.camvid.tflite",
        "featherseg predict PICTURES --weights a.camvid.tflite --letterbox 180x240 -o predicted",
    ]
    assert shown.input_size((360, 480)) == (180, 240)


def test_a_file_of_another_size_is_shown_images_in_a_letterbox():
    shown = stub("onnx", given="my files/mine.onnx", takes=(200, 200))
    assert shown.input_size((360, 480)) == (200, 200)
    assert shown.view((200, 200)).plain
    assert Commands(shown, Running((360, 480), 2), None).lines == [
        "featherseg predict PICTURES --weights 'my files/mine.onnx' --letterbox 200x200 -o predicted"
    ]


def notes(protocol, size, judged_size=None):
    return notes_of(Listed([]), Explored(), protocol, size, None, judged_size)


def test_accuracies_of_images_of_another_size_are_told_of():
    assert notes(PROTOCOL, SIZE) == []
    (said,) = notes(PROTOCOL, (64, 96))
    assert "images of 32x48, and the times of 64x96" in said
    assert "height x width" in notes(PROTOCOL, (48, 32))[0]
    assert "images of 9x9" in notes(PROTOCOL, SIZE, (9, 9))[0]


@pytest.mark.parametrize(
    ("protocol", "told"), [("d/48x32/train→test", 1), ("d/48x32/test, 5 images", 1), (PROTOCOL, 0)]
)
def test_choosing_by_test_is_told_of(protocol, told):
    assert len([note for note in notes(protocol, SIZE) if "no longer an unbiased" in note]) == told


def test_a_fixed_onnx_file_of_another_size_is_labelled_through_a_letterbox(tmp_path):
    for package in ("onnx", "onnxruntime"):
        pytest.importorskip(package)
    from featherseg.deploy.doors import open_door

    (source,) = sources([NAME])
    network, about = source.network_and_metadata
    _, module = open_door("onnx")
    content = module.convert(module.make_graph(network, size=SIZE, batch=1, output="logits"))
    carried = {key: about[key] for key in ("format", "num_classes", "input_spec", "classes", "palette")}
    file = tmp_path / "fixed.onnx"
    file.write_bytes(module.files(module.with_metadata(content, carried))[".onnx"])
    found = choose(Choice((str(file),), SLOW, size=(64, 96), threads=1, limit=600.0))
    row = found["candidates"]["fixed.onnx, onnx fp32"]
    assert row["input"] == list(SIZE)
    assert row["commands"][0].endswith("--letterbox 32x48 -o predicted")
    shown = Opener(Running(SIZE, 1), tmp_path).open(Candidate(Source(str(file), "fixed.onnx"), Way("onnx")))
    image = np.zeros((*SIZE, 3), np.uint8)
    logits = shown.opened.session.run(torch.from_numpy(image)[None])[0]
    assert np.array_equal(shown.contestant(image).run(), labels_of(logits, "logits", shown.opened.spec, SIZE).labels)


def test_an_exported_file_alone_tells_its_accuracy_and_the_size_of_its_images(weights, tmp_path):
    for package in ("onnx", "onnxruntime"):
        pytest.importorskip(package)
    from featherseg.bench.contestants import exported_file

    (source,) = sources(weights[1:])
    file = exported_file(source, "onnx", SIZE, tmp_path)
    found = choose(Choice((str(file),), SLOW, threads=1, limit=600.0))
    row = found["candidates"][found["recommended"]]
    assert (row["miou"], row["miou_from"], row["input"]) == (60.0, "weights", list(SIZE))
    assert found["protocol"] == PROTOCOL


def test_an_exported_file_is_opened_once_though_its_metadata_are_read_before_it_is_timed(
    weights, tmp_path, monkeypatch
):
    for package in ("onnx", "onnxruntime"):
        pytest.importorskip(package)
    from featherseg.bench import choice_candidates, contestants

    (source,) = sources(weights[1:])
    file = contestants.exported_file(source, "onnx", SIZE, tmp_path)
    opened = []

    def counted(*given: Any, **running: Any) -> Opened:
        opened.append(given)
        return contestants.open_file(*given, **running)

    monkeypatch.setattr(choice_candidates, "open_file", counted)
    found = choose(Choice((str(file),), SLOW, threads=1, limit=600.0))
    assert (found["size"], len(opened)) == (list(SIZE), 1)


@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
def test_every_installed_runtime_is_a_candidate_at_its_scales(runtime, weights):
    for package in {"onnx": ("onnx", "onnxruntime"), "openvino": ("onnx", "openvino")}[runtime]:
        pytest.importorskip(package)
    asked = Choice(
        weights[1:], SLOW, runtimes=(runtime,), precisions=("fp32",), threads=1, limit=600.0, scales=(1.0, 0.5)
    )
    found = choose(asked)
    assert found["recommended"] == f"better.safetensors, {runtime} fp32"
    assert [line.split()[1] for line in found["candidates"][found["recommended"]]["commands"]] == ["export", "predict"]
    assert found["candidates"][f"better.safetensors, {runtime} fp32, scale 0.5"]["miou"] is None


def test_one_that_was_timed_too_rarely_is_taken_for_the_time_being(report, choice, monkeypatch):
    assert report["candidates"][report["recommended"]]["count"] < choosing.LEAST_FOR_P90
    assert report["provisional"] is True
    monkeypatch.setattr(choosing, "LEAST_FOR_P90", 1)
    assert choose(choice)["provisional"] is False
