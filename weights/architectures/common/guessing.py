"""What files call the tensors of heads that guess one more token (MTP)."""

from thirdeye.weights.architectures.architecture import GuessingNames
from thirdeye.weights.architectures.common.name_table import TensorTarget

TOKEN, HIDDEN = "join.embedding_norm.weight", "join.hidden_norm.weight"
PROJECTION, NORM = "join.projection.weight", "final_norm.weight"

# One layer more than the model has (DeepSeek V3, GLM-4.5). The file repeats embeddings and head.
BEHIND_THE_LAST = GuessingNames(
    layer="layers.{n}.",
    others={
        "enorm.weight": TensorTarget(TOKEN),
        "hnorm.weight": TensorTarget(HIDDEN),
        "eh_proj.weight": TensorTarget(PROJECTION),
        "shared_head.norm.weight": TensorTarget(NORM),
    },
)
# Beside the model, with norms' weights kept less 1 (Qwen3-Next, Qwen3.5).
BESIDE_THE_MODEL = GuessingNames(
    layer="mtp.layers.0.",
    others={
        "mtp.pre_fc_norm_embedding.weight": TensorTarget(TOKEN, offset=1.0),
        "mtp.pre_fc_norm_hidden.weight": TensorTarget(HIDDEN, offset=1.0),
        "mtp.fc.weight": TensorTarget(PROJECTION),
        "mtp.norm.weight": TensorTarget(NORM, offset=1.0),
    },
)
# llama.cpp's names of either: one layer more than the model has.
IN_GGUF = GuessingNames(
    layer="blk.{n}.",
    others={
        "nextn.enorm.weight": TensorTarget(TOKEN),
        "nextn.hnorm.weight": TensorTarget(HIDDEN),
        "nextn.eh_proj.weight": TensorTarget(PROJECTION),
        "nextn.shared_head_norm.weight": TensorTarget(NORM),
    },
    first="blk.0.",
)
