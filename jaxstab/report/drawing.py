"""Figures as files for papers, and as SVG for the page: one drawing serves both."""

import base64
import io
import re
from pathlib import Path
from xml.etree import ElementTree

import matplotlib
from matplotlib.figure import Figure
from PIL import Image

from jaxstab.report.style import BACKGROUND, DARK, FOREGROUND, PARTS, STYLE, Part
from jaxstab.runs.files import whole_file

PNG_DPI = 200
ElementTree.register_namespace("", "http://www.w3.org/2000/svg")
ElementTree.register_namespace("xlink", "http://www.w3.org/1999/xlink")
SVG, HREF = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}href"
NUMBER = re.compile(r"-?\d+\.\d{3,}")


def save(figure: Figure, directory: Path, name: str) -> list[Path]:
    """Writes a figure as PNG (200 dpi, white), SVG and PDF with embedded fonts; returns the files."""
    directory.mkdir(parents=True, exist_ok=True)
    files = [directory / f"{name}.{suffix}" for suffix in ("png", "svg", "pdf")]
    for path in files:
        form = path.suffix[1:]
        metadata = {"png": None, "svg": {"Date": None}, "pdf": {"CreationDate": None}}[form]
        with matplotlib.rc_context(STYLE), whole_file(path) as temporary:  # type: ignore[arg-type]
            figure.savefig(temporary, format=form, dpi=PNG_DPI, facecolor="white", metadata=metadata)
    return files


def variable(colour: str) -> str:
    """The page's variable for a colour."""
    return f"--c{colour[1:].lower()}"


def to_svg(figure: Figure, name: str, title: str) -> str:
    """Returns a figure as SVG to be put into a page.

    Args:
        figure: a figure of `jaxstab.report.figures`.
        name: name that is unique on the page; prefix of the ids inside.
        title: description of the figure for screen readers.

    Returns:
        SVG that scales with the page, with text as text in the page's colours. The output is deterministic. Parts that
        say something have a `title`; those that show a method have it as `data-method`.
    """
    parts = {f"part{number}": one for number, one in enumerate(figure.findobj(lambda one: one in PARTS))}
    for gid, artist in parts.items():
        artist.set_gid(gid)
    buffer = io.StringIO()
    with matplotlib.rc_context(STYLE):  # type: ignore[arg-type]
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    root = ElementTree.fromstring(buffer.getvalue())
    root.remove(root.find(f"{SVG}metadata"))  # type: ignore[arg-type]
    for gid, artist in parts.items():
        _name_part(root.find(f".//*[@id='{gid}']"), PARTS[artist])
    used = {one[1:] for element in root.iter() for one in (element.get(HREF, ""),) if one[:1] == "#"}
    for element in list(root.iter()):
        _make_lean(element, name, used)
    _, _, width, height = root.attrib["viewBox"].split()
    for key in ("width", "height", "version"):
        del root.attrib[key]
    root.attrib |= {"role": "img", "aria-label": title, "data-width": width, "data-height": height}
    root.set("font-family", "DejaVu Sans,Verdana,sans-serif")  # as wide as what matplotlib has measured
    return ElementTree.tostring(root, encoding="unicode")


def _name_part(group: ElementTree.Element | None, part: Part) -> None:
    """Puts what a part shows into its group."""
    assert group is not None
    if part.method is not None:
        group.set("data-method", part.method)
    defined = {one for definitions in group.iter(f"{SVG}defs") for one in definitions.iter()}
    drawn = [one for one in group.iter() if one.tag in (f"{SVG}use", f"{SVG}path") and one not in defined]
    places = [group] if len(part.says) == 1 else drawn
    for place, text in zip(places, part.says, strict=bool(part.says)):
        said = ElementTree.Element(f"{SVG}title")
        said.text = text
        place.insert(0, said)


def _make_lean(element: ElementTree.Element, name: str, used: set[str]) -> None:
    """Makes ids unique on the page, names colours, and leaves out what matplotlib writes in vain."""
    attributes = element.attrib
    if attributes.get(HREF, "").startswith("#"):
        attributes[HREF] = f"#{name}-{attributes[HREF][1:]}"
    elif HREF in attributes:
        attributes[HREF] = _fewer_colours(attributes[HREF])
    if "id" in attributes:
        identifier = attributes.pop("id")
        if identifier in used or element.tag == f"{SVG}clipPath":
            attributes["id"] = f"{name}-{identifier}"
    if "clip-path" in attributes:
        attributes["clip-path"] = attributes["clip-path"].replace("url(#", f"url(#{name}-")
    if "style" in attributes:
        attributes["style"] = _named_colours(attributes["style"])
    if attributes.get("transform", "").startswith("rotate(-0 "):
        del attributes["transform"]
    for key in {"d", "x", "y", "points", "transform", "style", "width", "height"} & attributes.keys():
        attributes[key] = NUMBER.sub(lambda found: f"{float(found[0]):.2f}".rstrip("0").rstrip("."), attributes[key])
    if element.tag != f"{SVG}text":
        element.text = (element.text or "").strip()
    element.tail = None
    _share_style(element)


def _named_colours(style: str) -> str:
    style = re.sub(r"font-family:[^;]*(;|$)", "", style.replace(": ", ":").replace("; ", ";"))
    style = style.replace(FOREGROUND, "currentColor").replace(BACKGROUND.lower(), "var(--paper,#fff)")
    for colour in DARK:
        style = style.replace(colour.lower(), f"var({variable(colour)},{colour.lower()})")
    return style


def _share_style(group: ElementTree.Element) -> None:
    """Writes the common style of many equal elements once, on their group."""
    styles = {one.get("style") for one in group}
    if len(group) > 1 and len(styles) == 1 and None not in styles and "style" not in group.attrib:
        group.set("style", _named_colours(styles.pop() or ""))
        for one in group:
            del one.attrib["style"]


def _fewer_colours(image: str) -> str:
    """An image as matplotlib writes it, with a palette: a quarter of the size."""
    start, encoded = image.split(",", 1)
    read = Image.open(io.BytesIO(base64.b64decode(encoded)))
    buffer = io.BytesIO()
    read.quantize(64, method=Image.Quantize.FASTOCTREE).save(buffer, "png", optimize=True)
    return f"{start},{base64.b64encode(buffer.getvalue()).decode()}"
