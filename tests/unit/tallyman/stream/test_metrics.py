"""What can be watched is written down."""

import re
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter
from prometheus_client.metrics import MetricWrapperBase
from tallyman.stream.metrics import ConsumerMetrics

OPERATIONS = Path(__file__).parents[4] / "docs" / "operations.md"


def test_every_metric_of_consume_is_documented() -> None:
    declared = {
        f"{metric._name}{'_total' if isinstance(metric, Counter) else ''}": metric._documentation
        for metric in vars(ConsumerMetrics(CollectorRegistry())).values()
        if isinstance(metric, MetricWrapperBase)
    }
    section = OPERATIONS.read_text().split("## Metrics of `tallyman consume`\n")[1]
    documented = dict(re.findall(r"^\| `(tallyman_\w+)` \| (.*) \|$", section, re.M))

    assert documented == declared
