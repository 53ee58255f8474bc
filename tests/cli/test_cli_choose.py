"""``featherseg choose`` from the command line, on tiny images; no time is asserted."""

import json

import pytest

from featherseg.bench import choice_search
from featherseg.cards import read_card
from featherseg.cli.main import main

TINY = ("--runtime", "torch", "--precision", "fp32", "--threads", "1", "--limit", "600", "--scales", "1")


@pytest.fixture(autouse=True)
def few_rounds(monkeypatch):
    """The first rounds are enough, so that no test waits for a limit."""
    monkeypatch.setattr(choice_search, "ENOUGH_ROUNDS", 1)


@pytest.fixture
def run(small_weights, small_data):
    """Choose among the small weights, judged on the small data."""
    return lambda *more: main(["choose", str(small_weights), *TINY, "--data", str(small_data), *map(str, more)])


def test_the_report_is_pure_json_on_stdout(run, capsys):
    assert run("--fps", "0.001", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["recommended"] == "small.safetensors, torch fp32"
    assert found["protocol"] == "small/48x32/val, 3 images"
    assert found["size"] == [32, 48]


def test_the_front_and_the_one_to_take_are_printed_drawn_and_carded(run, tmp_path, capsys):
    plot, file = tmp_path / "front.png", tmp_path / "choice.json"
    assert run("--fps", "0.001", "--plot", plot, "--card", file, "--all") == 0
    shown = capsys.readouterr().out
    assert "take this" in shown
    assert "featherseg predict PICTURES --weights" in shown
    assert plot.read_bytes().startswith(b"\x89PNG")
    made = read_card(file)
    assert made["kind"] == "choice"
    assert made["figures"]["recommended"] == "small.safetensors, torch fp32"
    assert str(tmp_path) not in json.dumps(made)


def test_exit_code_1_names_the_nearest_where_none_is_fast_enough(run, capsys):
    assert run("--fps", "1e9") == 1
    said = capsys.readouterr()
    assert "The nearest is small.safetensors, torch fp32" in said.err
    assert "featherseg predict PICTURES" in said.err
    assert "take this" not in said.out


def test_exit_code_1_where_no_accuracy_is_known(small_weights, tmp_path, capsys):
    plot = tmp_path / "front.png"
    asked = ("--fps", "0.001", "--size", "32x48", "--plot", str(plot))
    assert main(["choose", str(small_weights), *TINY, *asked]) == 1
    said = capsys.readouterr()
    assert "no candidate's accuracy is known" in said.err
    assert "small.safetensors, torch fp32" in said.out
    assert plot.is_file()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--fps", "0"), "--fps 0 is no rate"),
        (("--fps", "-3"), "--fps -3 is no rate"),
        (("--size", "8"), "--size '8' is no size"),
        (("--size", "0x8"), "--size '0x8' is no size"),
        (("--plot", "x.pdf"), "pictures are PNG files"),
        (("--precision", "fp17"), "--precision 'fp17' is not known"),
        (("--runtime", "tensorflow"), "no runtime is called 'tensorflow'"),
        (("--scales", "none"), "--scales 'none' is no list of scales"),
        (("--limit", "0"), "--limit 0 is no time"),
        (("nowhere.xml",), "nowhere.xml: there is no such file"),
        (("nowhere.camvid",), "no such weights"),
        (("--data", "nowhere"), "nowhere"),
        (("fassd_net_l2", "--data", "streets", "--split", "vla"), "no split 'vla'"),
    ],
)
def test_wrong_use_is_one_line_and_exit_code_2(arguments, said, capsys):
    assert main(["choose", *arguments]) == 2
    complaint = capsys.readouterr().err.splitlines()[-1]
    assert complaint.startswith("featherseg: error:")
    assert said in complaint
