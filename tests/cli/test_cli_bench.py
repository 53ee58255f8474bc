"""``featherseg bench`` from the command line, on tiny images; no time is asserted."""

import json

import pytest

from featherseg.bench import speed
from featherseg.bench.peaks import measure_peaks
from featherseg.cards import read_card
from featherseg.cli.main import main

TINY = (
    "--size",
    "36x52",
    "--runtime",
    "torch",
    "--precision",
    "fp32",
    "--threads",
    "1",
    "--rounds",
    "2",
    "--no-memory",
)


@pytest.fixture
def run(small_weights, monkeypatch):
    """Run the command on the small weights."""
    monkeypatch.setattr(
        speed, "measure_peaks", lambda device: measure_peaks(device, sides=(32,), copied=4096, seconds=0)
    )
    return lambda *arguments: main(["bench", str(small_weights), *TINY, *map(str, arguments)])


def test_the_report_is_pure_json_on_stdout(run, capsys):
    assert run("--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found["contestants"]) == ["small.safetensors, torch fp32"]
    assert found["size"] == [36, 52]


def test_a_card_says_what_was_measured_and_how(run, tmp_path, capsys):
    assert run("--card", tmp_path / "speed.json") == 0
    made = read_card(tmp_path / "speed.json")
    assert made["kind"] == "speed"
    assert made["protocol"] == "speed/36x52/1 threads/uint8 image to uint8 label map"
    assert made["figures"]["reference"]["name"] == "reference-1"
    assert {"environment", "load_average"} <= set(made)
    assert str(tmp_path) not in json.dumps(made)
    assert "to reference" in capsys.readouterr().out


def test_against_torch_and_the_roofline_are_printed_and_drawn(run, tmp_path, capsys):
    plot = tmp_path / "roofline.png"
    assert run("--against", "torch", "--roofline", "--plot", plot) == 0
    shown = capsys.readouterr().out
    assert "times as fast" in shown
    assert "plain torch" in shown
    assert "all convolution" in shown
    assert plot.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "name networks, weights or files, or one --paper"),
        (("fassd_net_l2", "--paper", "fassd_net"), "or one --paper"),
        (("fassd_net_l2", "--against", "tensorflow"), "--against 'tensorflow' is not known"),
        (("fassd_net_l2", "--plot", "x.png"), "Give --roofline too"),
        (("fassd_net_l2", "--roofline", "--plot", "x.pdf"), "pictures are PNG files"),
        (("fassd_net_l2", "--rounds", "0"), "--rounds 0 measures nothing"),
        (("fassd_net_l2", "--limit", "-1"), "--limit -1.0 is no time"),
        (("fassd_net_l2", "--seconds", "0"), "--seconds 0.0 is no time"),
        (("fassd_net_l2", "--threads", "0"), "--threads 0 runs nothing"),
        (("fassd_net_l2", "--precision", "fp17"), "--precision 'fp17' is not known"),
        (("fassd_net_l2", "--runtime", "tensorflow", "--size", "8x8"), "no runtime is called 'tensorflow'"),
        (("fassd_net_l2", "--size", "8"), "--size '8' is no size"),
        (("--paper", "drbanet"), "no speed column of a paper called 'drbanet' is known"),
        (("nowhere.xml",), "nowhere.xml: there is no such file"),
    ],
)
def test_wrong_use_is_one_line_and_exit_code_2(arguments, said, capsys):
    assert main(["bench", *arguments]) == 2
    complaint = capsys.readouterr().err.splitlines()[-1]
    assert complaint.startswith("featherseg: error:")
    assert said in complaint
