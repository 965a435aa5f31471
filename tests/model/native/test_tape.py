"""A tape does what the forward pass would have done, and refuses what it cannot see."""

import re
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tests.model.tiny import CPU
from thirdeye.model.linear.linear import Linear
from thirdeye.model.native.library import Library
from thirdeye.model.native.tapes.tape import Tape, TapeSegment
from thirdeye.model.native.tapes.torch_call import TorchCall, Unrecordable
from thirdeye.model.placement import Placement


@pytest.fixture
def layers(native: Library) -> list[Linear]:
    """Wide enough that two threads share some of the operations, and one does others."""
    where = Placement(torch.float32, CPU, "int8", native=native)
    layers = [Linear(640, 640, True, where) for _ in range(6)]
    for layer in layers:
        layer.weight.normal_(std=0.05)
        layer.bias.normal_()
        layer.finish()
    return layers


def residual(layers: list[Linear], x: Tensor) -> Tensor:
    """Products, additions, views: what blocks are made of."""
    for layer in layers:
        y = layer(x).unflatten(1, (2, -1))
        x = x + y.flatten(1)
    return x


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("rows", [1, 5, 40])
def test_a_replay_is_the_forward_pass(
    native: Library, layers: list[Linear], rows: int, threads: int
) -> None:
    """Bit for bit, again and again, on whatever the inputs hold by then."""
    torch.set_num_threads(threads)
    x = torch.randn(rows, 640)
    tape = Tape(native, lambda: residual(layers, x))
    for _ in range(5):
        x.normal_()
        assert torch.equal(tape.replay(), residual(layers, x))


def test_one_number_for_all(native: Library) -> None:
    """A product and a range: torch's bits, a NaN and zeros with their signs included."""
    torch.set_num_threads(2)
    x = torch.randn(40, 640)
    x[0, :6] = torch.tensor([torch.nan, torch.inf, -torch.inf, 0.0, -0.0, 4e38])
    for forward in (lambda: x * 0.22, lambda: x.clamp(-0.5, 0.5)):
        replayed = Tape(native, forward).replay()
        assert torch.equal(replayed.view(torch.int32), forward().view(torch.int32))


def test_nothing_is_computed_while_recording(native: Library, layers: list[Linear]) -> None:
    x = torch.randn(2, 640)
    before = x.clone()
    tape = Tape(native, lambda: residual(layers, x))
    assert torch.equal(x, before)
    assert not torch.equal(tape.output, residual(layers, x))
    tape.replay()
    assert torch.equal(tape.output, residual(layers, x))


def test_memory_is_used_again_but_not_while_somebody_has_it(native: Library) -> None:
    """Sums over sums: all but the first few buffers are those of values nobody wants any more."""
    memory: list[Tensor] = []
    x = torch.randn(3, 50)

    def doubled() -> Tensor:
        y, kept = x, [x]
        for i in range(20):
            y = y + y
            if i == 3:
                kept.append(y.view(50, 3).view(3, 50))  # held through views of it
        return y + kept[-1]

    tape = Tape(native, doubled, memory)
    assert torch.equal(tape.replay(), doubled())
    assert len(memory) <= 5
    other = Tape(native, doubled, memory)
    expected = tape.replay().clone()
    assert len(memory) <= 5
    assert torch.equal(other.replay(), expected)
    assert tape.output.data_ptr() == other.output.data_ptr(), "good until the next is replayed"


ONLY_TORCH: dict[str, Callable[[Tensor], Tensor]] = {
    "aten.relu": lambda x: x.relu(),
    "aten.cat": lambda x: torch.cat([x, x]),
    "aten.add.Tensor": lambda x: x + x[:1],
    "aten.mul": lambda x: x * 2,
    "aten.add_": lambda x: x.add_(1),
    "aten.clone": lambda x: x[:, ::2].contiguous(),
    "aten.copy_": lambda x: x.copy_(x.flip(0)),
    "aten.clamp": lambda x: x.clamp(min=0.1),
    "aten.sin.out": lambda x: torch.sin(x, out=torch.empty_like(x)),
    "aten.exp": lambda x: x.t().exp(),  # in the strides of what it is made of
    "aten.sort": lambda x: sum(x.sort(dim=1)),  # type: ignore[arg-type, return-value]  # numbers, places
    "aten.cumsum": lambda x: x.double().cumsum(1),
    "aten._softmax": lambda x: x.softmax(-1),
    "aten.native_layer_norm": lambda x: torch.nn.functional.layer_norm(x, (4,)),
    "aten.std": lambda x: (x - x.mean(-1, keepdim=True)) / x.std(-1, keepdim=True),
    "aten.lift_fresh": lambda x: x * torch.tensor([1.0, 2.0, -3.0, 0.5]),
    "aten.arange": lambda x: x * torch.arange(4),
    "aten.index": lambda x: x[[2, 0, 1]],
    "aten.index_put_": lambda x: torch.where(x > 0, x, 3.0).index_put_((x < 0,), torch.tensor(7.0)),
    "aten.rot90|aten.flip": lambda x: x.view(3, 2, 2).permute(2, 0, 1).flip(0),
    "aten._to_copy": lambda x: x.half(),
}


@pytest.mark.parametrize("name", ONLY_TORCH)
def test_torch_does_what_no_kernel_does(native: Library, name: str) -> None:
    """Between two segments, on what the first has computed; its bits and strides are torch's."""
    x = torch.randn(3, 4)

    def forward() -> Tensor:
        y = ONLY_TORCH[name](x + x)
        return y + y

    tape = Tape(native, forward)
    assert any(re.match(name, done) for done in tape.done_by_torch)
    for _ in range(3):
        x.normal_()
        expected = forward()
        assert torch.equal(tape.replay(), expected)
        assert tape.output.stride() == expected.stride()


def test_an_operation_in_parts(native: Library, layers: list[Linear]) -> None:
    """Segments as long as they can be: a call into C before it, one behind it."""
    x = torch.randn(2, 640)
    tape = Tape(native, lambda: residual(layers, residual(layers, x).relu()).relu())
    kinds = [type(part) for part in tape.parts]
    assert kinds == [TapeSegment, TorchCall, TapeSegment, TorchCall]
    assert tape.done_by_torch == ("aten.relu.default",)


def test_what_only_torch_does_holds_no_memory(native: Library) -> None:
    """Neither its arguments nor its results, once nobody wants them any more."""
    memory: list[Tensor] = []
    x = torch.randn(3, 50)

    def forward() -> Tensor:
        y = x
        for _ in range(20):
            y = (y + y).sin()
            y = y.sort(dim=1).values.add_(1)
        return y

    tapes = [Tape(native, forward, memory) for _ in range(3)]
    assert len(memory) <= 5
    for tape in tapes:
        x.normal_()
        assert torch.equal(tape.replay(), forward())


@pytest.mark.parametrize(
    ("step", "name"),
    [
        (lambda x: x * x.max().item(), "aten._local_scalar_dense"),
        (lambda x: x.relu() if x.sum() > 0 else x, "aten._local_scalar_dense"),
        (lambda x: x * x.tolist()[0][0], "Tensor.tolist"),
        (lambda x: x + torch.from_numpy(x.numpy()), "Tensor.numpy"),
        (lambda x: x[x > 0], "aten.index"),
        (lambda x: x.nonzero(), "aten.nonzero"),
        (lambda x: x.clone().resize_(2), "aten.resize_"),
        (lambda x: x.clone().t_(), "aten.t_"),
        (lambda x: torch.sin(x, out=torch.empty(0)), "aten.sin.out"),
        (lambda x: torch.sort(x, out=(x.clone(), x.long()))[0], "aten.sort.values"),
    ],
)
def test_what_depends_on_data_is_refused(
    native: Library, step: Callable[[Tensor], Tensor], name: str
) -> None:
    """It would be at every replay what it was at the first. And the library is as it was before."""
    x = torch.randn(3, 4)
    with pytest.raises(Unrecordable, match=name):
        Tape(native, lambda: step(x + x))
    assert torch.equal(Tape(native, lambda: x + x).replay(), x + x)


def test_an_output_outlives_its_tape(native: Library) -> None:
    """Its memory is nobody else's as long as it is held."""
    x = torch.randn(30, 50)
    outputs = [Tape(native, lambda: x + x).replay() for _ in range(20)]
    others = [torch.zeros(2048) for _ in range(20)]  # as large as what a tape would have freed
    assert all(torch.equal(output, x + x) for output in outputs)
    assert not any(other.any() for other in others)


def test_a_tape_of_nothing(native: Library) -> None:
    x = torch.randn(3, 4)
    assert Tape(native, lambda: x).replay() is x
