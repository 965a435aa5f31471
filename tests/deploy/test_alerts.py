"""Each alert can fire: its expression asks for what `/metrics` has."""

import re
from typing import Any

import pytest
import yaml

from tests.deploy.promql import DEPLOY, problems, shown

GROUPS = yaml.safe_load((DEPLOY / "alerts.yml").read_text())["groups"]
RULES = [rule for group in GROUPS for rule in group["rules"]]
OPTION = re.compile(r"--[a-z-]+")


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_asks_for_what_there_is(rule: dict[str, Any]) -> None:
    assert rule.keys() <= {"alert", "expr", "for", "labels", "annotations"}
    assert problems(rule["expr"]) == []
    assert re.search(r"(>|==|<) [\d.]+", rule["expr"]), "without a bound it always fires"
    assert rule["labels"]["severity"] in ("critical", "warning", "info")
    assert rule["annotations"].keys() == {"summary", "description"}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_its_words_name_labels_that_it_has(rule: dict[str, Any]) -> None:
    words = " ".join(rule["annotations"].values())
    kept = set(re.findall(r"\w+", " ".join(re.findall(r"by \(([^)]*)\)", rule["expr"]))))
    named = set(re.findall(r"\$labels\.(\w+)", words))
    assert named <= (kept or {"instance", "job"})


def test_options_that_are_named_exist() -> None:
    from thirdeye.server.settings.settings import all_settings

    flags = {row.flag for row in all_settings()}
    named = {flag for rule in RULES for flag in OPTION.findall(str(rule["annotations"]))}
    assert named
    assert named - flags == set()


def test_names_are_given_once() -> None:
    names = [rule["alert"] for rule in RULES]
    assert len(set(names)) == len(names)
    assert shown()
