"""`python -m mock_provider`: serve on one address until it is told to stop."""

import argparse

from aiohttp import web

from mock_provider.app import build


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="mock_provider",
        description="An LLM provider that needs no key: one token a word, on both sides.",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=8090, help="port to listen on; 0: any")
    arguments = parser.parse_args()
    web.run_app(build(), host=arguments.host, port=arguments.port)


if __name__ == "__main__":
    main()
