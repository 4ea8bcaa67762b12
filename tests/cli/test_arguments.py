"""The words of the command line: help, version, options, and the page about them."""

import argparse
import json
import os
import pathlib
import re
import subprocess
import sys

import pytest

import keras_tcm
from keras_tcm import cli
from keras_tcm.evaluation import DISTANCES
from keras_tcm.study import demo, grid, toy

ROOT = pathlib.Path(keras_tcm.__file__).parents[1]
PAGE = (ROOT / "docs" / "command_line.md").read_text(encoding="utf-8")
PARSER = cli.make_parser()
(COMMANDS,) = (
    action.choices
    for action in PARSER._actions
    if isinstance(action, argparse._SubParsersAction)
)
ARGUMENTS = [
    pytest.param(command, action, id=f"{command} {action.dest}")
    for command, parser in COMMANDS.items()
    for action in parser._actions
    if action.dest != "help"
]
# Every import that fails is one of what the command needs for help and version.
_ALONE = """
import json, sys
sys.modules.update(dict.fromkeys(["keras", "keras_tcm", "numpy", "rich"]))
import keras_tcm_command
codes = []
for words in json.loads(sys.argv[1]):
    sys.argv[1:] = words
    codes.append(keras_tcm_command.main())
print(codes)
"""


def run(*words):
    with pytest.raises(SystemExit) as stop:
        cli.run(words)
    return stop.value.code


def test_commands():
    names = "demo evaluate compare threshold check study report toy"
    assert list(COMMANDS) == names.split()


def test_help_and_version_need_nothing():
    words = [["--help"], ["--version"], *([name, "--help"] for name in COMMANDS)]
    done = subprocess.run(
        [sys.executable, "-c", _ALONE, json.dumps(words)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "KERAS_BACKEND": "abacus"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout.splitlines()[-1] == str([0] * len(words))


def test_version(capsys):
    assert run("--version") == 0
    assert capsys.readouterr().out == f"keras-tcm {keras_tcm.__version__}\n"


@pytest.mark.parametrize("words", [[], *([command] for command in COMMANDS)])
@pytest.mark.parametrize("columns", ["1", "40", "80", "200"])
def test_help(capsys, monkeypatch, words, columns):
    monkeypatch.setenv("COLUMNS", columns)
    assert run(*words, "--help") == 0
    text = capsys.readouterr().out
    assert text.startswith("usage: keras-tcm")
    for command in () if words else COMMANDS:
        assert command in text
    for nonsense in "==SUPPRESS==", "None", "Path(", "%":
        assert nonsense not in text.replace("95%", "")


@pytest.mark.parametrize(("command", "action"), ARGUMENTS)
def test_every_argument_has_help_and_a_default_unless_it_is_required(command, action):
    assert action.help
    assert action.help[0].islower() or action.help.startswith((".npz", "MNIST"))
    default = re.search(r" \(default: (.+)\)$", action.help)
    assert (default is None) == action.required
    if default is None or action.default in (None, False):
        return
    # What the help says is what the parser takes.
    words = default[1].split()
    values = list(map(action.type or str, words))
    given = action.default
    assert values == (list(given) if isinstance(given, tuple) else [given])


@pytest.mark.parametrize(
    ("command", "option", "choices"),
    [
        ("demo", "--loss", list(grid.BASE_LOSSES)),
        ("study", "--preset", list(grid.PRESETS)),
        ("toy", "--data", list(toy.DATA)),
        ("evaluate", "--distance", list(DISTANCES)),
        ("compare", "--distance", list(DISTANCES)),
    ],
)
def test_choices_are_those_of_the_package(command, option, choices):
    action = COMMANDS[command]._option_string_actions[option]
    assert sorted(action.choices) == sorted(choices)


def test_demo_has_the_defaults_of_its_settings():
    args = PARSER.parse_args(["demo"])
    assert (
        f"{demo.DEMO_STEPS}, or as many as both can do in {demo.MINUTES} minutes"
        in (COMMANDS["demo"]._option_string_actions["--steps"].help)
    )
    settings = demo.DemoSettings()
    assert (args.loss, args.tcm, args.steps, args.seed) == (
        settings.loss,
        settings.tcm,
        settings.steps,
        settings.seed,
    )


def words_of(action):
    """An argument as it is written in a usage line."""
    formatter = argparse.HelpFormatter("")
    if not action.option_strings:
        return action.metavar
    metavar = formatter._get_default_metavar_for_optional(action)
    values = formatter._format_args(action, metavar)
    return f"{action.option_strings[-1]} {values}".strip()


@pytest.mark.parametrize(("command", "action"), ARGUMENTS)
def test_the_page_has_a_row_for_every_argument(command, action):
    (section,) = re.findall(rf"^## {command}\n(.*?)(?=^## |\Z)", PAGE, re.M | re.S)
    summary, _, default = action.help.partition(" (default: ")
    default = default[:-1] or "required"
    assert f"| `{words_of(action)}` | {summary} | {default} |\n" in section


@pytest.mark.parametrize("command", COMMANDS)
def test_the_page_has_no_row_too_many(command):
    (section,) = re.findall(rf"^## {command}\n(.*?)(?=^## |\Z)", PAGE, re.M | re.S)
    rows = re.findall(r"^\| `([^`]+)` \|[^|]+\|[^|]+\|$", section, re.M)
    expected = [words_of(p.values[1]) for p in ARGUMENTS if p.values[0] == command]
    assert [row for row in rows if row not in grid.PRESETS] == expected
