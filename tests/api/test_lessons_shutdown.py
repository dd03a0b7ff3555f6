"""An interpreter that ends while a loop is alive ends: no crash, no hang, its own exit status."""

import subprocess
import sys

import pytest

from tests.api.support import ON_PINLOOP, environment

NEW_LOOP = "pinloop.new_event_loop()" if ON_PINLOOP else "asyncio.new_event_loop()"

PREAMBLE = f"""
import asyncio, os, socket, sys, threading, time
{"import pinloop" if ON_PINLOOP else ""}
loop = {NEW_LOOP}
"""

PROGRAMS = {
    "a loop never run": "",
    "a loop that ran": "loop.run_until_complete(asyncio.sleep(0))",
    "callbacks and timers waiting": """
loop.run_until_complete(asyncio.sleep(0))
loop.call_soon(print)
loop.call_later(3600, print)
loop.call_soon_threadsafe(print)
""",
    "a loop in a daemon thread that sleeps": """
threading.Thread(target=loop.run_forever, daemon=True).start()
while not loop.is_running(): time.sleep(0.001)
""",
    "a loop in a daemon thread that is busy": """
def again(): loop.call_soon(again)
loop.call_soon(again)
threading.Thread(target=loop.run_forever, daemon=True).start()
while not loop.is_running(): time.sleep(0.001)
""",
    "a daemon thread that calls into a loop": """
def call():
    while True: loop.call_soon_threadsafe(int)
threading.Thread(target=call, daemon=True).start()
loop.run_until_complete(asyncio.sleep(0.01))
""",
    "transports and a server": """
async def main():
    server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
    made = await loop.create_connection(asyncio.Protocol, *server.sockets[0].getsockname())
    udp = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, ("127.0.0.1", 0))
    made[0].write(bytes(10_000_000))
    return server, made, udp
kept = loop.run_until_complete(main())
""",
    "a server in a daemon thread": """
async def main():
    global kept
    server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
    kept = server, await loop.create_connection(asyncio.Protocol, *server.sockets[0].getsockname())
    ready.set()
    await asyncio.sleep(3600)
ready = threading.Event()
task = loop.create_task(main())
threading.Thread(target=loop.run_forever, daemon=True).start()
ready.wait()
""",
    "a child": """
async def main():
    return await loop.subprocess_exec(asyncio.SubprocessProtocol, "sleep", "60")
kept = loop.run_until_complete(main())
kept[0].kill()
""",
    "a TLS handshake under way": """
import ssl
async def main():
    near, far = socket.socketpair()
    near.setblocking(False)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    loop.create_task(loop.create_connection(asyncio.Protocol, sock=near, ssl=context, server_hostname="x"))
    await asyncio.sleep(0.01)
    return far
kept = loop.run_until_complete(main())
""",
    "socket calls and readers waiting": """
near, far = socket.socketpair()
near.setblocking(False)
loop.add_reader(far, print)
async def main():
    task = loop.create_task(loop.sock_recv(near, 1))
    await asyncio.sleep(0)
    return task
kept = loop.run_until_complete(main())
""",
    "a loop in a cycle with itself": """
loop.me = loop
loop.call_soon(lambda: loop)
del loop
""",
}

ENDINGS = {
    "the end": ("", 0),
    "sys.exit": ("sys.exit(3)", 3),
    "an exception": ("raise LookupError('mine')", 1),
}


@pytest.mark.parametrize(
    ("program", "ending"),
    [
        *((program, "the end") for program in PROGRAMS),
        *((program, "sys.exit") for program in ("a loop that ran", "a server in a daemon thread")),
        *((program, "an exception") for program in ("a loop that ran", "transports and a server")),
    ],
)
def test_the_interpreter_ends(program: str, ending: str) -> None:
    last, status = ENDINGS[ending]
    code = f"{PREAMBLE}{PROGRAMS[program]}\n{last}\n"
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-W", "always::ResourceWarning", "-c", code],
        capture_output=True, text=True, timeout=20, check=False,
        env=environment(PYTHONASYNCIODEBUG=""),  # whose reports have stacks
    )  # fmt: skip
    assert done.returncode == status, done.stderr
    assert "Fatal" not in done.stderr
    if ON_PINLOOP:
        assert [line for line in done.stderr.splitlines() if unexpected(line, ending)] == []


def unexpected(line: str, ending: str) -> bool:
    """Whether this line of stderr is about more than resources left open and the program's exception."""
    if ending == "an exception" and line.startswith(("Traceback", "LookupError", '  File "<string>"')):
        return False
    known = ("ResourceWarning", "Task was destroyed but it is pending", "task: <Task", "coroutine ", "  ")
    return bool(line) and not any(word in line if word != "  " else line.startswith(word) for word in known)


def test_a_signal_ends_a_program_with_a_loop_in_a_daemon_thread() -> None:
    code = (
        PREAMBLE
        + PROGRAMS["a loop in a daemon thread that sleeps"]
        + "print('ready', flush=True)\ntime.sleep(60)"
    )
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment()) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        child.terminate()
        assert child.wait(10) == -15
