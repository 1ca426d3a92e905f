"""Do the documents name what there is?  Paths, links, classes, the table "Where do I put", the manual's kinds."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from loadtests.model.fault_kinds import KINDS
from loadtests.model.kinds import FaultKind
from loadtests.model.labels import CATEGORIES, PENDING, STAGES, WORDS
from loadtests.model.registry import SINKS, TRANSPORTS

ROOT = Path(__file__).resolve().parents[1]
TEXTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("*/*.md")])
ARCHITECTURE, EXTENDING, MANUAL = (
    (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8") for name in ("architecture", "extending", "profile")
)
FOLDERS = ("loadtests", "tests", "benchmarks", "docs", "profiles", "proof", "reference_target", "lying_gateway")
PATH = re.compile(rf"`((?:{'|'.join(FOLDERS)})/[\w./<>-]+)`")
LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]*))?\)")
CLASS = re.compile(r"`([A-Z][a-z]+(?:[A-Z][a-z]+)*)`")
DOTTED = re.compile(r"`(loadtests(?:\.\w+)+)`")
TASKS = ("sink", "transport", "fault kind", "measure", "user class", "column of the report", "shape")
"""What can be added, inside the tree in at most three product files, and from outside."""
DESTRUCTIVE, INSTANT = "Destructive.", "Instant: healed as soon as it has acted; its effect is watched for `for_s`."


def rows(text: str, heading: str) -> dict[str, list[str]]:
    """A table behind a heading or line: first cell, without bold -> the other cells."""
    section = re.split(r"\n(?=#)", text[text.index(f"\n{heading}") + 1 :])[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {first.strip("*"): rest for first, *rest in cells if first}


PUT = rows(ARCHITECTURE, "## Where do I put")
SAME = rows(EXTENDING, "## The same inside the tree")


def there(path: str) -> bool:
    """Whether a path, or one like it where it has a blank such as `<kind>`, exists."""
    return bool(list(ROOT.glob(re.sub(r"<\w+>", "*", path))))


def anchors(text: str) -> set[str]:
    """Anchors of a document's headings, as GitHub makes them."""
    heads = re.findall(r"^#+ (.*)$", text, re.M)
    return {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}


def test_every_path_in_the_documents_exists() -> None:
    named = {(text.name, path) for text in TEXTS for path in PATH.findall(text.read_text(encoding="utf-8"))}
    assert len(named) > 100
    assert [pair for pair in sorted(named) if not there(pair[1])] == []


def test_every_link_between_documents_leads_somewhere() -> None:
    found = 0
    for text in TEXTS:
        for path, anchor in LINK.findall(text.read_text(encoding="utf-8")):
            found += 1
            target = text.parent / path if path else text
            assert target.exists(), f"{text.name}: {path}"
            if anchor:
                assert anchor in anchors(target.read_text(encoding="utf-8")), f"{text.name}: {path}#{anchor}"
    assert found > 20


def test_the_pages_of_the_code_are_linked_from_those_that_a_newcomer_opens() -> None:
    for name in ("README.md", "CONTRIBUTING.md"):
        text = (ROOT / name).read_text(encoding="utf-8")
        assert "(docs/architecture.md)" in text, name
        assert "(docs/extending.md)" in text, name


def test_every_class_and_module_that_the_pages_of_the_code_name_exists() -> None:
    sources = [
        path.read_text(encoding="utf-8")
        for folder in ("loadtests", "proof", "benchmarks", "tests/extensions")
        for path in ROOT.glob(f"{folder}/**/*.py")
    ]
    defined = {name for source in sources for name in re.findall(r"^class (\w+)", source, re.M)}
    known = defined | {"User", "RuntimeError"}  # Locust's, Python's
    for page in (ARCHITECTURE, EXTENDING):
        assert sorted(set(CLASS.findall(page)) - known) == []
        for dotted in DOTTED.findall(page):
            module = ROOT / dotted.replace(".", "/")
            held = module if module.exists() or module.with_suffix(".py").exists() else module.parent
            assert held.exists() or held.with_suffix(".py").exists(), dotted
    assert len(CLASS.findall(ARCHITECTURE)) > 40


@pytest.mark.parametrize("task", TASKS)
def test_each_task_takes_at_most_three_product_files(task: str) -> None:
    product, held_by = PUT[task]
    paths = PATH.findall(product)
    assert 1 <= len(paths) <= 3, paths
    assert not [path for path in paths if path.startswith(("tests/", "proof/"))]
    assert [path for path in PATH.findall(held_by) if path.startswith("tests/")], "nothing holds it"
    assert sorted(PATH.findall(" ".join(SAME[task]))) == sorted(paths)


def test_the_table_begins_with_the_tasks_and_each_row_says_where_and_what_holds_it() -> None:
    assert list(PUT)[: len(TASKS)] == list(TASKS) == list(SAME)
    for what, (product, held_by) in PUT.items():
        assert PATH.findall(product) or "<section>" in product, what
        assert PATH.findall(held_by), what


def place_of(row: FaultKind) -> str:
    """Where a kind acts, in the words of the manual."""
    match row.place:
        case "link":
            return "a link"
        case "target":
            return "the reference target"
        case "service":
            return ", ".join(row.services) if len(row.services) < 3 else "any service"
    return row.place


def test_the_manual_tells_every_kind_of_fault_with_its_place_and_keys() -> None:
    table = {name: cells for name, cells in rows(MANUAL, "Kinds of fault:").items() if name != "kind"}
    assert list(table) == list(KINDS)
    for name, (place, needs, may, what) in table.items():
        row = KINDS[name]
        assert place == place_of(row), name
        assert needs == (", ".join(sorted(row.needs)) or "-"), name
        assert may == (", ".join(sorted(row.may)) or "-"), name
        assert ("Hides the rest." in what) is (row.hides and row.place in ("link", "service")), name
        assert (DESTRUCTIVE in what, INSTANT in what) == (row.destructive, row.instant), name


def test_the_manual_names_every_sink_and_transport() -> None:
    for key, table in (("publishers[].sink", SINKS), ("consumers[].transport", TRANSPORTS)):
        (line,) = (line for line in MANUAL.splitlines() if line.startswith(f"| `{key}`"))
        assert [name for name in table if f'"{name}"' not in line] == []


def test_the_page_of_suites_names_every_word_and_profile_where_it_belongs() -> None:
    page = (ROOT / "docs" / "suite.md").read_text(encoding="utf-8")
    categories, stages = rows(page, "## Categories"), rows(page, "## Stages")
    for category, about in CATEGORIES.items():
        also, said = categories[f"`{category}`"]
        assert said == about
        assert re.findall(r"`(\w+)`", also) == [word for word, meant in WORDS.items() if meant == category]
    pending = page[page.index("**Pending**") :].split("`--list`")[0]
    assert re.findall(r"`(\w+)`", pending) == list(PENDING)
    assert [stage.strip("`") for stage in stages if stage != "stage"] == list(STAGES)
    shipped = {path.stem: path.read_text(encoding="utf-8") for path in (ROOT / "profiles").glob("*.toml")}
    for stage in STAGES:
        labelled = {name for name, text in shipped.items() if stage in tomllib.loads(text)["labels"].get("stages", [])}
        assert set(re.findall(r"`([\w-]+)`", stages[f"`{stage}`"][1])) == labelled, stage
