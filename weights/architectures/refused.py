"""Models that are known and not served, by `model_type` or `general.architecture`: why, and what
would work instead."""

from collections.abc import Iterable, Mapping, Set

from thirdeye.weights.architectures.other_kinds import PART, is_part, other_kinds

SEES = "it answers to pictures alone"
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
INSTEAD = "what works is a model that is read, as 'qwen3', 'gemma3' or 'llama'"
NO_READER = f"no reader of its layers is here; {INSTEAD}"
WITH_EYES = (
    "it sees, and its text is not read apart; what works is the text of a 'qwen3_vl', 'gemma3' or "
    "'mistral3'"
)
OWN_CODE = "its code comes with the checkpoint, and none is run; what works is {instead}"


GGUF_NAMES = {"paddleocr": "paddleocr_vl"}  # where a `model_type` is another
OTHER_FORM = "in this form it is not read; what works is the same model in safetensors ('{name}')"


def _each(names: Iterable[str], why: str) -> dict[str, str]:
    return dict.fromkeys(names, why)


def _own_code(**instead: str) -> dict[str, str]:
    return {name: OWN_CODE.format(instead=text) for name, text in instead.items()}


REFUSED: Mapping[str, str] = other_kinds() | {
    "paligemma": "it reads its prompt in both directions; what works is a 'gemma2' or a 'gemma3'",
    **_each(
        ("gemma3n", "gemma3n_text"),
        "its layers carry several streams; what works is a 'gemma3' or a 'gemma4'",
    ),
    "blip-2": f"{SEES}; what works is its text model, an 'opt'",
    **_each(
        ("instructblip", "instructblipvideo"),
        f"{SEES}; what works is its text model, an 'opt' or a 'llama'",
    ),
    **_each(("phi4_multimodal", "phi4mm", "phi3_v"), "it changes its weights by what it sees; what "
            "works is a 'phi3' (Phi-3.5, Phi-4, Phi-4-mini)"),
    **_each(("ernie4_5_vl_moe", "ernie4_5_moe_vl"), "its layers have experts for pictures among "
            "those for text; what works is an 'ernie4_5_moe'"),
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
         "granitemoeshared", "cohere2_moe", "smallthinker", "granitemoe_swa", "mellum", "laguna",
         "hy_v3", "hy_v4", "kolibri1", "flint", "beam", "axk1", "axk2", "grovemoe", "rnd1", "zaya",
         "dots3_note", "pangu-embedded"),
        EXPERTS,
    ),
    **_each(
        ("aria", "aria_text", "chameleon", "cohere_compass", "cosmos3_edge", "cosmos3_omni",
         "deepseek_ocr2", "deepseek2-ocr", "emu3", "fuyu", "git", "glm5_next", "glm_image",
         "hyperclovax_vision_v2", "idefics", "inkling", "inkling2", "kosmos-2", "kosmos-2.5",
         "lfm3_vl", "minimax_m3_vl", "mistral_large4", "molmo2", "muse_glimmer", "muse_spark",
         "pixtral", "qwen4_exp", "step3p7", "unlimited_ocr"),
        WITH_EYES,
    ),
    **_each(("lfm3", "modernbert-decoder", "reformer", "cpmant"), NO_READER),
    **_each(("bitnet",), f"its layers round what they read, and norm it once more; {INSTEAD}"),
    "persimmon": f"it shifts queries and keys where it norms them; {INSTEAD}",
    **_each(("xglm", "ctrl"), f"its positions are sines that are added; {INSTEAD}"),
    "openai-gpt": "it norms behind what it adds; what works is its successor, a 'gpt2'",
    "biogpt": f"its text is cut into words by code that is not in its files; {INSTEAD}",
    "gpt_neox_japanese": f"its text is cut by code that is not in its files; {INSTEAD}",
    "blt": f"it reads bytes, in patches that another model cuts; {INSTEAD}",
    "diffllama": f"its heads take one softmax off another; {INSTEAD}",
    "doge": f"its layers choose which keys they read; {INSTEAD}",
    "hrm_text": f"its layers are gone through several times; {INSTEAD}",
    "xlnet": f"it looks at its text in many orders; {INSTEAD}",
    **_own_code(
        chatglm="GLM-4 in transformers' own form ('glm', 'glm4'), or its GGUF file",
        internlm2="its GGUF file, or InternLM 3 ('internlm3')",
        internlm="InternLM 3 ('internlm3')",
        qwen="Qwen2 or newer ('qwen2', 'qwen3')",
        baichuan="a model of transformers' own classes, as 'qwen3'",
        phi3small="another Phi-3 ('phi3')",
        exaone="EXAONE 4 ('exaone4')",
        minicpmv="a 'minicpmv4_6', or the text of a 'qwen3_vl'",
        minicpmo="the text of a 'qwen2_5_omni'",
        orion="a model of transformers' own classes, as 'qwen3'",
        jais="Jais 2 ('jais2')",
        mimo="a 'qwen2' or a 'qwen3'",
        molmo="the text of a 'qwen3_vl'",
        ovis="an 'ovis2' in transformers' own form",
        codeshell="a 'starcoder2'",
        plamo="a model of transformers' own classes, as 'qwen3'",
        plamo3="a model of transformers' own classes, as 'qwen3'",
        refact="a 'starcoder2'",
        maincoder="a 'qwen3'",
        plm="a 'youtu' or a 'minicpm3'",
        deepseek="a 'deepseek_v2'",
        cogvlm="the text of a 'qwen3_vl'",
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


def why_refused(name: str, served: Set[str]) -> str | None:
    """What to say of a name that is not served where it stands; None: nobody knows it. `served`: by
    `model_type`."""
    if name in REFUSED:
        return REFUSED[name]
    own = GGUF_NAMES.get(name, name)
    if own in served:
        return OTHER_FORM.format(name=own)
    return PART if is_part(name, served | REFUSED.keys()) else None
