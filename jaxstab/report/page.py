"""One self-contained HTML file of headings, sentences, figures and tables; independent of what they show."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from jaxstab.report.drawing import to_svg
from jaxstab.report.tables import Table


@dataclass(frozen=True)
class Picture:
    """A figure with its file name and caption."""

    name: str
    figure: Figure
    caption: str

    @cached_property
    def svg(self) -> Markup:
        """The figure as SVG, safe to insert into a page because matplotlib escapes text."""
        return Markup(to_svg(self.figure, self.name, self.caption))


@dataclass(frozen=True)
class Section:
    """A part of the page. It shows, in this order, sentences, pictures, tables, code and subsections.

    Attributes:
        title: the heading.
        sentences: one paragraph each.
        notes: caveats, in small print.
        pictures: shown side by side where there is room.
        tables: shown one below the other; a click on a heading sorts them.
        searched: tables with a search box.
        code: text to copy.
        sections: subsections, one level below.
    """

    title: str
    sentences: Sequence[str] = ()
    notes: Sequence[str] = ()
    pictures: Sequence[Picture] = ()
    tables: Sequence[Table] = ()
    searched: Sequence[Table] = ()
    code: Sequence[str] = ()
    sections: Sequence["Section"] = field(default_factory=list)

    @property
    def anchor(self) -> str:
        """The id for links inside the page."""
        return "".join(c if c.isalnum() else "-" for c in self.title.lower())

    @property
    def all_pictures(self) -> list[Picture]:
        """The pictures of this section and its subsections."""
        return [*self.pictures, *(picture for one in self.sections for picture in one.all_pictures)]


@dataclass(frozen=True)
class Page:
    """The whole page.

    Attributes:
        title: title of the window.
        headline: the main result as one sentence.
        sections: sections of the page.
    """

    title: str
    headline: str
    sections: Sequence[Section]

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
    return environment.get_template("page.html.jinja").render(page=page)
