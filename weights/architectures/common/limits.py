"""Upper limits of a model's sizes: far above any real one, low enough that nothing overflows."""

MAX_VOCAB = 1 << 22
MAX_HIDDEN = 1 << 18
MAX_INTERMEDIATE = 1 << 20
MAX_LAYERS = 1 << 12
MAX_HEADS = 1 << 12
MAX_HEAD_DIM = 1 << 13
MAX_POSITIONS = 1 << 27
MAX_EXPERTS = 1 << 10
MAX_EXPERTS_IN_ALL = 1 << 16  # of all layers
