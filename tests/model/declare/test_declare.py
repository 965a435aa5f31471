"""What a model declares is what its modules have: names, shapes, and each rank's share of them."""

from dataclasses import dataclass, replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.draws import draws
from tests.model.tiny import CPU, GPT2, LLAMA, change
from tests.weights.sinks import parameter_names
from thirdeye.model.attention.blocked import BlockedAttention
from thirdeye.model.config import Activation, Alibi, AttentionSpec, ModelConfig, Norm, RopeConfig
from thirdeye.model.declare.latent_spec import LatentSpec
from thirdeye.model.declare.parameter import Dealt, Parameter, Role, Rows
from thirdeye.model.declare.transformer import parameters
from thirdeye.model.experts_spec import ExpertsSpec
from thirdeye.model.loading.load_tensors import expected_tensors
from thirdeye.model.parallel.shares import Ranks, cut
from thirdeye.model.transformer import Transformer

COUNTS = st.integers(1, 3)
FLAGS = st.booleans()


@st.composite
def configs(draw: st.DrawFn) -> ModelConfig:
    """Everything that a config can ask of a model's parts, small enough for many ranks."""
    num_kv_heads = 4 * draw(COUNTS)
    head_dim = 2 * draw(COUNTS)
    num_layers = draw(COUNTS)
    alibi = Alibi() if draw(FLAGS) else None
    specs = [AttentionSpec(sinks=draw(FLAGS), alibi=alibi) for _ in range(num_layers)]
    norm, is_tied = draw(st.sampled_from(Norm)), draw(FLAGS)
    has_weight = norm is Norm.RMS_NORM or draw(FLAGS)
    norms_stream = draw(FLAGS)
    is_parallel = draw(FLAGS) and not norms_stream
    return ModelConfig(
        architecture="any",
        vocab_size=draw(st.integers(16, 40)),
        hidden_size=draw(st.integers(1, 9)),
        intermediate_size=4 * draw(COUNTS),
        num_hidden_layers=num_layers,
        num_heads=num_kv_heads * draw(COUNTS),
        num_kv_heads=num_kv_heads,
        head_dim=head_dim,
        max_position_embeddings=draw(st.integers(1, 9)),
        norm=norm,
        norm_eps=1e-5,
        activation=(activation := draw(st.sampled_from(Activation))),
        gated_mlp=(is_gated := is_gated_with(activation, draw(FLAGS))),
        rope=RopeConfig(1e4, head_dim) if draw(FLAGS) else None,
        qkv_bias=draw(FLAGS),
        attention_output_bias=draw(FLAGS),
        mlp_bias=draw(FLAGS),
        tie_word_embeddings=is_tied,
        qk_norm=draw(FLAGS),
        head_qk_norm=draw(FLAGS),
        norm_weight=has_weight,
        norm_bias=has_weight and draw(FLAGS),
        head_bias=draw(FLAGS) and not is_tied,
        pre_norm=not norms_stream,
        norms_stream=norms_stream,
        is_parallel=is_parallel,
        shares_norm=is_parallel and draw(FLAGS),
        final_norm=draw(FLAGS),
        embedding_size=draw(st.none() | st.integers(1, 9)),
        embedding_norm=draw(FLAGS),
        attention=tuple(specs) if draw(FLAGS) else (),
        experts=(spec := draw(st.none() | expert_specs()) if is_gated else None),
        dense_layers=(0,) if spec and draw(FLAGS) else (),
    )


@st.composite
def layered_configs(draw: st.DrawFn) -> ModelConfig:
    """What layers may have of their own: heads, keys, an input, a scale, experts beside the MLP."""
    num_layers = 1 + draw(COUNTS)
    own = [
        AttentionSpec(
            head_dim=2 * draw(COUNTS), num_kv_heads=4 * draw(COUNTS), has_values=draw(FLAGS)
        )
        for _ in range(num_layers)
    ]
    if draw(FLAGS):
        own[-1] = replace(own[0], source=0, has_values=True)
    has_scale = draw(FLAGS)
    return change(
        LLAMA,
        vocab_size=draw(st.integers(16, 40)),
        num_hidden_layers=num_layers,
        num_heads=24,
        num_kv_heads=4,
        attention=tuple(own),
        qk_norm=draw(FLAGS),
        value_norm=draw(FLAGS),
        layer_scale=has_scale,
        layer_input_size=draw(st.integers(1, 5)) if has_scale and draw(FLAGS) else 0,
        mlp_sizes=tuple(4 * draw(COUNTS) for _ in own) if draw(FLAGS) else (),
        experts=(spec := draw(st.none() | expert_specs())),
        experts_beside=spec is not None and draw(FLAGS),
        dense_layers=(0,) if spec and draw(FLAGS) else (),
    )


@st.composite
def latent_configs(draw: st.DrawFn) -> ModelConfig:
    """Heads, dealt out, that look at latents, which all ranks keep."""
    latent = LatentSpec(
        *(draw(COUNTS) for _ in range(4)), query_size=draw(st.none() | st.integers(1, 5))
    )
    spec = AttentionSpec(scale=0.5, has_values=False, latent=latent)
    return change(
        LLAMA,
        vocab_size=draw(st.integers(16, 40)),
        num_heads=4 * draw(COUNTS),
        num_kv_heads=1,
        head_dim=latent.kept_size,
        qkv_bias=draw(FLAGS),
        attention_output_bias=draw(FLAGS),
        attention=(spec,) * 2,
    )


def is_gated_with(activation: Activation, wanted: bool) -> bool:
    """Two of them leave no choice."""
    if activation is Activation.CLAMPED_SWIGLU:
        return True
    return wanted and activation is not Activation.XIELU


@st.composite
def expert_specs(draw: st.DrawFn) -> ExpertsSpec:
    return ExpertsSpec(
        num_experts=draw(COUNTS),
        num_chosen=1,
        intermediate_size=4 * draw(COUNTS),
        choice_bias=draw(FLAGS),
        expert_scales=draw(FLAGS),
        router_bias=draw(FLAGS),
        bias=draw(FLAGS),
        shared_size=(shared := draw(st.sampled_from([0, 4, 8]))),
        shared_gate=draw(FLAGS) and shared > 0,
    )


@dataclass(frozen=True, slots=True)
class Apart:
    """One of several ranks that never meet."""

    rank: int
    size: int

    def add_up(self, x: Tensor) -> Tensor:
        return x

    def gather(self, x: Tensor, dim: int) -> Tensor:
        return x


def module(config: ModelConfig, ranks: Ranks) -> Transformer:
    backend = BlockedAttention()
    return Transformer(config, backend, dtype=torch.float32, device=CPU, ranks=ranks)


@draws(15, 60)
@given(
    configs() | layered_configs() | latent_configs(),
    st.sampled_from([(0, 1), (0, 2), (1, 2), (3, 4)]),
)
def test_modules_have_what_is_declared(config: ModelConfig, place: tuple[int, int]) -> None:
    """Names and shapes, in one piece and on a rank among several."""
    model = module(config, Apart(*place))
    ours = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    assert ours == {name: p.own_shape(*place) for name, p in parameters(config).items()}
    if place[1] == 1:
        assert ours == {name: p.shape() for name, p in parameters(config).items()}


@draws(15, 60)
@given(configs())
def test_names_are_the_written_ones(config: ModelConfig) -> None:
    """Readers' tables speak of these: a field that is renamed would break them."""
    assert expected_tensors(parameters(config)) == parameter_names(config)


@draws(15, 60)
@given(configs() | layered_configs() | latent_configs(), st.sampled_from([2, 4]))
def test_shares_make_up_the_whole(config: ModelConfig, size: int) -> None:
    """Every number is some rank's, and only what is not dealt out is on several; a merged layer
    gives each rank the same numbers whole as part by part."""
    for parameter in parameters(config).values():
        whole = torch.arange(1, parameter.shape()[0] + 1).unsqueeze(1) * 1000
        whole = (whole + torch.arange(*parameter.row_shape or (1,))).reshape(parameter.shape())
        shares = [cut(whole, parameter.share(None, rank, size)) for rank in range(size)]
        seen = torch.cat([share.flatten() for share in shares])
        copies = size if parameter.dealt is Dealt.WHOLE else 1
        assert torch.equal(seen[seen > 0].sort()[0], whole.flatten().repeat(copies).sort()[0])
        for rank, share in enumerate(shares):
            assert share.shape == parameter.own_shape(rank, size)
            for part, rows in zip(parameter.parts, pieces(parameter), strict=True):
                own = cut(whole[rows], parameter.share(part, rank, size))
                assert torch.equal(own, share[parameter.own_rows(part, rank, size)])


def pieces(parameter: Parameter) -> list[slice]:
    """The rows of each named part in the whole tensor."""
    found, start = [], 0
    for rows in parameter.rows:
        found.append(slice(start, start + rows.size))
        start += rows.size
    return found if parameter.parts else []


@pytest.mark.parametrize("config", [LLAMA, GPT2, change(LLAMA, tie_word_embeddings=True)])
def test_each_number_has_one_role(config: ModelConfig) -> None:
    for parameter in parameters(config).values():
        total = parameter.shape()[0] * (parameter.row_shape or (1,))[0]
        assert sum(count for _, count in parameter.counts()) == total


def test_a_part_that_is_not_there() -> None:
    merged = Parameter((Rows(2, Role.QUERY, "q"), Rows(1, Role.KEY, "k")), (3,))
    assert merged.shape("k") == (1, 3)
    with pytest.raises(KeyError):
        merged.shape("v")
