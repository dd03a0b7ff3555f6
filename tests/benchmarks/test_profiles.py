"""Outputs of callgrind and perf, read: whose each instruction and each sample is."""

from collections.abc import Callable
from types import ModuleType

import pytest

CALLGRIND = """\
# callgrind format
positions: line
events: Ir
summary: 1234

ob=(1) /usr/lib/libpython3.11.so.1.0
fl=(1) ceval.c
fn=(7) _PyEval_EvalFrameDefault
16 400
+3
+1 20
cob=(2) /site/pinloop/_core.cpython-311-x86_64-linux-gnu.so
cfn=(9) __pyx_f_7pinloop_5_core_4Loop_fill
calls=5 90
* 5000
* 1
fi=(2) object.h
-4 9
fe=(1)

ob=(2)
fn=(9)
90 4000
cfn=(7)
calls=1 16
+1 77

ob=(1)
fn=(7)
16 2

totals: 4432
"""


@pytest.fixture
def profiles(program: Callable[[str], ModuleType]) -> ModuleType:
    return program("profiles")


def test_what_a_function_calls_is_not_its_own(profiles: ModuleType) -> None:
    python, module = "/usr/lib/libpython3.11.so.1.0", "/site/pinloop/_core.cpython-311-x86_64-linux-gnu.so"
    assert profiles.read_callgrind(CALLGRIND) == {
        profiles.Spot(python, "_PyEval_EvalFrameDefault"): 432,
        profiles.Spot(module, "__pyx_f_7pinloop_5_core_4Loop_fill"): 4000,
    }


def test_a_difference_is_per_operation(profiles: ModuleType) -> None:
    ours, other = (profiles.Spot("/x/_core.so", name) for name in ("run", "once"))
    few, many = profiles.Counter({ours: 100, other: 7}), profiles.Counter({ours: 300, other: 7})
    assert profiles.difference(many, few, 50) == {ours: 4, other: 0}


@pytest.mark.parametrize(
    ("file", "name", "part"),
    [
        ("/x/_core.cpython-311-x86_64-linux-gnu.so", "PyObject_Malloc", "pinloop._core"),
        ("/x/_asyncio.cpython-311-x86_64-linux-gnu.so", "task_step_impl", "asyncio's C module"),
        ("/x/libpython3.11.so.1.0", "_PyObject_GC_NewVar", "interpreter: objects, memory"),
        ("/usr/bin/python3.14", "_PyEval_EvalFrameDefault", "interpreter: bytecode, coroutines"),
        ("/usr/bin/python3.14", "PyGen_am_send", "interpreter: bytecode, coroutines"),
        ("/usr/bin/python3.14", "PyContext_Enter", "interpreter: contexts"),
        ("/usr/bin/python3.14", "_Py_dict_lookup", "interpreter: attributes, dicts"),
        ("/usr/bin/python3.14", "method_vectorcall_O", "interpreter: calls"),
        ("/usr/bin/python3.14", "???", "interpreter: the rest"),
        ("/usr/lib/libc.so.6", "malloc", "C library"),
        ("/tmp/floors.cpython-311.so", "run", "other"),
    ],
)
def test_whose_a_function_is(profiles: ModuleType, file: str, name: str, part: str) -> None:
    assert profiles.of_spot(profiles.Spot(file, name)) == part


@pytest.mark.parametrize(
    ("name", "pretty"),
    [
        ("__pyx_f_7pinloop_5_core_4Loop_make_handle", "Loop_make_handle"),
        ("__pyx_f_7pinloop_5_core_16StreamTransport_on_ready.part.0", "StreamTransport_on_ready"),
        ("_Py_dict_lookup", "_Py_dict_lookup"),
        ("_PyEval_EvalFrameDefault'2", "_PyEval_EvalFrameDefault"),
        ("memcpy.constprop.3", "memcpy"),
    ],
)
def test_names_for_people(profiles: ModuleType, name: str, pretty: str) -> None:
    assert profiles.pretty(name) == pretty


def test_functions_of_a_stripped_library_have_no_name(profiles: ModuleType) -> None:
    assert profiles.label("0x00000000005cda30") == profiles.label("???") == "without a name"
    assert profiles.label("__pyx_f_7pinloop_5_core_4Loop_fill") == "`Loop_fill`"


def test_samples_by_system_call(profiles: ModuleType) -> None:
    kernel = "([kernel.kallsyms])"
    script = f"""
\tffffffff81417437 tcp_sendmsg+0x1f {kernel}
\tffffffff821ef85b __x64_sys_sendto+0x24 {kernel}
\tffffffff821ef85b do_syscall_64 {kernel}
\t           11f59 send (/usr/lib/libc.so.6)

\tffffffff81417437 ep_poll {kernel}
\tffffffff821ef85b __x64_sys_epoll_wait {kernel}

\tffffffff81417437 asm_sysvec_apic_timer_interrupt {kernel}
\t           11f59 fill (/x/_core.so)

\t           11f59 fill (/x/_core.so)
\t           11f60 sys_send_is_no_frame_of_the_kernel (/x/libpython3.11.so)

\t    7fd94aae0d40 [unknown] ([unknown])

"""
    assert profiles.read_perf(script) == {
        "kernel: sending": 1,
        "kernel: poll": 1,
        "kernel: the rest": 1,
        "pinloop._core": 1,
        "other": 1,
    }
