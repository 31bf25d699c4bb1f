"""Starts bqemulator with its repairs: `launch.py PORT [--without REPAIR ...]`; the Storage API listens one port further."""

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
# Whoever would download something at the start finds no way out, on every machine.
os.environ.update(dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9"))


def main() -> None:
    """Mend and serve until killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("--without", nargs="*", default=[])
    given = parser.parse_args()

    from bqemulator import server  # pylint: disable=import-outside-toplevel
    from bqemulator.config import LogLevel, Settings  # pylint: disable=import-outside-toplevel

    from tests.emulator import repairs  # pylint: disable=import-outside-toplevel

    for repair in repairs.ALL:
        if repair.__name__ not in given.without:
            repair()
    server.run_forever(Settings(rest_port=given.port, grpc_port=given.port + 1, log_level=LogLevel.ERROR))


if __name__ == "__main__":
    main()
