"""Which settings of a model go together: each that does not is named."""

from thirdeye.model.config import Activation, ModelConfig

SIZES = (
    *("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_heads"),
    *("num_kv_heads", "head_dim", "max_position_embeddings"),
)


def check(config: ModelConfig) -> None:
    """Raises ValueError."""
    for name in SIZES:
        if getattr(config, name) < 1:
            raise ValueError(f"'{name}' must be at least 1, got {getattr(config, name)}.")
    _check_attention(config)
    _check_norms(config)
    _check_mlps(config)
    _check_layers(config)
    keeping = frozenset(config.keeping_layers)
    for layer in config.attending_layers:
        _check_source(config, layer, keeping)


def _check_attention(config: ModelConfig) -> None:
    if len(config.attention) not in (0, config.num_hidden_layers):
        raise ValueError(
            f"'attention' must have one spec for each of the {config.num_hidden_layers} layers, "
            f"or none at all, got {len(config.attention)}."
        )
    for layer in range(config.num_hidden_layers):
        if config.num_heads % (num_kv_heads := config.num_kv_heads_of(layer)):
            raise ValueError(
                f"'num_heads' ({config.num_heads}) must be a multiple of 'num_kv_heads' "
                f"({num_kv_heads})."
            )
    is_merged = config.wide_qk_norm or config.head_qk_norm
    if is_merged and not all(spec.has_values for spec in config.attention):
        raise ValueError("'wide_qk_norm' and 'head_qk_norm' are for layers that project values.")
    if config.keeps_latents:
        _check_latents(config)
    if config.rope is None and any(spec.rope for spec in config.attention):
        raise ValueError(
            "'rope' None stands for learned positions, but 'attention' has rotary ones: "
            "give 'rope' too."
        )


def _check_latents(config: ModelConfig) -> None:
    for spec in config.attention:
        if spec.latent is None or spec.latent.kept_size != config.head_dim:
            raise ValueError("'latent' is for all layers, and 'head_dim' must be what it keeps.")
        if config.num_kv_heads != 1 or spec.scale is None:
            raise ValueError("'latent' needs 'num_kv_heads' 1, and a 'scale'.")


def _check_norms(config: ModelConfig) -> None:
    if config.norm_bias and not config.norm_weight:
        raise ValueError("Only a norm without 'norm_bias' may be without 'norm_weight'.")
    if config.shares_norm and not (config.is_parallel and config.pre_norm):
        raise ValueError("'shares_norm' is for parallel blocks with a norm before.")
    if config.norms_stream and (config.pre_norm or config.post_norm or config.is_parallel):
        raise ValueError("'norms_stream' excludes 'pre_norm', 'post_norm', 'is_parallel'.")
    if config.post_norm and config.residual_scale != 1:
        raise ValueError("'residual_scale' must be 1 beside 'post_norm'.")


def _check_mlps(config: ModelConfig) -> None:
    if config.gated_mlp and config.activation is Activation.XIELU:
        raise ValueError("'activation' xielu is for an MLP without a gate.")
    if not config.gated_mlp and config.activation is Activation.CLAMPED_SWIGLU:
        raise ValueError("'activation' clamped_swiglu is for an MLP with a gate.")
    if config.experts is not None and config.activation is Activation.XIELU:
        raise ValueError("'activation' xielu is not for 'experts'.")


def _check_layers(config: ModelConfig) -> None:
    if config.head_bias and config.tie_word_embeddings:
        raise ValueError("'head_bias' is for a head of its own, not one that is the embeddings.")
    if config.dense_layers and config.experts is None:
        raise ValueError("'dense_layers' are those among layers with 'experts': give them.")
    if config.experts_beside and (
        config.experts is None or config.is_parallel or config.norms_stream
    ):
        raise ValueError("'experts_beside' is for 'experts' behind attention: give them.")
    if bool(config.state_layers) != (config.state is not None):
        raise ValueError("'state_layers' are those with a 'state': give both, or neither.")
    if config.lone_mlps and (config.is_parallel or config.state_beside or config.norms_stream):
        raise ValueError("'lone_mlps' have nothing beside them that they could be parallel to.")
    if config.state_beside and len(config.state_layers) != config.num_hidden_layers:
        raise ValueError("'state_beside' attention is for all layers: name them.")
    if not config.attending_layers:
        raise ValueError("'state_layers' must leave a layer with attention.")
    if config.layer_scale and (config.is_parallel or config.norms_stream or config.lone_mlps):
        raise ValueError("'layer_scale' is for layers of attention and MLP, one after the other.")
    if config.layer_scale and config.state_beside:
        raise ValueError("'layer_scale' is for layers without a state beside attention.")
    if config.layer_input_size and not config.layer_scale:
        raise ValueError("'layer_input_size' is for models with 'layer_scale'.")
    if len(config.mlp_sizes) not in (0, config.num_hidden_layers):
        raise ValueError("'mlp_sizes' must have one number for each layer, or none at all.")


def _check_source(config: ModelConfig, layer: int, keeping: frozenset[int]) -> None:
    """Raises ValueError if a layer cannot read what its source keeps. `keeping`: the layers that
    keep keys and values of their own."""
    source = config.attention_of(layer).source
    if source is None:
        return
    if not 0 <= source < layer or source not in keeping:
        raise ValueError(
            f"'source' {source} of layer {layer} must be an earlier one that keeps keys and "
            "values of its own."
        )
    both = ((config.num_kv_heads_of(n), config.head_dim_of(n)) for n in (source, layer))
    if len(set(both)) > 1:
        raise ValueError(f"'source' {source} of layer {layer} has heads of another shape.")
    if config.wide_qk_norm or config.head_qk_norm or config.state_beside:
        raise ValueError("'source' is for layers with 'qk_norm', or without norms of heads.")
