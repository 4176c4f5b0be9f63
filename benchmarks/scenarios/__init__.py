"""Everything that is measured, by name."""

from __future__ import annotations

from benchmarks.measuring import Scenario
from benchmarks.scenarios import cuts, memory, relay, slow, small, transfers

SCENARIOS: dict[str, Scenario] = {
    scenario.name: scenario for module in (transfers, small, slow, memory, cuts, relay) for scenario in module.SCENARIOS
}
