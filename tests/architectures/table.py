"""All cases there are, and those of them that a push tries in every form.

Such as have between them all that a model can have, by few parts and by many: each case is held
against transformers at each push, in safetensors and in GGUF; at night all are in every form.
"""

from tests.architectures.cases import CASES as RELATIVES
from tests.architectures.classic_cases import CLASSIC
from tests.architectures.expert_cases import EXPERTS
from tests.architectures.gemma.gemma4_cases import GEMMA4
from tests.architectures.latent.latent_cases import LATENTS
from tests.architectures.states.mamba_cases import MAMBA
from tests.architectures.states.state_cases import STATES
from tests.draws import is_night

CASES = RELATIVES | GEMMA4 | CLASSIC | EXPERTS | LATENTS | STATES | MAMBA
CLASSES = [name for name in CASES if "-" not in name]
PLAIN = [
    "gpt2", "llama", "mistral", "qwen2", "qwen3", "phi3", "glm", "bloom", "gpt_neox", "mixtral",
    "qwen3_5_text", "granitemoehybrid", "olmo3", "cohere2", "exaone4",
]  # fmt: skip
WITH_MORE = [  # they have between them whatever a model can have
    "llama4_text", "falcon_h1-biases", "gemma4_text-experts", "deepseek_v3-magnitudes",
    "opt-350m", "qwen3_next", "gpt_oss", "nemotron_h", "mpt-clipped", "llama-longrope",
    "cohere-head-norms", "nanochat", "gemma4_text-shared", "gemma3_text-linear", "falcon-rw",
    "minicpm3", "lfm2", "llama-dynamic", "gemma2", "olmo2", "ministral3", "hunyuan_v1_dense",
    "apertus", "hyperclovax", "gptj", "deepseek_v2", "lfm2-biases", "falcon_h1-norm-first",
]  # fmt: skip
AT_A_PUSH = PLAIN + WITH_MORE
IN_EVERY_FORM = list(CASES) if is_night() else AT_A_PUSH
