"""Saves figures as files for papers and converts them to SVG for the page."""

import io
import re
from html import escape
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from jaxstab.report.style import BLUE, FOREGROUND, STYLE, VERMILION
from jaxstab.runs.files import whole_file

PNG_DPI = 200
BRIGHTER = {BLUE: "--blue", VERMILION: "--vermilion"}  # the page has other colours for dark mode


def save(figure: Figure, directory: Path, name: str) -> list[Path]:
    """Writes a figure as PNG (200 dpi, white) and as PDF with embedded fonts; returns the files."""
    directory.mkdir(parents=True, exist_ok=True)
    files = [directory / f"{name}.{suffix}" for suffix in ("png", "pdf")]
    for path in files:
        metadata = {"CreationDate": None} if path.suffix == ".pdf" else None
        with matplotlib.rc_context(STYLE), whole_file(path) as temporary:  # type: ignore[arg-type]
            form = path.suffix[1:]
            figure.savefig(temporary, format=form, dpi=PNG_DPI, facecolor="white", metadata=metadata)
    return files


def to_svg(figure: Figure, name: str, title: str) -> str:
    """Returns a figure as SVG to be put into a page.

    Args:
        figure: a figure of `jaxstab.report.figures`.
        name: name that is unique on the page; prefix of the ids inside.
        title: description of the figure for screen readers.

    Returns:
        SVG that scales with the page, with text as text in the page's colour. The output is deterministic.
    """
    buffer = io.StringIO()
    with matplotlib.rc_context(STYLE):  # type: ignore[arg-type]
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", svg)
    svg = svg.replace(FOREGROUND, "currentColor")
    for colour, variable in BRIGHTER.items():
        svg = svg.replace(colour.lower(), f"var({variable}, {colour.lower()})")
    width, height = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg).groups()  # type: ignore[union-attr]
    svg = re.sub(r'(<svg [^>]*?)\swidth="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg [^>]*?)\sheight="[^"]*"', r"\1", svg, count=1)
    label = f'role="img" aria-label="{escape(title)}" data-width="{width}" data-height="{height}"'
    return svg.replace("<svg ", f"<svg {label} ", 1)
