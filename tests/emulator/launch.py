"""Starts bqemulator with its repairs: `launch.py PORT`; the Storage API listens one port further."""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
# Whoever would download something at the start finds no way out, on every machine.
os.environ.update(dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9"))


def main() -> None:
    """Mend and serve until killed."""
    port = int(sys.argv[1])
    from bqemulator import server  # pylint: disable=import-outside-toplevel
    from bqemulator.config import LogLevel, Settings  # pylint: disable=import-outside-toplevel

    from tests.emulator import repairs  # pylint: disable=import-outside-toplevel

    for repair in repairs.ALL:
        if repair.__name__ != os.environ.get("EMULATOR_WITHOUT"):
            repair()
    server.run_forever(Settings(rest_port=port, grpc_port=port + 1, log_level=LogLevel.ERROR))


if __name__ == "__main__":
    main()
