"""The choices of a checkpoint's model, as the API tells of them."""

from thirdeye.model.config import AttentionSpec, ModelConfig
from thirdeye.server.api.state.model_design import ExpertsDesign, LatentDesign, ModelDesign


def design_of(config: ModelConfig, tensor_format: str) -> ModelDesign:
    layers = range(config.num_hidden_layers)
    specs = [config.attention_of(i) for i in layers]
    attending_layers = config.attending_layers
    attending = [specs[i] for i in attending_layers]
    ropes = [spec.rope for spec in attending if spec.rope is not None]
    chunks = [spec.chunk for spec in specs]
    windows = [None if spec.chunk else spec.window for spec in specs]
    return ModelDesign(
        norm=config.norm,
        norm_eps=config.norm_eps,
        pre_norm=config.pre_norm,
        post_norm=config.post_norm,
        norms_stream=config.norms_stream,
        is_parallel=config.is_parallel,
        positions=positions_of(config),
        rope_theta=ropes[0].theta if ropes else None,
        rope_dim=ropes[0].dim if ropes else 0,
        latent=latent_of(attending[0]),
        qk_norm=config.qk_norm or config.wide_qk_norm or config.head_qk_norm,
        score_divisor=attending[0].divisor(config.head_dim),
        score_softcap=attending[0].softcap,
        gated_heads=config.attention_gate,
        sinks=any(spec.sinks for spec in attending),
        windows=windows if any(windows) else [],
        chunks=chunks if any(chunks) else [],
        head_dims=where_they_differ([config.head_dim_of(i) for i in layers]),
        kv_heads=where_they_differ([config.num_kv_heads_of(i) for i in layers]),
        rope_dims=where_they_differ([spec.rope.dim if spec.rope else 0 for spec in specs]),
        activation=config.activation,
        gated_mlp=config.gated_mlp,
        intermediate_size=config.intermediate_size,
        vocab_size=config.vocab_size,
        tie_word_embeddings=config.tie_word_embeddings,
        experts=experts_of(config),
        state_layers=[layer for layer in layers if layer not in attending_layers],
        lone_mlps=list(config.lone_mlps),
        state_beside=config.state_beside,
        tensor_format=tensor_format,
    )


def where_they_differ(numbers: list[int]) -> list[int]:
    return numbers if len({*numbers}) > 1 else []


def positions_of(config: ModelConfig) -> str:
    """How tokens are told apart by where they stand."""
    specs = [config.attention_of(layer) for layer in range(config.num_hidden_layers)]
    if any(spec.alibi for spec in specs):
        return "alibi"
    if any(spec.rope for spec in specs):
        return "rotary"
    return "learned" if config.has_learned_positions else "none"


def latent_of(spec: AttentionSpec) -> LatentDesign | None:
    latent = spec.latent
    if latent is None:
        return None
    return LatentDesign(size=latent.size, query_size=latent.query_size, key_dim=latent.head_size)


def experts_of(config: ModelConfig) -> ExpertsDesign | None:
    spec = config.experts
    if spec is None:
        return None
    layers = range(config.num_hidden_layers)
    return ExpertsDesign(
        num_experts=spec.num_experts,
        num_chosen=spec.num_chosen,
        has_shared=spec.shared_size > 0,
        layers=[layer for layer in layers if config.experts_of(layer) is not None],
    )
