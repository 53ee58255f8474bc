"""What `featherseg quantize` says and its exit codes, with reports that are made up."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from featherseg.cards import read_card
from featherseg.cli.main import main
from featherseg.deploy import quantize as quantize_module
from featherseg.deploy.quantization_judge import Verdict
from featherseg.deploy.quantization_report import QuantizationReport
from featherseg.deploy.quantization_speed import Speeds

GOOD = QuantizationReport(
    file=Path("mine.xml"),
    runtime="openvino",
    size=None,
    size_bytes={"float32": 9_145_204, "int8": 2_322_547},
    layers=62,
    kept=("/base.0/conv",),
    gains={"/base.0/conv": 0.004},
    losses=((0, 0.77), (62, 0.0), (1, 0.2)),
    by="mIoU",
    bound=0.3,
    met=True,
    verdicts={
        "float32": Verdict(0.66, 1.0, 0.0),
        "int8": Verdict(0.658, 0.992, 0.2),
        "bf16": Verdict(0.659, 0.998, 0.1),
        "int8_bf16": Verdict(0.658, 0.992, 0.2),
    },
    speeds=Speeds({"float32": (18.0,), "int8": (10.0,), "bf16": (12.0,), "int8_bf16": (8.0,)}),
    fastest_float="bf16",
    fastest_int8="int8_bf16",
    times_as_fast=1.5,
    calibrated_on={"images": "camvid/train", "count": 100},
    judged_on={"images": "camvid/val", "count": 101},
)


@pytest.fixture
def run(monkeypatch, capsys):
    """Run the command with this report; its exit code, stdout and stderr."""

    def quantized(report: QuantizationReport, *options: str) -> tuple[int, str, str]:
        def made(*arguments, progress, **given):
            progress("calibrating", 0, 100)
            return report

        monkeypatch.setattr(quantize_module, "quantiser_door", lambda runtime: None)
        monkeypatch.setattr(quantize_module, "quantize", made)
        arguments = ["quantize", "fassd_net_l2.camvid", "--to", "openvino", "--calibrate", "camvid", "-o", "mine.xml"]
        code = main([*arguments, *options])
        said = capsys.readouterr()
        return code, said.out, said.err

    return quantized


def test_the_report_shows_loss_layers_and_speed(run):
    code, shown, said = run(GOOD)
    assert code == 0
    assert "0.20 points of mIoU; bound 0.3" in shown
    assert "1 of 62 layers" in shown
    assert "/base.0/conv" in shown
    assert "1.50 (int8, rest in bf16 against bf16)" in shown
    assert "not faster" not in said


def test_it_tells_what_it_is_doing(run):
    assert "calibrating" in run(GOOD)[2]


def test_json_is_the_report_alone(run):
    _, shown, _ = run(GOOD, "--json")
    assert json.loads(shown) == json.loads(json.dumps(GOOD.to_dict()))


def test_a_card_holds_the_report(run, tmp_path):
    file = tmp_path / "card.json"
    code, _, said = run(GOOD, "--card", str(file))
    made = read_card(file)
    assert (code, made["kind"], made["weights"], made["saved"]) == (0, "quantization", "fassd_net_l2.camvid", True)
    assert made["protocol"] == "openvino/any size/calibrated on camvid/train, judged on camvid/val"
    assert made["figures"] == json.loads(json.dumps({k: v for k, v in GOOD.to_dict().items() if k != "file"}))
    assert str(file) in said


def test_it_says_where_int8_is_not_faster(run):
    code, _, said = run(replace(GOOD, times_as_fast=0.9))
    assert code == 0
    assert "int8 is not faster than bf16 here (0.90 times as fast)" in said


@pytest.mark.parametrize("ratio", [1.0, 1.04])
def test_a_gain_that_two_timings_of_one_program_may_have_is_none(run, ratio):
    assert f"faster than bf16 here ({ratio:.2f} times as fast)" in run(replace(GOOD, times_as_fast=ratio))[2]
    assert not replace(GOOD, times_as_fast=ratio).faster
    assert replace(GOOD, times_as_fast=1.06).faster


def test_a_sound_file_is_without_warnings(run):
    assert GOOD.warnings == ()
    assert "warning" not in run(GOOD)[2]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"kept": tuple(map(str, range(62)))}, "62 of 62 layers stay in float32: the file is int8 by name only"),
        ({"kept": tuple(map(str, range(32)))}, "32 of 62 layers stay in float32: the file is mostly float32"),
        ({"judged_on": {"images": "a/all", "count": 3}}, "judged on 3 images alone"),
        ({"unlike": 2.5}, "camvid/train are of another kind than those that the network was trained on (distance 2.5"),
    ],
)
def test_what_makes_a_file_doubtful_is_warned_of(run, change, said):
    report = replace(GOOD, **change)
    code, _, stderr = run(report)
    assert code == 0
    (warning,) = report.warnings
    assert said in warning
    assert f"warning: {warning}\n" in stderr.replace("\r", "\n")
    assert report.to_dict()["warnings"] == [warning]


@pytest.mark.parametrize("option", ["-o", "--card"])
def test_a_folder_that_cannot_be_written_is_refused_before_the_work(run, tmp_path, option):
    (tmp_path / "file").write_bytes(b"")
    name = tmp_path / "file" / ("a.xml" if option == "-o" else "card.json")
    code, _, said = run(GOOD, option, str(name))
    assert (code, said.count("\n")) == (2, 1)
    assert f"{name}: cannot be written" in said


def test_it_says_that_agreement_is_no_accuracy(run):
    verdicts = {name: replace(verdict, miou=None) for name, verdict in GOOD.verdicts.items()}
    _, shown, said = run(replace(GOOD, by="agreement", verdicts=verdicts))
    assert "0.20 % of the pixels" in shown
    assert "judged without labels" in said


def test_a_refused_file_exits_with_1_and_says_what_helps(run):
    code, shown, said = run(replace(GOOD, file=None, met=False))
    assert code == 1
    assert "not written" in shown
    assert "--force" in said
