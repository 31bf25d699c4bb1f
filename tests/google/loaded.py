"""Runs gcloud, loaded once: `loaded.py SOCKET .../gcloud.py ARGUMENT...` hands a command to `loaded.py --serve SOCKET .../gcloud.py`.

Most of a command's time goes into importing gcloud. The server has done that, and forks for each command: the child gets its arguments,
environment, folder and streams, and is gcloud as it is, but for its pauses. After a 5xx and after a connection that broke gcloud asks
again, five times in half a minute; here in a second or two. Where no server listens, gcloud is loaded and run here.
"""

import contextlib
import gc
import importlib
import json
import os
import random
import runpy
import select
import signal
import socket
import sys
import threading
import time

FASTER = 20
MODULES = (
    "googlecloudsdk.gcloud_main",
    "googlecloudsdk.command_lib.run.flags",
    "googlecloudsdk.command_lib.run.serverless_operations",
    "googlecloudsdk.core.credentials.requests",
    "googlecloudsdk.generated_clients.apis.run.v1.run_v1_client",
    "googlecloudsdk.generated_clients.apis.run.v2.run_v2_client",
)
MOST = 2**20  # bytes of a command with its environment


def hand_over(path: str, arguments: list[str]) -> None:
    """Let the server run a command, and end as it ends; return where no server listens."""
    server = socket.socket(socket.AF_UNIX)
    try:
        server.connect(path)
    except OSError:
        return
    command = {"arguments": arguments, "environment": dict(os.environ), "folder": os.getcwd()}
    socket.send_fds(server, [json.dumps(command).encode()], [0, 1, 2])
    sys.exit((server.recv(1) or b"\1")[0])


def serve(path: str, gcloud: str) -> None:
    """Import gcloud, then fork for each command, until whoever started this closes its standard input."""
    library = os.path.dirname(gcloud)
    sys.path[:1] = [os.path.join(library, "third_party"), library]
    for name in MODULES:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    hurry()
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen(64)
        while sys.stdin not in select.select([sys.stdin, server], [], [])[0]:
            client, _ = server.accept()
            if os.fork() == 0:
                server.close()
                run(client)
            client.close()


def run(client: socket.socket) -> None:
    """Be the gcloud that the client asked for, and end when it is gone."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    message, streams, _, _ = socket.recv_fds(client, MOST, 3)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    command = json.loads(message)
    os.environ.clear()
    os.environ.update(command["environment"])
    os.chdir(command["folder"])
    sys.argv[:] = command["arguments"]
    random.seed()
    threading.Thread(target=lambda: client.recv(1) or os._exit(1), daemon=True).start()
    code = 1
    try:
        # What was read of the settings while gcloud was loaded is another account's.
        importlib.import_module("googlecloudsdk.core.configurations.named_configs").ActivePropertiesFile.Invalidate()
        code = importlib.import_module("googlecloudsdk.gcloud_main").main() or 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        with contextlib.suppress(OSError):
            client.sendall(bytes([code]))
        os._exit(code)


def hurry() -> None:
    """Shorten gcloud's pauses, and collect no garbage."""
    sleep = time.sleep
    time.sleep = lambda seconds: sleep(float(seconds) / FASTER)
    gc.disable()


if __name__ == "__main__":
    if sys.argv[1] == "--serve":
        serve(*sys.argv[2:])
    else:
        hand_over(sys.argv[1], sys.argv[2:])
        hurry()
        del sys.argv[:2]
        sys.path[0] = os.path.dirname(sys.argv[0])
        runpy.run_path(sys.argv[0], run_name="__main__")
