"""Who the instructions and the samples belong to: the outputs of callgrind and of `perf script`, read."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

NAME = re.compile(r"\((\d+)\)(?: (.*))?")
CYTHON = re.compile(r"__pyx_(?:f|pf|pw|gb|tp_\w+?)_7pinloop_5_core_|__pyx_")
MANGLED_LENGTH = re.compile(r"(?:^|(?<=_))\d+(?=[A-Za-z_])")

MODULE, ASYNCIO, PYTHON, LIBC, OTHER = (
    "pinloop._core",
    "asyncio's C module",
    "interpreter",
    "C library",
    "other",
)
EVALUATION, CALLS, MEMORY, CONTEXT, LOOKUP, UNSORTED = (
    "interpreter: bytecode, coroutines",
    "interpreter: calls",
    "interpreter: objects, memory",
    "interpreter: contexts",
    "interpreter: attributes, dicts",
    "interpreter: the rest",
)
INTERPRETER = (
    (EVALUATION, re.compile(r"_PyEval_EvalFrame|^gen_|PyIter_Send|_PyGen_|PyGen_|^coro_|^PyCoro|^async_gen")),
    (CONTEXT, re.compile(r"[Cc]ontext|hamt", re.IGNORECASE)),
    (
        MEMORY,
        re.compile(
            r"alloc|[Mm]em_|_Free|_free$|GC_|^gc_|dealloc|collect|subtract_refs|visit_|traverse|untrack|"
            r"PyType_Generic|_PyObject_(Init|New)|PyObject_(Init|New)|ClearWeakRefs|_New|^PyLong_From"
        ),
    ),
    (LOOKUP, re.compile(r"dict|[Ll]ookup|[Gg]et_?[Aa]ttr|[Ss]et_?[Aa]ttr|descr|^type_|^set_|^object_")),
    (
        CALLS,
        re.compile(r"[Vv]ectorcall|_Call|^call_|_PyFunction|method_|cfunction|meth_get|_PyCheckRecursive"),
    ),
)

RECEIVE, SEND, POLL, KERNEL = "kernel: receiving", "kernel: sending", "kernel: poll", "kernel: the rest"
SYSTEM_CALLS = (
    (RECEIVE, re.compile(r"^(__x64_|__arm64_|__)?sys_(recv|read)")),
    (SEND, re.compile(r"^(__x64_|__arm64_|__)?sys_(send|write)")),
    (POLL, re.compile(r"^(__x64_|__arm64_|__)?sys_(epoll|poll|select|pselect|ppoll)")),
)


@dataclass(frozen=True)
class Spot:
    """A function in a file of code."""

    file: str
    name: str


def pretty(name: str) -> str:
    """A C function's name without what Cython and the compiler put around it."""
    stripped = CYTHON.sub("", name.partition("'")[0])
    if stripped != name:
        stripped = MANGLED_LENGTH.sub("", stripped)
    return re.sub(r"\.(part|constprop|isra|cold|lto_priv)\.?\d*", "", stripped)


def label(name: str) -> str:
    """A function's name in a table; a stripped library tells only those that it exports."""
    return "without a name" if name.startswith(("0x", "???")) else f"`{pretty(name)}`"


def of_file(file: str) -> str:
    """Whose a file of code is."""
    base = file.rpartition("/")[2]
    if base.startswith("_core."):
        return MODULE
    if base.startswith("_asyncio."):
        return ASYNCIO
    if base.startswith(("libpython", "python")):
        return PYTHON
    return LIBC if re.match(r"lib(c|pthread|m)[.-]|ld-", base) else OTHER


def of_spot(spot: Spot) -> str:
    """Whose a function is; what is the interpreter's is divided by what it does."""
    whose = of_file(spot.file)
    if whose != PYTHON:
        return whose
    for part, pattern in INTERPRETER:
        if pattern.search(spot.name):
            return part
    return UNSORTED


def read_callgrind(text: str) -> Counter[Spot]:
    """Instructions of each function itself, without those of the functions it calls."""
    names: dict[str, dict[str, str]] = {"ob": {}, "fn": {}}
    found: Counter[Spot] = Counter()
    spot, file, inclusive = Spot("", ""), "", False
    for line in text.splitlines():
        if line[:1].isdigit() or line[:1] in "+-*":
            # A line without a cost costs nothing.
            if not inclusive and (words := line.split())[1:]:
                found[spot] += int(words[1])
            inclusive = False
        elif line.startswith("calls="):
            inclusive = True  # the next line is what the function called has cost
        elif line[:3] in {"ob=", "fn="} or line[:4] in {"cob=", "cfn="}:
            key, _, value = line.partition("=")
            name = _resolve(names[key[-2:]], value)
            if key == "ob":
                file = name
            elif key == "fn":
                spot = Spot(file, name)
    return found


def _resolve(names: dict[str, str], text: str) -> str:
    """A name, or the number that stands for it from its second mention on."""
    found = NAME.fullmatch(text)
    if found is None:
        return text
    number, name = found.groups()
    if name is not None:
        names[number] = name
    return names.get(number, f"({number})")


def difference(many: Counter[Spot], few: Counter[Spot], operations: int) -> dict[Spot, float]:
    """Instructions per operation of each function, from two runs."""
    return {spot: (many[spot] - few[spot]) / operations for spot in many.keys() | few.keys()}


def by_part(costs: dict[Spot, float]) -> dict[str, float]:
    """The same by whose they are, most first."""
    parts: Counter[str] = Counter()
    for spot, cost in costs.items():
        parts[of_spot(spot)] += cost  # type: ignore[assignment]
    return dict(parts.most_common())


def read_perf(text: str) -> Counter[str]:
    """Samples by part, from `perf script -F ip,sym,dso`.

    A blank line ends a stack, and its innermost frame comes first.
    """
    found: Counter[str] = Counter()
    for stack in re.split(r"\n\s*\n", text):
        frames = [frame for line in stack.splitlines() if (frame := _frame(line))]
        if frames:
            found[_of_stack(frames)] += 1
    return found


def _frame(line: str) -> Spot | None:
    found = re.match(r"\s*[0-9a-f]+ (.+) \((.*)\)$", line)
    return Spot(found[2], found[1].partition("+")[0]) if found else None


def _of_stack(frames: list[Spot]) -> str:
    if "kernel" not in frames[0].file:
        return of_file(frames[0].file)
    for frame in frames:
        for part, pattern in SYSTEM_CALLS:
            if "kernel" in frame.file and pattern.search(frame.name):
                return part
    return KERNEL
