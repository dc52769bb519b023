"""What the pool does with its clients, before any of them is asked."""

import pytest
from tallyman.errors import Unavailable
from tallyman.store.clickhouse import ClickHouse


class Client:
    """One of the driver's, as far as it is opened and closed."""

    is_closed = False

    def close(self) -> None:
        self.is_closed = True


def test_a_pool_that_cannot_be_opened_closes_the_clients_that_could() -> None:
    opened: list[Client] = []

    def open_client() -> Client:
        if len(opened) == 2:
            raise ConnectionRefusedError
        opened.append(Client())
        return opened[-1]

    with pytest.raises(Unavailable):
        ClickHouse(open_client)  # type: ignore[arg-type]  # as far as it is used here

    assert [client.is_closed for client in opened] == [True, True]
