"""All cases there are."""

from tests.architectures.cases import CASES as RELATIVES
from tests.architectures.classic_cases import CLASSIC
from tests.architectures.expert_cases import EXPERTS
from tests.architectures.gemma.gemma4_cases import GEMMA4
from tests.architectures.latent.latent_cases import LATENTS
from tests.architectures.states.mamba_cases import MAMBA
from tests.architectures.states.state_cases import STATES

CASES = RELATIVES | GEMMA4 | CLASSIC | EXPERTS | LATENTS | STATES | MAMBA
