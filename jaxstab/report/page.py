"""A page of headings, sentences, figures and tables as one HTML file that needs nothing else. Knows nothing of runs."""

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
    """A figure with the name of its file and a caption."""

    name: str
    figure: Figure
    caption: str

    @cached_property
    def svg(self) -> Markup:
        """The drawing, safe to be put into a page: matplotlib escapes text."""
        return Markup(to_svg(self.figure, self.name, self.caption))


@dataclass(frozen=True)
class Section:
    """A part of the page, in this order: sentences, pictures, tables, code; and sections below it.

    Attributes:
        title: its heading.
        sentences: a paragraph each.
        notes: what to beware of, in small print.
        pictures: beside each other where there is room.
        tables: below each other; sorted by a click on a heading.
        searched: tables with an input box for searching.
        code: to be copied.
        sections: one level below.
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
        """For links inside the page."""
        return "".join(c if c.isalnum() else "-" for c in self.title.lower())

    @property
    def all_pictures(self) -> list[Picture]:
        """Of this section and those below."""
        return [*self.pictures, *(picture for one in self.sections for picture in one.all_pictures)]


@dataclass(frozen=True)
class Page:
    """The whole page.

    Attributes:
        title: of the window.
        headline: the one sentence to take away.
        sections: its parts.
    """

    title: str
    headline: str
    sections: Sequence[Section]

    @property
    def pictures(self) -> list[Picture]:
        """All of them, in their order."""
        return [picture for one in self.sections for picture in one.all_pictures]


def render(page: Page) -> str:
    """Returns the page as HTML: no request leaves it, and text is shown as text, whatever is in it."""
    environment = Environment(
        loader=PackageLoader("jaxstab.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html.jinja").render(page=page)
