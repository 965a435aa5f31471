"""No kernel is compiled while somebody waits for an answer: that takes seconds, of all of them."""

from typing import Any

import pytest

from tests.draws import also_at_night, count
from tests.fake_gpu.children.child import Child
from tests.fake_gpu.forms import FORMS, TRIED
from tests.versions import COMPILES, is_skipped
from thirdeye.server.engine.interface.engine_config import EngineConfig
from thirdeye.server.engine.run_ahead.cuda_graphs import make_buckets

STEPS, STEPS_OF_A_FORM = count(160, 400), 30
MOST_VERIFIED = EngineConfig(max_model_len=1, num_blocks=1).max_tokens_with_drafts
OWN_KERNEL = {"int4": "quantized_matmul_kernel", "experts": "grouped_matmul_kernel"}
OWN_KERNEL |= {"deterministic": "add_splits_kernel", "bf16": "few_rows_matmul_kernel"}
OWN_KERNEL |= {"guesses": "accept_kernel"}


@also_at_night
def test_none_in_many_mixed_steps(child: Child) -> None:
    """Prompts, chunks and answers of every kind, up to 40 at a time, by the usual model."""
    report = child.run("tests.fake_gpu.serve", str(STEPS), "bf16")["bf16"]
    assert report["served"] == []
    assert 0 < report["captured"] <= report["warmed"] < 20


def test_nothing_is_captured_while_serving(reports: dict[str, dict[str, Any]]) -> None:
    """Two graphs for each bucket of rows, made before the first request: a step that asks for
    something unusual has one for its layers."""
    report = reports["bf16"]
    assert report["graphs"] == 2 * len(make_buckets(FORMS["bf16"].max_num_seqs))
    assert report["graphs_later"] == 0


def test_nor_where_guesses_are_verified(reports: dict[str, dict[str, Any]]) -> None:
    """A graph more for each bucket of so many rows as may be verified; of steps in which
    guesses come and go beside chunks and requests of every kind, none asks for another."""
    report, form = reports["guesses"], FORMS["guesses"]
    buckets = make_buckets(form.max_num_seqs)
    assert report["graphs"] == 2 * len(buckets) + len([b for b in buckets if b <= MOST_VERIFIED])
    assert report["graphs_later"] == 0
    assert report["drafted"] > 10
    assert reports["bf16"]["drafted"] == 0


def test_nor_where_a_draft_model_guesses(reports: dict[str, dict[str, Any]]) -> None:
    """Its steps have graphs of their own, two for each bucket; what goes from one model to the
    other is small copies."""
    report, form = reports["draft"], FORMS["draft"]
    buckets = make_buckets(form.max_num_seqs)
    assert report["graphs"] == 4 * len(buckets) + len([b for b in buckets if b <= MOST_VERIFIED])
    assert report["graphs_later"] == 0
    assert report["drafted"] > 10


@pytest.mark.parametrize("form", TRIED)
def test_all_graphs_were_in_the_trial(reports: dict[str, dict[str, Any]], form: str) -> None:
    """Which finds out how much memory they leave to keys and values."""
    assert reports[form]["graphs_tried"] == reports[form]["graphs"]


@pytest.fixture(scope="module")
def reports(child: Child) -> dict[str, dict[str, Any]]:
    test = f"{COMPILES}::test_none_however_a_model_is_kept"
    forms = [form for form in FORMS if not is_skipped(f"{test}[{form}]")]
    found: dict[str, dict[str, Any]] = child.run(
        "tests.fake_gpu.serve", str(STEPS_OF_A_FORM), *forms
    )
    return found


@pytest.mark.parametrize("form", FORMS)
def test_none_however_a_model_is_kept(reports: dict[str, dict[str, Any]], form: str) -> None:
    report = reports[form]
    assert report["served"] == []
    assert OWN_KERNEL.get(form, "rope_kv_kernel") in report["kernels"]
