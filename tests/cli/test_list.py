"""`offdiag list`: what is printed is what there is, and the page of the docs is what is printed."""

import json
from pathlib import Path

import pytest

from offdiag.cli.main import main
from offdiag.registry import DATASETS, HEADS, METHODS, PARTS, TAGS

PAGE = Path(__file__).parents[2] / "docs" / "mechanisms.md"


def test_the_page_of_the_docs_holds_the_tables_as_they_are(capsys):
    main(["list", "--markdown"])
    assert capsys.readouterr().out.strip() in PAGE.read_text()


def test_every_row_is_printed_with_its_source(capsys):
    main(["list"])
    text = capsys.readouterr().out
    for table in (METHODS, HEADS, DATASETS):
        for name, row in table.items():
            assert name in text and row.paper in text


def test_json_has_the_settings_of_each_row(capsys):
    main(["list", "methods", "--json"])
    methods = json.loads(capsys.readouterr().out)["methods"]
    assert methods["vicreg"]["settings"]["variance"]["default"] == 25.0
    assert methods["byol"]["parts"]["head"] == "off-diagonal"


def test_rows_are_chosen_by_their_tags(capsys):
    main(["list", "heads", "--tags", "closed-form"])
    text = capsys.readouterr().out
    assert "direct-pred" in text and "\n  mlp" not in text


def test_an_unknown_table_or_tag_is_one_sentence(capsys):
    for words in (["list", "nothing"], ["list", "--tags", "nothing"]):
        with pytest.raises(SystemExit) as exit:
            main(words)
        assert exit.value.code == 2
        assert "choose one of" in capsys.readouterr().err


def test_every_row_can_be_built_from_its_settings():
    """Each row names a class that exists, and its defaults are values of their types."""
    for table in PARTS.values():
        for row in table.values():
            assert callable(row.target)
            assert all(one.help and not one.help.endswith(".") for one in row.settings)
            assert row.summary and row.paper and row.title
            assert row.tags <= set(TAGS)
