"""The suite against its own table of contents: every item of the checklist has a test that names it."""

from __future__ import annotations

import re
from pathlib import Path

from tus_server.testing import conformance

#: The items that this suite answers for: all of them.
SECTIONS = {"CORE": 28, "CONC": 7, "CRE": 7, "META": 7, "CWU": 6, "DEF": 9, "EXP": 5, "CHK": 8, "TERM": 5} | {
    "CAT": 13,
    "HAZ": 10,
}
#: Not ours: the endpoint answers no other origin (a proxy or django-cors-headers does), so nothing is enabled.
LEFT_OUT = {"HAZ-09"}


PAGE = Path(__file__).parents[3] / "docs" / "reference" / "protocol.md"


def find_marked() -> set[str]:
    marked: set[str] = set()
    for path in (*Path(conformance.__path__[0]).glob("test_*.py"), *Path(__file__).parent.glob("test_*.py")):
        for arguments in re.findall(r"@checklist\(([^)]*)\)", path.read_text()):
            marked |= set(re.findall(r'"([A-Z]+-[0-9]+)"', arguments))
    return marked


def test_every_item_has_a_test() -> None:
    wanted = {f"{section}-{number:02}" for section, last in SECTIONS.items() for number in range(1, last + 1)}
    assert find_marked() == wanted - LEFT_OUT


def test_the_page_of_the_protocol_has_exactly_the_items_that_are_tested() -> None:
    listed = re.findall(r"^\| ([A-Z]+-[0-9]+) \|", PAGE.read_text(), re.MULTILINE)
    assert len(listed) == len(set(listed))
    assert set(listed) == find_marked()
