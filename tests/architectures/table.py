"""All cases there are, and those of them that a push tries in every form.

Of every class one, and whatever has between them all that a model can have: each case is held
against transformers at each push, in safetensors, in GGUF and by our kernels; at night all are in
every form.
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
WITH_MORE = [  # than any of the classes' first cases
    "llama-dynamic", "phi3-part", "gemma3_text-linear", "cohere-head-norms", "stablelm-head-norms",
    "gemma4_text-shared", "gemma4_text-experts", "opt-350m", "mpt-clipped", "falcon-rw",
    "lfm2-biases", "nemotron_h-dense", "nemotron_h-biases", "falcon_h1-norm-first",
    "falcon_h1-biases",
]  # fmt: skip
IN_EVERY_FORM = list(CASES) if is_night() else CLASSES + WITH_MORE
