"""A pipe's two transports in any order of calls: no byte lost, repeated or out of order."""

import socket
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

import pinloop
from tests.core.support import Pipe, raise_reported, run_until, turn

sizes = st.sampled_from([0, 1, 10, 4096, 33_000, 65_536, 200_000])
steps = st.one_of(
    st.tuples(st.just("write"), sizes),
    st.tuples(st.just("limits"), st.sampled_from([(0, 0), (100, 10), (100_000, 0)])),
    st.tuples(st.just("pause"), st.none()),
    st.tuples(st.just("resume"), st.none()),
    st.tuples(st.just("drain"), st.none()),
    st.tuples(st.just("turns"), st.integers(1, 3)),
)


@settings(max_examples=200, deadline=None)
@given(
    plan=st.lists(steps, max_size=25),
    ending=st.sampled_from(["close", "write_eof", "abort", "reader"]),
    kind=st.sampled_from(["pipe", "socket"]),
)
def test_bytes_arrive_in_order_whatever_happens(plan: list[Any], ending: str, kind: str) -> None:
    loop = pinloop.new_event_loop()
    loop.set_exception_handler(raise_reported)
    pipe = Pipe(loop, socket.socketpair() if kind == "socket" else None)
    sent = b""
    for what, value in plan:
        if what == "write":
            data = (bytes((len(sent) + i) & 0xFF for i in range(min(value, 255))) * (value // 255 + 1))[
                :value
            ]
            pipe.wt.write(data)
            sent += data
        elif what == "limits":
            pipe.wt.set_write_buffer_limits(*value)
        elif what == "pause":
            pipe.rt.pause_reading()
        elif what == "resume":
            pipe.rt.resume_reading()
        elif what == "drain":
            pipe.rt._drain()
        else:
            for _ in range(value):
                turn(loop)
        assert sent.startswith(pipe.reader.got)
        assert pipe.wt.get_write_buffer_size() <= len(sent) - len(pipe.reader.got)
    if ending == "reader":
        pipe.rt.close()
    else:
        getattr(pipe.wt, ending)()
        pipe.rt.resume_reading()
    run_until(loop, lambda: pipe.reader.lost and pipe.writer.lost)
    assert sent.startswith(pipe.reader.got)
    if ending in ("close", "write_eof"):
        assert pipe.reader.got == sent
    flow = [name for name in pipe.writer.told if name in ("pause", "resume")]
    assert flow == ["pause", "resume"] * (len(flow) // 2) + ["pause"] * (len(flow) % 2)
    loop.close()
