"""A layer of experts against a loop over tokens, and a token alone against it in company."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.model.experts.layer import PLAIN, SPECS, finish, layer_of, tokens, weights_of
from tests.model.tiny import CPU, LLAMA, change
from tests.oracles.experts import experts_by_hand, route_by_hand
from thirdeye.model.declare.block import mlp_part
from thirdeye.model.declare.mlp import ExpertsPart
from thirdeye.model.experts_spec import ExpertsSpec, Scoring
from thirdeye.model.native.expert_kernels import RouteKernel
from thirdeye.model.native.library import Library
from thirdeye.model.parts.choose_parts import make_experts
from thirdeye.model.parts.experts import choose_experts
from thirdeye.model.placement import Placement

FORMS = ("none", "int8", "q8_0", "q4_0")


@pytest.mark.parametrize("is_native", [False, True])
@pytest.mark.parametrize("name", SPECS)
def test_a_loop_over_tokens(name: str, is_native: bool, native: Library) -> None:
    layer = layer_of(SPECS[name], native if is_native else None)
    x, weights = tokens(9), weights_of(layer)
    router, logits = layer.router, x @ layer.router.linear.weight.T
    routes = route_by_hand(logits, SPECS[name], router.choice_bias, router.expert_scales)
    expected = experts_by_hand(x, routes, weights, SPECS[name].scales_input)
    torch.testing.assert_close(finish(layer)(x), expected.float(), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["softmax", "groups", "scaled inputs"])
def test_company_changes_no_bit(name: str, form: str, native: Library) -> None:
    """Of a token: alone, among many, in another order, with others at its experts."""
    layer = finish(layer_of(SPECS[name], native, form))
    x = tokens(37)
    together = layer(x)
    order = torch.randperm(37, generator=torch.Generator().manual_seed(1))
    assert torch.equal(layer(x[order]), together[order])
    for token in range(0, 37, 5):
        assert torch.equal(layer(x[token : token + 1])[0], together[token])
    assert torch.equal(layer(x[:1].expand(6, -1)), together[:1].expand(6, -1))


def test_company_changes_no_bit_without_kernels() -> None:
    layer = finish(layer_of(SPECS["groups"]))
    x = tokens(37)
    together = layer(x)
    for token in range(0, 37, 5):
        assert torch.equal(layer(x[token : token + 1])[0], together[token])


@pytest.mark.parametrize("form", FORMS)
def test_grouped_products_are_the_layers_own(form: str, native: Library) -> None:
    """Bit for bit what each expert would say alone, in the forms that experts are kept in."""
    layer = finish(layer_of(SPECS["renormalized"], native, form))
    x = tokens(11)
    routing = layer.router(x)
    expected = torch.zeros(11, x.shape[1])
    for token in range(11):
        parts = [
            layer.experts[expert](x[token : token + 1])[0] * weight
            for expert, weight in zip(routing.chosen[token], routing.weights[token], strict=True)
        ]
        expected[token] = parts[0]
        for part in parts[1:]:
            expected[token] += part
    assert torch.equal(layer(x), expected)


@pytest.mark.parametrize("form", FORMS)
def test_experts_without_a_gate(form: str, native: Library) -> None:
    """Each says down(relu(up(x)) squared): alone and among many the same, to the bit."""
    shared = replace(SPECS["sigmoid"], shared_size=64)
    layer = finish(layer_of(shared, native, form, is_gated=False))
    x = tokens(11)
    together, routing = layer(x), layer.router(x)
    for token in range(11):
        one = x[token : token + 1]
        assert torch.equal(layer(one)[0], together[token])
        expected = layer.shared(one)[0] if layer.shared else 0.0
        for expert, weight in zip(routing.chosen[token], routing.weights[token], strict=True):
            own = layer.experts[expert]
            expected = expected + own.down(own.up(one).relu().square())[0] * weight
        torch.testing.assert_close(together[token], expected, atol=1e-4, rtol=1e-4)


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_choices(native: Library, data: st.DataObject) -> None:
    """In torch and in C whom the textbook asks, with numbers of any size."""
    groups = data.draw(st.sampled_from([1, 2, 4]))
    size = data.draw(st.integers(1, 9))
    num_chosen_groups = data.draw(st.integers(1, groups))
    spec = ExpertsSpec(
        num_experts=groups * size,
        num_chosen=data.draw(st.integers(1, num_chosen_groups * size)),
        intermediate_size=1,
        scoring=data.draw(st.sampled_from(Scoring)),
        is_renormalized=data.draw(st.booleans()),
        num_groups=groups,
        num_chosen_groups=num_chosen_groups,
        best_of_group=data.draw(st.integers(1, min(size, 2))),
    )
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 1000)))
    logits = torch.randn(5, spec.num_experts, generator=generator) * data.draw(
        st.sampled_from([0.1, 1.0, 3.0])
    )
    bias = torch.randn(spec.num_experts, generator=generator) if data.draw(st.booleans()) else None
    expected = route_by_hand(logits, spec, bias)
    for found in (
        choose_experts(logits, spec, bias),
        RouteKernel(native, spec)(logits.clone(), bias),
    ):
        for chosen, weights, route in zip(found.chosen, found.weights, expected, strict=True):
            assert chosen.tolist() == list(route)
            torch.testing.assert_close(weights, torch.tensor(list(route.values())))


def test_rows_stand_by_expert(native: Library) -> None:
    logits = torch.randn(20, 8, generator=torch.Generator().manual_seed(5))
    found = RouteKernel(native, PLAIN)(logits, None)
    starts, owners = found.starts.tolist(), found.tokens.tolist()
    assert starts[0] == 0
    assert starts[-1] == 60
    for expert in range(8):
        own = owners[starts[expert] : starts[expert + 1]]
        assert own == [t for t in range(20) if expert in found.chosen[t].tolist()]
    for token, places in enumerate(found.places.tolist()):
        assert [owners[place] for place in places] == [token] * 3


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_broken_numbers_choose_somebody(value: float, native: Library) -> None:
    """A token whose numbers are broken breaks nobody else's, and asks experts that there are."""
    x = tokens(4)
    layer = finish(layer_of(SPECS["renormalized"], native))
    whole = layer(x)
    x[2] = value
    broken = layer(x)
    assert not broken[2].isfinite().all()
    assert torch.equal(broken[[0, 1, 3]], whole[[0, 1, 3]])


def test_what_cannot_be() -> None:
    for changes, problem in (
        ({"num_chosen": 9}, "'num_chosen' \\(9\\) must be at most the 8 experts"),
        ({"num_groups": 3}, "'num_groups' \\(3\\) must divide 'num_experts' \\(8\\)"),
        ({"num_experts": 0}, "'num_experts' must be at least 1"),
        ({"shared_gate": True}, "'shared_gate' is for a shared expert"),
    ):
        settings = {"num_experts": 8, "num_chosen": 3, "intermediate_size": 4} | changes
        with pytest.raises(ValueError, match=problem):
            ExpertsSpec(**settings)  # type: ignore[arg-type]  # any of them


def part_of(spec: ExpertsSpec) -> ExpertsPart:
    part = mlp_part(change(LLAMA, experts=spec))
    assert isinstance(part, ExpertsPart)
    return part


def test_a_gpu_without_triton_is_refused_by_name() -> None:
    where = Placement(torch.float32, torch.device("cuda"))
    with pytest.raises(ValueError, match="models with experts need the package triton on a GPU"):
        make_experts(part_of(PLAIN), where)


@pytest.mark.parametrize("name", ["int8", "int4", "fp8"])
def test_rounded_experts_on_a_gpu_are_refused_by_name(name: str) -> None:
    where = Placement(torch.float32, CPU, name, is_fused=True)
    with pytest.raises(ValueError, match=f"'--quantize' {name} is not there for experts on a GPU"):
        make_experts(part_of(PLAIN), where)
