"""The how-tos that need Kafka and Redis, on real ones."""

from __future__ import annotations

from pathlib import Path

import pytest
import shell_blocks
from servers import KafkaServer, RedisServer

pytestmark = pytest.mark.containers

# In the order in which a reader needs them: the first one creates the topics.
PAGES = (
    "run-on-your-servers", "look-at-a-customer", "forget-a-customer", "handle-dead-letters",
    "change-features",
)  # fmt: skip


@pytest.mark.timeout(900)
def test_the_how_tos_run_as_they_are_written(
    kafka: KafkaServer, redis_server: RedisServer, unique: str, tmp_path: Path
) -> None:
    environment = {
        "STREAM_SCORER__KAFKA__BOOTSTRAP_SERVERS": kafka.bootstrap,
        "STREAM_SCORER__KAFKA__GROUP_ID": unique,
        "STREAM_SCORER__KAFKA__INPUT_TOPIC": f"{unique}-events",
        "STREAM_SCORER__KAFKA__OUTPUT_TOPIC": f"{unique}-propensities",
        "STREAM_SCORER__KAFKA__DEAD_LETTER_TOPIC": f"{unique}-dead-letters",
        "STREAM_SCORER__KAFKA__INPUT_PARTITIONS": "2",
        "STREAM_SCORER__KAFKA__OUTPUT_PARTITIONS": "2",
        "STREAM_SCORER__REDIS__URL": redis_server.url,
        "STREAM_SCORER__STORE__NAMESPACE": unique,
        "STREAM_SCORER_CONFIG": "stream_scorer.toml",
    }
    shop = shell_blocks.make_shop(tmp_path)
    for name in PAGES:
        shell_blocks.run(
            shell_blocks.DOCS / "how-to" / f"{name}.md", "containers", shop, environment
        )
    assert (shop / "snapshot").is_dir()
    assert {page.stem for page in shell_blocks.pages_of("containers")} == set(PAGES)
