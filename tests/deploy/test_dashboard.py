"""The dashboard shows what `/metrics` has, and all of it."""

import json
import re
from typing import Any

import pytest

from tests.deploy.promql import DEPLOY, metrics_in, problems, shown

DASHBOARD = json.loads((DEPLOY / "grafana.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
EXPRESSIONS = [target["expr"] for panel in PANELS for target in panel["targets"]]
ENDINGS = re.compile(r"_(bucket|sum|count|created|total)$")


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_a_panel_asks_for_what_there_is(panel: dict[str, Any]) -> None:
    assert panel["targets"]
    for target in panel["targets"]:
        assert problems(target["expr"]) == []
        by = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
        grouped = set(re.findall(r"\w+", "".join(re.findall(r"by \(([^)]*)\)", target["expr"]))))
        assert by <= grouped, "the legend names a label that the query sums up"


def test_every_metric_is_on_a_panel() -> None:
    asked = {ENDINGS.sub("", name) for text in EXPRESSIONS for name in metrics_in(text)}
    there = {ENDINGS.sub("", name) for name in shown() if name.startswith("thirdeye_")}
    assert there - asked == set()


def test_the_variables_choose_by_what_there_is() -> None:
    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] == "query":
            metric, label = re.fullmatch(
                r"label_values\((\w+), (\w+)\)", variable["query"]["query"]
            ).groups()
            assert metric in shown()
            assert label == "instance" or label in shown()[metric]
    for text in EXPRESSIONS:
        of_a_model = any("model_name" in shown()[name] for name in metrics_in(text))
        assert "$instance" in text
        assert ("$model_name" in text) == of_a_model, text


def test_panels_lie_side_by_side() -> None:
    cells: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert (x, y) not in cells, panel["title"]
                cells.add((x, y))
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize(
    ("expression", "why"),
    [
        ("sum(rate(thirdeye_no_such_total[5m]))", "has no thirdeye_no_such_total"),
        ('thirdeye_num_requests_running{mode="a"}', "has no label mode"),
        ("sum by (tenant) (thirdeye_num_requests_running)", "tenant"),
        ('thirdeye_admission_rejections_total{reason="bored"}', "has no reason bored"),
        ("histogram_quantile(0.5, thirdeye_num_requests_running)", "no buckets"),
        ("rate(thirdeye_prompt_tokens_total[5m)", "expected"),
        ("1 + 1", "no metric"),
        ("thirdeye_prompt_tokens_total / (up - sum(thirdeye_nothing))", "thirdeye_nothing"),
    ],
)
def test_what_is_wrong_is_seen(expression: str, why: str) -> None:
    assert any(why in problem for problem in problems(expression)), problems(expression)
