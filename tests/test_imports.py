"""Arrows point one way: a module imports only from rows above its own."""

import ast
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "src" / "offdiag"

ROWS = [
    {"_types", "_checks", "_compiled", "_precision"},
    {"_files", "registry", "_distributed"},
    {"_tables", "_grid_directory"},
    {"results", "batchnorm"},
    {"normalisers", "data", "diagnostics", "embeddings"},
    {"heads", "targets", "transforms"},
    {"objectives", "projectors"},
    {"losses", "methods", "theory", "encoders"},
    {"regularisers"},
    {"evaluation", "training", "plots"},
    {"runs", "integrations"},
    {"report"},
    {"cli"},
    {"__main__", "__init__"},
]
ROW_OF = {name: i for i, row in enumerate(ROWS) for name in row}


def arrows():
    """(file, importing part, imported part), function-local imports included."""
    for path in SOURCE.rglob("*.py"):
        part = path.relative_to(SOURCE).parts[0].removesuffix(".py")
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("offdiag"):
                names = node.module.split(".")[1:2] or [alias.name for alias in node.names]
                for name in names:
                    yield path, part, name
            if isinstance(node, ast.Import):
                assert not any(alias.name.startswith("offdiag") for alias in node.names), path


def test_every_part_has_a_row():
    parts = {path.relative_to(SOURCE).parts[0].removesuffix(".py") for path in SOURCE.rglob("*.py")}
    assert parts <= set(ROW_OF)


def test_arrows_point_one_way():
    wrong = [
        f"{path.relative_to(SOURCE)} imports {imported}"
        for path, part, imported in arrows()
        if part != imported and ROW_OF[imported] >= ROW_OF[part]
    ]
    assert wrong == []


def test_theory_and_training_never_meet():
    practice = {"training", "methods", "data", "evaluation", "runs"}
    for path, part, imported in arrows():
        assert not (part == "theory" and imported in practice), path
        assert not (part in practice and imported == "theory"), path
