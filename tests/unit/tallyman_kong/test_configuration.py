"""What of the plugin's configuration is refused: a wrong value is named, and never passes silently."""

from typing import Any

import pytest
from tallyman_kong.configuration import configuration

TEAM = {"source": "header", "look_up_value_in": "x-team", "event_property_name": "team"}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"source": ""}, "source must be text"),
        ({"source": 5}, "source must be text"),
        ({"source": "k" * 257}, "source must be at most 256 characters"),
        ({"split_cached_tokens": "true"}, "split_cached_tokens must be true or false, not 'true'"),
        ({"failed_calls": "maybe"}, "failed_calls must be one of waive, charge"),
        ({"estimated_counts": True}, "estimated_counts must be one of charge, waive"),
        ({"subject": "header"}, "subject must be a record"),
        ({"subject": {"look_up": "header"}}, "subject has no field look_up"),
        ({"subject": {"look_up_value_in": "ip"}}, r"subject\.look_up_value_in must be one of"),
        ({"subject": {"field": "email"}}, r"subject\.field must be one of"),
        (
            {"subject": {"look_up_value_in": "header", "field": "x team"}},
            r"subject\.field must name a request header",
        ),
        ({"attributes": {"team": "x-team"}}, "attributes must be a list"),
        ({"attributes": ["x-team"]}, r"attributes\[0\] must be a record"),
        ({"attributes": [{**TEAM, "name": "team"}]}, r"attributes\[0\] has no field name"),
        (
            {"attributes": [TEAM, {**TEAM, "look_up_value_in": "x-squad"}]},
            r"attributes\[1\]\.event_property_name team is there twice",
        ),
        (
            {"attributes": [{**TEAM, "event_property_name": "tokens"}]},
            r"attributes\[0\]\.event_property_name must not be tokens",
        ),
        ({"attributes": [{**TEAM, "look_up_value_in": ""}]}, r"attributes\[0\]\.look_up_value_in"),
    ],
)
def test_a_value_that_cannot_be_meant_is_named(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        configuration(config)
