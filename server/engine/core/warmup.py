"""Two short requests before the first real one, so that nobody waits for what happens once.

The libraries below choose kernels, compile some, and take their working memory at the first step:
tens of milliseconds, more on a GPU. A small step is recorded when its shape comes again
(`model/taped.py`): so one comes again here, and what cannot be recorded is known to the ready line.
The requests run in a scheduler of their own, so neither a counter nor the prefix cache of the
engine knows of them; the KV they leave is in no block's table.
"""

import msgspec

from thirdeye.server.engine.core.engine_core import EngineCore
from thirdeye.server.engine.execution.model_runner import Runner
from thirdeye.server.engine.interface.engine_config import EngineConfig
from thirdeye.server.engine.interface.types import Request, SamplingParams

NUM_PROMPT_TOKENS = 2
NUM_ANSWER_TOKENS = 3  # one of the step that the prompt needs, and of two steps alike


def warm_up(runner: Runner, config: EngineConfig) -> None:
    """Compute a greedy and a sampled answer to the token 0, and forget them."""
    alike = msgspec.structs.replace(config, num_draft_tokens=0)  # nobody's guess makes one longer
    core = EngineCore(alike, runner)
    for number, temperature in enumerate((0.0, 1.0)):
        sampling = SamplingParams(
            max_tokens=NUM_ANSWER_TOKENS, temperature=temperature, top_p=0.9, ignore_eos=True
        )
        prompt = [0] * min(NUM_PROMPT_TOKENS, config.max_model_len - 1)
        core.add(
            Request(request_id=f"warm-up-{number}", prompt_token_ids=prompt, sampling=sampling)
        )
    while core.has_work:
        core.step()
