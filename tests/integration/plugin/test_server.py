"""The plugin server for real: a subprocess as in production, driven over its socket as Kong does."""

from collections.abc import Callable

from tallyman.demo.kong_driver import KongDriver

from tests.rigs.plugin import PluginCommand, Receiver, entry, until

NOWHERE = {"ingest_endpoint": "http://127.0.0.1:9/events"}  # the discard port: nobody listens
Command = Callable[..., PluginCommand]


def _play(driver: KongDriver, instance: int, requests: list[str]) -> None:
    for request in requests:
        driver.log(instance, entry(request))


async def test_a_call_comes_out_at_the_sink_with_its_number_and_the_token(
    plugin: PluginCommand, receiver: Receiver
) -> None:
    driver = plugin.connect()

    instance = driver.start_instance({"ingest_endpoint": receiver.url, "api_token": "tm_key"})
    driver.log(instance, entry("r-1"))
    await until(lambda: len(receiver.taken) == 2)

    first = receiver.received[0]
    assert first.headers["authorization"] == "Bearer tm_key"
    assert first.headers["content-type"] == "application/cloudevents-batch+json"
    assert [(e["id"], e["nodeid"], e["sequence"], e["data"]["tokens"]) for e in first.events] == [
        ("r-1:proxy:request", "kong-1", "000000000000000001", 23),
        ("r-1:proxy:response", "kong-1", "000000000000000002", 11),
    ]
    await until(lambda: plugin.spooled() == [])
