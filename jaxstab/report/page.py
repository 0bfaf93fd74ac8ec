"""One self-contained HTML file of headings, sentences, figures and tables; independent of what they show."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from jaxstab.report.drawing import to_svg, variable
from jaxstab.report.formats import Cell, Table, label, parts, slug
from jaxstab.report.style import DARK, LOOKS, look

UNBROKEN = "1\N{NO-BREAK SPACE}\N{MINUS SIGN}\N{NO-BREAK SPACE}"  # lines may break at a hyphen


@dataclass(frozen=True)
class Picture:
    """A figure with its file name and caption, and the task that it is about, if it is about one."""

    name: str
    figure: Figure
    caption: str
    task: str | None = None

    @cached_property
    def svg(self) -> Markup:
        """The figure as SVG, safe to insert into a page because text in it is escaped."""
        return Markup(to_svg(self.figure, self.name, self.caption))


class Point(NamedTuple):
    """A paragraph that begins with a term, and the method that it is about, if it is about one."""

    term: str
    text: str
    method: str | None = None


@dataclass(frozen=True)
class Section:
    """A part of the page. It shows, in this order, sentences, pictures with points, tables, notes, code, subsections.

    Attributes:
        title: the heading.
        sentences: one paragraph each.
        points: paragraphs beside the pictures.
        pictures: shown side by side where there is room.
        tables: shown one below the other; a click on a heading sorts them.
        notes: caveats, in small print.
        code: text to copy.
        sections: subsections, one level below.
        folded: whether only the title and `summary` are shown until the reader asks for more.
        summary: one line for a folded section.
        task: the task that it is about, if it is about one; the reader can choose tasks.
        method: the method that it is about, likewise.
    """

    title: str
    sentences: Sequence[str] = ()
    points: Sequence[Point] = ()
    pictures: Sequence[Picture] = ()
    tables: Sequence[Table] = ()
    notes: Sequence[str] = ()
    code: Sequence[str] = ()
    sections: Sequence["Section"] = ()
    folded: bool = False
    summary: str = ""
    task: str | None = None
    method: str | None = None

    @property
    def anchor(self) -> str:
        """The id for links inside the page."""
        return slug(self.title)

    @property
    def all_pictures(self) -> list[Picture]:
        """The pictures of this section and its subsections."""
        return [*self.pictures, *(picture for one in self.sections for picture in one.all_pictures)]


@dataclass(frozen=True)
class Page:
    """The whole page.

    Attributes:
        title: title of the window.
        headline: the main result in a sentence or two.
        sections: sections of the page.
        tasks: names of the tasks that the reader can choose from.
        methods: names of the methods, likewise, the baseline first.
    """

    title: str
    headline: str
    sections: Sequence[Section]
    tasks: Sequence[str] = ()
    methods: Sequence[str] = ()

    @property
    def pictures(self) -> list[Picture]:
        """All pictures of the page, in order."""
        return [picture for one in self.sections for picture in one.all_pictures]


def render(page: Page) -> str:
    """Returns the page as HTML. It makes no requests, and all text is escaped."""
    environment = Environment(
        loader=PackageLoader("jaxstab.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["label"] = label
    environment.filters["unbroken"] = lambda text: text.replace("1 - ", UNBROKEN)
    environment.filters["parts"] = parts
    environment.tests["interval"] = lambda cell: bool(parts(cell)[1])
    environment.tests["explained"] = lambda cell: isinstance(cell, Cell) and bool(cell.meaning)
    environment.tests["best"] = lambda cell: isinstance(cell, Cell) and cell.best
    # The markers are those of the figures, as characters of about the same look.
    signs = dict(zip((marker for _, marker in LOOKS), "●■▲◆▼✚★", strict=True))
    methods = [(name, variable(look(place)[0]), signs[look(place)[1]]) for place, name in enumerate(page.methods)]
    colours = [(variable(light), light, dark) for light, dark in DARK.items()]
    return environment.get_template("page.html.jinja").render(page=page, methods=methods, colours=colours)
