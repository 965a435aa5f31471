"""A wrong state is a wrong answer, whichever kind of layer keeps it.

The oracle of states (`tests/engine/scheduling/test_state_oracle.py`) knows rows and no kinds. Here
its planted bugs are let loose on real layers of each kind: that answers then differ shows that a
layer reads and writes the rows which the scheduler says, all of them.
"""

from collections.abc import Callable

import pytest
import torch

from tests.draws import also_at_night, is_night, pairwise
from tests.engine.execution.request_mixes import Answer, alone, answers, make_core
from tests.engine.execution.test_invariance import CONTEXT
from tests.engine.scheduling.test_state_oracle import (
    go_on_from_rejected_drafts,
    hit_by_the_nearest_state,
    publish_its_own_state,
)
from tests.engine.toy import make_request
from tests.model.tiny import BESIDE, DELTA, HYBRID, MAMBA, change, random_model
from thirdeye.model.native.library import Library
from thirdeye.model.transformer import Transformer
from thirdeye.server.engine.cache.state_pool import StatePool
from thirdeye.server.engine.core.engine_core import EngineCore
from thirdeye.server.engine.interface.types import Request

KINDS = {"conv": HYBRID, "delta": DELTA, "mamba": MAMBA, "beside": BESIDE}
WARM = {"num_blocks": 4 * CONTEXT // 16}
BUGS: dict[Callable[[pytest.MonkeyPatch], None], dict[str, object]] = {
    hit_by_the_nearest_state: WARM,
    publish_its_own_state: WARM,
    go_on_from_rejected_drafts: WARM | {"num_draft_tokens": 6},
}


def model_of(kind: str, native: Library | None) -> Transformer:
    return random_model(change(KINDS[kind], max_position_embeddings=CONTEXT), native=native)


def requests(number: int, max_tokens: int) -> list[Request]:
    """Long ones that share three blocks and repeat themselves, so that there is something to
    draft."""
    return [
        make_request(
            str(i),
            [*range(1, 49), *[i + 1, i + 2, i + 3] * 16],
            max_tokens=max_tokens,
            ignore_eos=True,
            logprobs=2,
        )
        for i in range(number)
    ]


def one_after_the_other(core: EngineCore, mix: list[Request]) -> dict[str, Answer]:
    """So that each finds what those before have left."""
    return {request.request_id: answers(core, [request])[request.request_id] for request in mix}


@also_at_night
@pytest.mark.parametrize(("bug", "kind", "how"), pairwise(BUGS, KINDS, ("torch", "native")))
def test_a_planted_bug_changes_answers(
    bug: Callable[[pytest.MonkeyPatch], None],
    kind: str,
    how: str,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A push asks for no more than is known to show it, and only then for as much as a night."""
    model = model_of(kind, request.getfixturevalue("native") if how == "native" else None)
    torch.set_num_threads(1)
    few, many = [(2, 8), (4, 8)] if BUGS[bug] is WARM else [(1, 28), (4, 40)]
    mixes = [requests(*size) for size in ([many] if is_night() else [few, many])]
    assert any(changes_answers(model, bug, mix, monkeypatch) for mix in mixes)


def changes_answers(
    model: Transformer,
    bug: Callable[[pytest.MonkeyPatch], None],
    mix: list[Request],
    monkeypatch: pytest.MonkeyPatch,
) -> bool:
    expected = alone(lambda: make_core(model, enable_prefix_caching=False), mix)
    sound = make_core(model, **BUGS[bug])
    assert [one_after_the_other(sound, mix) for _ in range(2)] == [expected] * 2
    with monkeypatch.context() as planted:
        bug(planted)
        planted.setattr(StatePool, "check_all_free", lambda self: None)  # finds it too
        planted.setattr(StatePool, "check_integrity", lambda self, holders: None)
        broken = make_core(model, **BUGS[bug])
        return any(one_after_the_other(broken, mix) != expected for _ in range(2))
