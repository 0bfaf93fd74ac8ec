"""Tables in the docs that a benchmark writes."""

import re
from pathlib import Path


def replace_tables(page: Path, benchmark: str, text: str) -> None:
    """Replaces what is between the markers `<!-- benchmarks/NAME -->` and `<!-- end -->`.

    Raises:
        SystemExit: the page has no such markers.
    """
    marked = re.compile(rf"(<!-- benchmarks/{re.escape(benchmark)} -->\n).*?(<!-- end -->)", re.DOTALL)
    content = page.read_text()
    if not marked.search(content):
        raise SystemExit(f"{page}: no markers <!-- benchmarks/{benchmark} --> and <!-- end -->")
    page.write_text(marked.sub(lambda found: f"{found[1]}\n{text}\n\n{found[2]}", content))
