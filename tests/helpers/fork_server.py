"""Python processes that are forked from a server in which PyTorch and the other slow modules are imported.

A new interpreter needs seconds of processor time to import them. Besides, the server has only computed what
is the same in every process (`precompute`), so a forked process does what `python` would do with the same
arguments. If its `PYTHONPATH` has another copy of this package, it imports that copy; other modules are as
they are.
"""

import atexit
import contextlib
import gc
import importlib
import io
import os
import pickle
import runpy
import selectors
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

import mammo
from mammo.fast_imports import quick_imports

# Name of the server's socket. The workers of pytest-xdist inherit it, so all of them use one server.
ADDRESS = "MAMMO_TEST_FORK_SERVER"
os.environ.setdefault(ADDRESS, f"mammo-tests-{os.getpid()}")
MODULES = (
    "mammo.evaluation.training_run",
    "mammo.evaluation.run_evaluation",
    "mammo.sweeping.jobs.launchers",
    "mammo.sweeping.search_results",
    "mammo.sweeping.trial_callback",
    # imported late, only by some commands
    "mammo.data.sources.phantom_source",
    "pyarrow.dataset",
    "pyarrow.parquet",
)
# the parameters of `subprocess.Popen._execute_child` after the first three, by position
_PIPES = ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")
_PARAMETERS = (
    *("close_fds", "pass_fds", "cwd", "env", "startupinfo", "creationflags", "shell"),
    *_PIPES,
    *("restore_signals", "gid", "gids", "uid", "umask", "start_new_session", "process_group"),
)


class ForkedPython(subprocess.Popen[Any]):
    """`subprocess.Popen` of a Python program or module, forked from the server.

    Other command lines, and those with a `preexec_fn`, are run by `subprocess.Popen` itself.
    """

    def _execute_child(self, args: Any, executable: Any, preexec_fn: Any, *rest: Any) -> None:
        given = dict(zip(_PARAMETERS, rest, strict=True))
        self._connection: socket.socket | None = None
        if not is_python_program(args) or preexec_fn is not None:
            super()._execute_child(args, executable, preexec_fn, *rest)  # type: ignore[misc]
            return
        ends = [given[name] for name in ("p2cread", "c2pwrite", "errwrite")]
        streams = [number if end == -1 else end for number, end in enumerate(ends)]
        request = (
            [os.fspath(argument) for argument in args[1:]],
            os.fspath(given["cwd"] or os.getcwd()),
            dict(os.environ if given["env"] is None else given["env"]),
            given["start_new_session"],
        )
        self._connection = connect()
        content = pickle.dumps(request)
        socket.send_fds(self._connection, [struct.pack("i", len(content))], streams)
        self._connection.sendall(content)
        (self.pid,) = struct.unpack("i", self._connection.recv(4))
        self._child_created = True
        self._close_pipe_fds(*(given[name] for name in _PIPES))  # type: ignore[attr-defined]

    def _try_wait(self, wait_flags: int) -> tuple[int, int]:
        if self._connection is None:
            return super()._try_wait(wait_flags)  # type: ignore[misc,no-any-return]
        try:
            answer = self._connection.recv(4, socket.MSG_DONTWAIT if wait_flags & os.WNOHANG else 0)
        except BlockingIOError:
            return 0, 0
        self._connection.close()
        return self.pid, struct.unpack("i", answer)[0] if answer else signal.SIGKILL

    def _internal_poll(self, *arguments: Any, **options: Any) -> int | None:
        if self._connection is None:
            return super()._internal_poll(*arguments, **options)  # type: ignore[misc,no-any-return]
        if self.returncode is None:
            pid, status = self._try_wait(os.WNOHANG)
            if pid:
                self._handle_exitstatus(status)  # type: ignore[attr-defined]
        return self.returncode


def is_python_program(args: Any) -> bool:
    """Whether the command line is `python PROGRAM.py ...` or `python -m mammo.MODULE ...`."""
    if isinstance(args, str | bytes | os.PathLike) or len(args) < 2 or args[0] != sys.executable:
        return False
    program = os.fspath(args[1])
    return program.endswith(".py") or (program == "-m" and args[2].startswith("mammo."))


def connect() -> socket.socket:
    """Connect to the server, which is started if there is none.

    It ends after the process that chose its name.
    """
    address = "\0" + os.environ[ADDRESS]
    started: subprocess.Popen[bytes] | None = None
    while True:
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(address)
            return connection
        except ConnectionRefusedError:
            connection.close()
        if started is None:  # several may be started at once; the second finds the name taken and ends
            paths = os.pathsep.join(path for path in sys.path if path)
            started = subprocess.Popen(
                [sys.executable, "-m", "helpers.fork_server"],
                env=os.environ | {"PYTHONPATH": paths},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                start_new_session=True,
            )
        time.sleep(0.02)


def serve() -> None:
    """Fork a process for each connection and answer with its id, and with its status when it has ended."""
    name = os.environ[ADDRESS]
    owner = int(name.rpartition("-")[2])
    connections: dict[int, socket.socket] = {}
    with socket.socket(socket.AF_UNIX) as listener, selectors.DefaultSelector() as selector:
        try:
            listener.bind("\0" + name)
        except OSError:
            return
        listener.listen(64)
        with quick_imports():
            for module in MODULES:
                importlib.import_module(module)
        precompute()
        gc.collect()
        gc.freeze()  # a collection in a forked process would copy all pages
        wake, woken = socket.socketpair()
        for end in (wake, woken):
            end.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
        selector.register(listener, selectors.EVENT_READ)
        selector.register(woken, selectors.EVENT_READ)
        while alive(owner):
            ready = [key.fileobj for key, _ in selector.select(timeout=1)]
            if woken in ready:
                with contextlib.suppress(BlockingIOError):
                    woken.recv(4096)
            if listener in ready:
                connection, _ = listener.accept()
                request, streams = read_request(connection)
                pid = os.fork()
                if pid == 0:
                    become(request, streams)
                for stream in streams:
                    os.close(stream)
                connection.sendall(struct.pack("i", pid))
                connections[pid] = connection
            for pid, status in ended():
                with connections.pop(pid) as connection, contextlib.suppress(OSError):
                    connection.sendall(struct.pack("i", status))


def precompute() -> None:
    """Compute what a process keeps whatever its arguments are: default settings, and shapes of letters."""
    from mammo.config.calls.differences import from_defaults
    from mammo.evaluation.report.figure_style import new_axes

    from_defaults({}, [])
    figure, _ = new_axes("title")
    figure.savefig(io.BytesIO(), dpi=120)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def ended() -> list[tuple[int, int]]:
    """Return the ids and statuses of the processes that have ended."""
    found = []
    with contextlib.suppress(ChildProcessError):
        while (entry := os.waitpid(-1, os.WNOHANG))[0]:
            found.append(entry)
    return found


def read_request(connection: socket.socket) -> tuple[Any, list[int]]:
    header, streams, *_ = socket.recv_fds(connection, 4, 3)
    with connection.makefile("rb") as file:
        return pickle.loads(file.read(struct.unpack("i", header)[0])), streams


def become(request: Any, streams: list[int]) -> None:
    """Run the program in this forked process, and exit as an interpreter does."""
    arguments, folder, environment, new_session = request
    signal.set_wakeup_fd(-1)
    for sign in (signal.SIGCHLD, signal.SIGINT, signal.SIGHUP):
        signal.signal(sign, signal.default_int_handler if sign == signal.SIGINT else signal.SIG_DFL)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    os.closerange(3, max(map(int, os.listdir("/proc/self/fd"))) + 1)
    if new_session:
        os.setsid()
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    subprocess.Popen = ForkedPython  # type: ignore[misc]
    take_package(environment.get("PYTHONPATH", "").split(os.pathsep))
    code = exit_code(lambda: run(arguments, folder))
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def take_package(paths: list[str]) -> None:
    """Forget the package that the server has imported if another one precedes it in the paths."""
    there = next((path for path in paths if path and os.path.isdir(os.path.join(path, "mammo"))), None)
    if there is None or os.path.samefile(os.path.join(there, "mammo"), os.path.dirname(mammo.__file__)):
        return
    for name in [name for name in sys.modules if name.partition(".")[0] == "mammo"]:
        del sys.modules[name]
    sys.path[1:1] = paths


def run(arguments: list[str], folder: str) -> None:
    safe = bool(os.environ.get("PYTHONSAFEPATH"))
    if arguments[0] == "-m":
        sys.argv = arguments[1:]
        sys.path[:1] = [] if safe else [folder]
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = arguments
        sys.path[:1] = [] if safe else [os.path.dirname(os.path.abspath(arguments[0]))]
        runpy.run_path(arguments[0], run_name="__main__")


def exit_code(program: Callable[[], None]) -> int:
    try:
        program()
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return int(end.code or 0)
        print(end.code, file=sys.stderr)
        return 1
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    serve()
