"""The architectures we can read. A new one is a file beside this one, and a row here."""

from thirdeye.weights.architectures.architecture import Architecture
from thirdeye.weights.architectures.classic.bloom import BLOOM
from thirdeye.weights.architectures.classic.falcon import FALCON
from thirdeye.weights.architectures.classic.gpt2 import GPT2
from thirdeye.weights.architectures.classic.gpt_bigcode import GPT_BIGCODE
from thirdeye.weights.architectures.classic.gpt_neo import GPT_NEO
from thirdeye.weights.architectures.classic.gpt_neox import GPT_NEOX
from thirdeye.weights.architectures.classic.gptj import CODEGEN, GPTJ
from thirdeye.weights.architectures.classic.mpt import MPT
from thirdeye.weights.architectures.classic.olmo1 import OLMO1
from thirdeye.weights.architectures.classic.opt import OPT
from thirdeye.weights.architectures.classic.phi import PHI
from thirdeye.weights.architectures.experts.ernie4_5_moe import ERNIE4_5_MOE
from thirdeye.weights.architectures.experts.glm4_moe import GLM4_MOE
from thirdeye.weights.architectures.experts.gpt_oss import GPT_OSS
from thirdeye.weights.architectures.experts.granite_moe import GRANITE_MOE
from thirdeye.weights.architectures.experts.llama4 import LLAMA4
from thirdeye.weights.architectures.experts.mixtral import MIXTRAL
from thirdeye.weights.architectures.experts.olmoe import OLMOE
from thirdeye.weights.architectures.experts.qwen2_moe import QWEN2_MOE
from thirdeye.weights.architectures.experts.qwen3_moe import QWEN3_MOE
from thirdeye.weights.architectures.gemma.gemma import GEMMA
from thirdeye.weights.architectures.gemma.gemma2 import GEMMA2
from thirdeye.weights.architectures.gemma.gemma3 import GEMMA3
from thirdeye.weights.architectures.gemma.gemma4 import GEMMA4, GEMMA4_UNIFIED
from thirdeye.weights.architectures.gemma.vault_gemma import VAULT_GEMMA
from thirdeye.weights.architectures.latent.deepseek import DEEPSEEK_V2, DEEPSEEK_V3
from thirdeye.weights.architectures.latent.glm4_moe_lite import GLM4_MOE_LITE
from thirdeye.weights.architectures.latent.minicpm3 import MINICPM3
from thirdeye.weights.architectures.latent.mistral4 import MISTRAL4
from thirdeye.weights.architectures.latent.youtu import YOUTU
from thirdeye.weights.architectures.llama.arcee import ARCEE
from thirdeye.weights.architectures.llama.cwm import CWM
from thirdeye.weights.architectures.llama.ernie import ERNIE4_5
from thirdeye.weights.architectures.llama.internlm3 import INTERNLM3
from thirdeye.weights.architectures.llama.llama import LLAMA
from thirdeye.weights.architectures.llama.ministral3 import MINISTRAL3
from thirdeye.weights.architectures.llama.mistral import MINISTRAL, MISTRAL
from thirdeye.weights.architectures.llama.qwen2 import QWEN2
from thirdeye.weights.architectures.llama.qwen3 import QWEN3
from thirdeye.weights.architectures.llama.seed_oss import SEED_OSS
from thirdeye.weights.architectures.llama.smollm3 import SMOLLM3
from thirdeye.weights.architectures.refused import why_refused
from thirdeye.weights.architectures.relatives.apertus import APERTUS
from thirdeye.weights.architectures.relatives.cohere import COHERE, COHERE2
from thirdeye.weights.architectures.relatives.exaone4 import EXAONE4
from thirdeye.weights.architectures.relatives.glm import GLM, GLM4
from thirdeye.weights.architectures.relatives.helium import HELIUM
from thirdeye.weights.architectures.relatives.hunyuan import HUNYUAN
from thirdeye.weights.architectures.relatives.iquest_coder import IQUEST_CODER
from thirdeye.weights.architectures.relatives.nanochat import NANOCHAT
from thirdeye.weights.architectures.relatives.nemotron import JAIS2, NEMOTRON
from thirdeye.weights.architectures.relatives.olmo import OLMO2, OLMO3
from thirdeye.weights.architectures.relatives.phi3 import PHI3
from thirdeye.weights.architectures.relatives.stablelm import STABLELM
from thirdeye.weights.architectures.relatives.starcoder2 import STARCODER2
from thirdeye.weights.architectures.scaled.granite import GRANITE
from thirdeye.weights.architectures.scaled.granite_swa import GRANITE_SWA
from thirdeye.weights.architectures.scaled.hyperclovax import HYPERCLOVAX
from thirdeye.weights.architectures.scaled.minicpm import MINICPM
from thirdeye.weights.architectures.states.falcon_h1 import FALCON_H1
from thirdeye.weights.architectures.states.granite_hybrid import GRANITE_HYBRID
from thirdeye.weights.architectures.states.lfm2 import LFM2
from thirdeye.weights.architectures.states.lfm2_moe import LFM2_MOE
from thirdeye.weights.architectures.states.nemotron_h import NEMOTRON_H
from thirdeye.weights.architectures.states.qwen3_5 import QWEN3_5, QWEN3_5_MOE
from thirdeye.weights.architectures.states.qwen3_next import QWEN3_NEXT
from thirdeye.weights.architectures.wrappers.table import WRAPPERS
from thirdeye.weights.formats.fields import Fields
from thirdeye.weights.suggest import close_names

ARCHITECTURES = (
    GPT2,
    LLAMA,
    MISTRAL,
    MINISTRAL,
    QWEN2,
    QWEN3,
    SEED_OSS,
    ARCEE,
    GEMMA,
    GEMMA2,
    VAULT_GEMMA,
    GEMMA3,
    GEMMA4,
    GEMMA4_UNIFIED,
    PHI3,
    SMOLLM3,
    GRANITE,
    GRANITE_SWA,
    HYPERCLOVAX,
    MINICPM,
    OLMO2,
    OLMO3,
    ERNIE4_5,
    GLM,
    GLM4,
    EXAONE4,
    COHERE,
    COHERE2,
    STARCODER2,
    STABLELM,
    MINISTRAL3,
    HUNYUAN,
    NEMOTRON,
    JAIS2,
    NANOCHAT,
    APERTUS,
    HELIUM,
    INTERNLM3,
    CWM,
    IQUEST_CODER,
    GPT_NEO,
    GPT_NEOX,
    GPTJ,
    CODEGEN,
    PHI,
    OPT,
    BLOOM,
    MPT,
    FALCON,
    GPT_BIGCODE,
    OLMO1,
    QWEN3_MOE,
    QWEN2_MOE,
    MIXTRAL,
    OLMOE,
    GRANITE_MOE,
    GLM4_MOE,
    ERNIE4_5_MOE,
    GPT_OSS,
    DEEPSEEK_V2,
    DEEPSEEK_V3,
    GLM4_MOE_LITE,
    YOUTU,
    MINICPM3,
    MISTRAL4,
    LLAMA4,
    LFM2,
    LFM2_MOE,
    QWEN3_NEXT,
    QWEN3_5,
    QWEN3_5_MOE,
    GRANITE_HYBRID,
    FALCON_H1,
    NEMOTRON_H,
)


def by_model_type(fields: Fields) -> Architecture:
    """Of a config.json. Raises `ModelFormatError` with the names that are known."""
    known = {
        name: found for found in ARCHITECTURES for name in (*found.model_types, *found.other_types)
    }
    return _find(known, fields, "model_type")


def by_gguf_name(fields: Fields) -> Architecture:
    """Of a GGUF file. Raises `ModelFormatError` with the names that are known."""
    known = {name: found for found in ARCHITECTURES for name in found.gguf_architectures}
    return _find(known, fields, "general.architecture")


def _find(known: dict[str, Architecture], fields: Fields, key: str) -> Architecture:
    name = fields.text(key)
    if name not in known and (why := why_refused(name, _served_in_any_form())):
        raise fields.error(key, f"'{name}' is not supported: {why}.")
    if name not in known:
        supported = ", ".join(known)
        nearest = "".join(f" The nearest name is '{one}'." for one in close_names(name, known)[:1])
        raise fields.error(
            key, f"'{name:.60}' is not supported; supported are {supported}.{nearest}"
        )
    return known[name]


def _served_in_any_form() -> set[str]:
    """By `model_type`, whole or as the text of a whole."""
    names = {name for one in ARCHITECTURES for name in (*one.model_types, *one.other_types)}
    return names | WRAPPERS.keys()


def by_architecture(name: str) -> Architecture:
    """Of a `ModelConfig`: whatever file it came from. Raises KeyError."""
    found = {name: one for one in ARCHITECTURES for name in one.gguf_architectures}
    found |= {name: one for one in ARCHITECTURES for name in one.model_types}
    return found[name]
