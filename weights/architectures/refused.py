"""Models that are known and not served, by `model_type` or `general.architecture`: why, and what
would work instead."""

from collections.abc import Iterable, Mapping

PICTURES = "it answers to pictures alone"
VECTORS = "it makes vectors of text and writes none; what works is a model that writes, as 'qwen3'"
TWO_PARTS = (
    "an encoder reads and a decoder writes; what works is a decoder alone, as 'qwen3' or 'gemma3'"
)
ALL_AT_ONCE = (
    "it writes all places at once, over and over; what works is a model that writes token by "
    "token, as 'qwen3'"
)
STATES = (
    "its layers keep a state of a kind that is not computed here; of models with states work "
    "'lfm2', 'granitemoehybrid', 'falcon_h1', 'nemotron_h', 'qwen3_next' and 'qwen3_5'"
)
CHOSEN_KEYS = (
    "its layers choose which keys they read; what works is a model that reads all, as "
    "'deepseek_v3' or 'glm4_moe'"
)
EXPERTS = (
    "its experts are not read; with experts work 'qwen3_moe', 'gpt_oss', 'glm4_moe', 'mixtral', "
    "'olmoe', 'granitemoe', 'ernie4_5_moe', 'deepseek_v3' and 'llama4'"
)
OWN_CODE = "its code comes with the checkpoint, and none is run; what works is {instead}"


def _each(names: Iterable[str], why: str) -> dict[str, str]:
    return dict.fromkeys(names, why)


def _own_code(**instead: str) -> dict[str, str]:
    return {name: OWN_CODE.format(instead=text) for name, text in instead.items()}


REFUSED: Mapping[str, str] = {
    "paligemma": "it reads its prompt in both directions; what works is a 'gemma2' or a 'gemma3'",
    **_each(
        ("gemma3n", "gemma3n_text"),
        "its layers carry several streams; what works is a 'gemma3' or a 'gemma4'",
    ),
    "blip-2": f"{PICTURES}; what works is its text model, an 'opt'",
    **_each(
        ("instructblip", "instructblipvideo"),
        f"{PICTURES}; what works is its text model, an 'opt' or a 'llama'",
    ),
    **_each(("phi4_multimodal", "phi4mm", "phi3_v"), "it changes its weights by what it sees; what "
            "works is a 'phi3' (Phi-3.5, Phi-4, Phi-4-mini)"),
    **_each(("ernie4_5_vl_moe", "ernie4_5_moe_vl"), "its layers have experts for pictures among "
            "those for text; what works is an 'ernie4_5_moe'"),
    **_each(
        ("bert", "roberta", "xlm-roberta", "camembert", "distilbert", "electra", "albert", "mpnet",
         "deberta", "deberta-v2", "modernbert", "nomic_bert", "eurobert", "xlm", "clip", "siglip",
         "siglip2", "nomic-bert", "nomic-bert-moe", "jina-bert-v2", "jina-bert-v3", "modern-bert",
         "neo-bert", "gemma-embedding", "jina_embeddings_v3", "embedding_gemma2"),
        VECTORS,
    ),
    **_each(
        ("t5", "mt5", "umt5", "longt5", "t5gemma", "t5gemma2", "bart", "mbart", "pegasus", "marian",
         "m2m_100", "led", "whisper", "blenderbot", "prophetnet", "switch_transformers",
         "florence2", "t5encoder"),
        TWO_PARTS,
    ),
    **_each(("llada", "llada-moe", "llada_moe", "dream", "Dream", "diffusion_gemma"), ALL_AT_ONCE),
    **_each(
        ("mamba", "mamba2", "falcon_mamba", "rwkv", "rwkv6", "rwkv7", "rwkv6qwen2", "arwkv7",
         "xlstm", "jamba", "bamba", "zamba", "zamba2", "recurrent_gemma", "minimax", "minimax_m1",
         "kimi_linear", "kimi-linear", "bailing_hybrid", "olmo_hybrid", "plamo2", "phi4flash"),
        STATES,
    ),
    **_each(
        ("deepseek_v32", "deepseek_v4", "glm_moe_dsa", "deepseek32", "glm-dsa", "deepseek4"),
        CHOSEN_KEYS,
    ),
    **_each(
        ("minimax_m2", "minimax-m2", "dots1", "hunyuan_v1_moe", "hunyuan-moe",
         "exaone_moe", "exaone-moe", "solar_open", "afmoe", "bailing_moe",
         "bailing_moe_v2", "bailingmoe", "bailingmoe2", "phimoe", "dbrx", "jetmoe", "longcat_flash",
         "step3p5", "step35", "mimo_v2_flash", "mimo2", "flex_olmo", "arctic", "grok", "grok-1",
         "granitemoeshared", "cohere2_moe", "smallthinker"),
        EXPERTS,
    ),
    **_own_code(
        chatglm="GLM-4 in transformers' own form ('glm', 'glm4'), or its GGUF file",
        internlm2="InternLM 3 ('internlm3')",
        internlm="InternLM 3 ('internlm3')",
        qwen="Qwen2 or newer ('qwen2', 'qwen3')",
        baichuan="a model of transformers' own classes, as 'qwen3'",
        phi3small="another Phi-3 ('phi3')",
        exaone="EXAONE 4 ('exaone4')",
        minicpm="a model of transformers' own classes, as 'qwen3'",
        openelm="a model of transformers' own classes, as 'qwen3'",
        hf_olmo="the same OLMo in transformers' own form ('olmo')",
        solar="a SOLAR that is a 'llama'",
        Motif="a model of transformers' own classes, as 'qwen3'",
        stablelm_epoch="the same StableLM in transformers' own form ('stablelm')",
        RefinedWeb="the same Falcon in transformers' own form ('falcon')",
        RefinedWebModel="the same Falcon in transformers' own form ('falcon')",
    ),
    "nemotron-nas": "its layers differ in whether they attend; what works is a 'llama' or a "
                    "'nemotron_h'",
    "deci": "its layers differ in whether they attend; what works is a 'llama' or a 'nemotron_h'",
}  # fmt: skip
