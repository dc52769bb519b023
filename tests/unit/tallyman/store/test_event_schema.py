"""The event tables as text: on a cluster they are only rendered, no cluster runs here."""

from tallyman.store.event_schema import MIGRATIONS, Layout

ON = " ON CLUSTER 'metering'"


def statements(layout: Layout) -> list[str]:
    return [statement for migration in MIGRATIONS for statement in migration(layout)]


def test_every_statement_may_run_twice() -> None:
    for layout in (Layout(), Layout("metering"), Layout(fsync=True)):
        assert all(
            any(
                text in statement
                for text in (" IF NOT EXISTS ", " MODIFY QUERY", " MODIFY SETTING")
            )
            for statement in statements(layout)
        )


def test_on_one_server_the_tables_are_plain() -> None:
    text = "\n".join(statements(Layout()))

    assert "Replicated" not in text
    assert "CLUSTER" not in text
    assert "ENGINE = ReplacingMergeTree(first_wins) PARTITION BY toYYYYMM(time)" in text


def test_embedded_what_is_inserted_into_events_is_on_disk_before_it_is_acknowledged() -> None:
    [events] = [text for text in statements(Layout(fsync=True)) if " events (" in text]

    assert events.endswith("SETTINGS fsync_after_insert = 1, fsync_part_directory = 1")


def test_on_a_cluster_every_table_is_replicated_behind_a_distributed_one() -> None:
    rendered = statements(Layout("metering"))

    assert all(ON in statement for statement in rendered)
    for table, engine, shard in (
        ("events", "ReplacingMergeTree", "cityHash64(namespace, source, id)"),
        ("seen", "ReplacingMergeTree", "cityHash64(id_hash)"),
        ("seen_by_id", "ReplacingMergeTree", "cityHash64(id_hash)"),
        ("rollup", "ReplacingMergeTree", "cityHash64(namespace, type, hour)"),
        ("changed_namespaces", "ReplacingMergeTree", "cityHash64(namespace)"),
    ):
        [local] = [text for text in rendered if f" {table}_local{ON} (" in text]
        [whole] = [text for text in rendered if f" {table}{ON} AS " in text]
        assert (
            f"ENGINE = Replicated{engine}('/clickhouse/tables/{{uuid}}/{{shard}}', '{{replica}}'"
            in local
        )
        assert whole == (
            f"CREATE TABLE IF NOT EXISTS {table}{ON} AS {table}_local "
            f"ENGINE = Distributed('metering', currentDatabase(), {table}_local, {shard})"
        )


def test_on_a_cluster_the_first_content_of_an_event_still_wins() -> None:
    [events] = [
        text for text in statements(Layout("metering")) if " events_local" in text and "(\n" in text
    ]

    assert "'{replica}', first_wins)" in events


def test_on_a_cluster_a_setting_is_of_the_replicated_table() -> None:
    changed = [text for text in statements(Layout("metering")) if " MODIFY SETTING " in text]

    assert [text.split(" MODIFY")[0] for text in changed] == [f"ALTER TABLE events_local{ON}"]


def test_a_clusters_name_is_quoted() -> None:
    assert r"ON CLUSTER 'a\' b'" in statements(Layout("a' b"))[0]
