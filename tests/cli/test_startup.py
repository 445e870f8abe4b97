"""The command line answers before torch is loaded, wherever nothing needs it."""

import subprocess
import sys

import pytest

SCRIPT = """
import sys
from offdiag.cli.main import main
try:
    main({words!r})
except SystemExit:
    pass
print("torch" in sys.modules, "numba" in sys.modules, file=sys.stderr)
"""


def loaded(words):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(words=words)],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout, done.stderr


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["--version"],
        ["nothing"],
        ["train", "--nothing"],
        ["train", "--head", "diagonal", "--out", "x"],
        ["train", "--method", "vicreg", "--head", "mlp", "--out", "x"],
        ["list", "heads"],
        ["list", "nothing"],
        ["bench", "verify", "--nothing"],
    ],
)
def test_help_and_mistakes_load_no_torch(words):
    assert loaded(words)[1].splitlines()[-1] == "False False"


def test_the_help_of_offdiag_names_every_command_in_its_own_words():
    text, _ = loaded(["--help"])
    for command in ("train", "compare", "bench verify", "diagnose", "theory", "list"):
        assert f"  {command}" in text
    assert "Union" not in text


def test_a_misspelt_command_is_answered_with_the_nearest():
    assert "did you mean train?" in loaded(["trian"])[1]
