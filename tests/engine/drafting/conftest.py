"""What both kinds of models that guess are asked, and what is answered without them."""

import pytest
import torch

from tests.engine.execution.test_model_runner import alone
from tests.engine.scheduling.speculation.test_speculation import Answers, all_requests

REQUESTS = all_requests(seed=1)[4:20]  # of both kinds
DRAFTING = {"num_draft_tokens": 6, "max_tokens_with_drafts": 64}


@pytest.fixture(scope="module")
def expected() -> Answers:
    torch.set_num_threads(1)
    return alone(REQUESTS)
