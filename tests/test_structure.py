"""The direction of imports: a file imports only from rooms above it."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "jaxstab"

# A room may import from itself and from rooms above it. `measures` stands apart, above all but `words` and `xla`.
ROOMS = [
    "errors",
    "words",
    "libraries",
    "xla",
    "config",
    "runs",
    "data",
    "models",
    "measures",
    "analysis",
    "mitigation",
    "training",
    "report",
    "experiment",
    "cli",
    "__main__",
]


def _room(file: Path) -> str:
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def _imports(file: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            if node.module == "jaxstab":
                names |= {alias.name for alias in node.names}
            elif node.module and node.module.startswith("jaxstab."):
                names.add(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            names |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("jaxstab.")}
    return names


@pytest.mark.parametrize("file", sorted(PACKAGE.rglob("*.py")), ids=lambda f: str(f.relative_to(PACKAGE)))
def test_imports_point_one_way(file):
    room = _room(file)
    if room == "__init__":
        return
    assert room in ROOMS, f"{file.name} belongs to no room; add it to ROOMS and to docs/architecture.md"
    allowed = {"measures", "words", "xla"} if room == "measures" else set(ROOMS[: ROOMS.index(room) + 1])
    assert _imports(file) <= allowed


@pytest.mark.parametrize("file", sorted(PACKAGE.rglob("*.py")), ids=lambda f: str(f.relative_to(PACKAGE)))
def test_no_file_is_too_long(file):
    assert len(file.read_text().splitlines()) <= 400
