"""The dashboard and the alerts ask for metrics and labels that there are, and every metric has a panel."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from serve.metrics import TABLE

FOLDER = Path(__file__).parents[2] / "docs" / "monitoring"
ENDINGS = {"counter": {"_total": ()}, "gauge": {"": ()}, "histogram": {"_bucket": ("le",), "_sum": (), "_count": ()}}
WRITTEN = {
    f"millwright_{name}{ending}": {*metric.labels, *more}
    for name, metric in TABLE.items() for ending, more in ENDINGS[metric.kind].items()
}  # fmt: skip


def dashboard() -> Any:
    return json.loads((FOLDER / "dashboard.json").read_text("utf-8"))


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((FOLDER / "alerts.yml").read_text("utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def expressions() -> list[str]:
    return [target["expr"] for panel in dashboard()["panels"] for target in panel["targets"]] + [
        rule["expr"] for rule in rules()
    ]


@pytest.mark.parametrize("expression", expressions())
def test_an_expression_asks_for_what_there_is(expression: str) -> None:
    asked = re.findall(r"(millwright_\w+)(?:\{([^}]*)\})?", expression)
    assert asked or expression.startswith("up{")
    labels: set[str] = set()
    for name, selectors in asked:
        assert name in WRITTEN, name
        assert set(re.findall(r"(\w+)\s*[=!]", selectors)) <= WRITTEN[name]
        labels |= WRITTEN[name]
    for grouped in re.findall(r"by \(([^)]*)\)", expression):
        assert {label.strip() for label in grouped.split(",")} <= labels


def test_every_metric_has_a_panel() -> None:
    shown = " ".join(target["expr"] for panel in dashboard()["panels"] for target in panel["targets"])
    assert {name for name in TABLE if f"millwright_{name}" not in shown} == set()


def test_panels_do_not_overlap_and_have_ids_of_their_own() -> None:
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert len({(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels}) == len(panels)


def test_alerts_name_what_they_group_by_and_say_what_to_do() -> None:
    for rule in rules():
        named = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
        grouped = {label.strip() for text in re.findall(r"by \(([^)]*)\)", rule["expr"]) for label in text.split(",")}
        assert named <= grouped
        assert len(rule["annotations"]["summary"]) > 20
    assert len({rule["alert"] for rule in rules()}) == len(rules())
