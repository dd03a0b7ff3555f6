"""The tables of docs/performance.md, and its marks."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from pinloop.bench.errors import BenchError

DOCUMENT = Path(__file__).parents[2] / "docs" / "performance.md"


@pytest.fixture
def performance(program: Callable[[str], ModuleType]) -> ModuleType:
    return program("performance")


def findings(performance: ModuleType) -> dict[str, object]:
    """Every subject costs the same: 1000 instructions and 100 ns, its floor a quarter of them."""
    spot = performance.profiles.Spot
    costs = {
        spot("/x/_core.so", "__pyx_f_7pinloop_5_core_4Loop_fill"): 700.0,
        spot("/x/libpython3.so", "_PyEval_EvalFrameDefault"): 295.0,
        spot("/x/libc.so.6", "malloc"): 5.0,
    }
    floor = {spot("/x/libpython3.so", "_PyEval_EvalFrameDefault"): 250.0}
    found = {subject.cell: performance.Finding(100.0, costs) for subject in performance.SUBJECTS}
    return found | {subject.floor: performance.Finding(30.0, floor) for subject in performance.SUBJECTS}


def served(performance: ModuleType) -> tuple[object, object]:
    """Two servers: 10 µs, a tenth of it ours, and the floor with 9."""
    ours = performance.Served(10.0, Counter({"kernel: sending": 90, "pinloop._core": 10}))
    return ours, performance.Served(9.0, Counter({"kernel: sending": 30}))


def test_parts_are_shares_of_the_time(performance: ModuleType) -> None:
    tables = performance.all_tables(findings(performance), served(performance))
    assert tables["call-soon parts"][2:] == [
        "| pinloop._core | 700 | 70% | 70 |",
        "| interpreter: bytecode, coroutines | 295 | 30% | 30 |",
        "| the rest | 5 | 0% | 0 |",
        "| **all** | **1000** |  | **100** |",
        "| the floor | 250 | 25% | 30 |",
    ]
    # Instructions say nothing of the time that the kernel takes.
    assert tables["echo parts"][2] == "| pinloop._core | 700 | 70% |  |"
    assert tables["switch functions"][2] == "| `Loop_fill` | pinloop._core | 700 | 70% |"
    assert tables["tcp echo"][2:] == [
        "| kernel: sending | 9.00 | 9.00 |",
        "| pinloop._core | 0.00 | 1.00 |",
        "| **all** | **9.00** | **10.00** |",
    ]


def test_the_document_has_every_mark(performance: ModuleType) -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    tables = performance.all_tables(findings(performance), served(performance))
    renewed = performance.put_tables(text, tables)
    assert "| the floor | 250 | 25% | 30 |" in renewed
    # What lies between the marks is replaced, and nothing else.
    assert performance.put_tables(renewed, tables) == renewed
    assert renewed.count("<!-- end -->") == text.count("<!-- end -->") == len(tables)
    assert "## Tried and dropped" in renewed


def test_a_missing_mark_is_named(performance: ModuleType) -> None:
    with pytest.raises(BenchError, match="'tcp echo' is 0 times"):
        performance.put_tables("# Performance\n", {"tcp echo": []})


def test_the_picture(performance: ModuleType, program: Callable[[str], ModuleType], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    draw = program("performance_chart").draw
    found = findings(performance)
    panels = [(s.title, s.kernel, found[s.cell], found[s.floor]) for s in performance.SUBJECTS]
    draw(panels, served(performance), tmp_path / "one.svg")
    draw(panels, served(performance), tmp_path / "two.svg")
    first = (tmp_path / "one.svg").read_text()
    assert first == (tmp_path / "two.svg").read_text()
    for subject in performance.SUBJECTS:
        assert subject.title in first
    draw(panels, None, tmp_path / "less.svg")
    assert "over TCP" not in (tmp_path / "less.svg").read_text()
