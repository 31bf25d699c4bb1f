"""A kernel that was started before papermill asks for it, and is ended by who started it. Imported when a notebook runs: it loads Jupyter's client."""

from pathlib import Path
from typing import Any

from jupyter_client.manager import AsyncKernelManager
from jupyter_core.utils import run_sync


class Kernel(AsyncKernelManager):
    """A kernel with its clients, which papermill leaves open when it did not start the kernel."""

    def __init__(self) -> None:
        super().__init__(kernel_name="python3")
        self._clients: list[Any] = []

    def begin(self, first: str, folder: Path, log: Path) -> None:
        """Start it.

        Args:
            first: A line of code that it runs first.
            folder: Its working directory.
            log: Where goes what it says on stderr: TensorFlow greets with a page there.
        """
        with log.open("ab") as file:
            start = run_sync(self.start_kernel)
            start(extra_arguments=[f"--IPKernelApp.exec_lines={first}"], cwd=str(folder), stdout=file, stderr=file)

    def client(self, **kwargs: Any) -> Any:
        """Return a client, as papermill asks for it."""
        made = super().client(**kwargs)
        self._clients.append(made)
        return made

    def end(self) -> None:
        """End it at once: what it had to keep is kept by then."""
        for client in self._clients:
            client.stop_channels()
        run_sync(self.shutdown_kernel)(now=True)
