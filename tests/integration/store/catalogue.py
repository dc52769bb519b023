"""Plans that tests of the store begin with."""

from datetime import UTC, datetime
from decimal import Decimal

from tallyman.domain.duration import Duration
from tallyman.domain.feature import Feature
from tallyman.domain.plan import Plan
from tallyman.domain.plan_phase import PlanPhase
from tallyman.domain.price import FlatPrice, Price, UnitPrice
from tallyman.domain.rate_card import FeatureReference, RateCard

NOW = datetime(2026, 11, 1, tzinfo=UTC)
MONTH = Duration(months=1)
PER_TOKEN = UnitPrice(Decimal("0.000003"))


def plan_of(feature: Feature, price: Price = PER_TOKEN) -> Plan:
    """A plan that can be published: a flat fee, and a price for the feature."""
    reference = FeatureReference(feature.id, feature.key)
    return Plan(
        id="",
        namespace=feature.namespace,
        key="plan",
        version=0,
        name="Plan",
        currency="USD",
        billing_cadence=MONTH,
        phases=(
            PlanPhase(
                "default",
                "Default",
                (
                    RateCard("fee", "Fee", FlatPrice(Decimal(20)), billing_cadence=MONTH),
                    RateCard(feature.key, "Usage", price, reference, billing_cadence=MONTH),
                ),
            ),
        ),
        created_at=NOW,
        updated_at=NOW,
    )
