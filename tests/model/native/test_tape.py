"""A tape does what the forward pass would have done, and refuses what it cannot see."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tests.model.tiny import CPU
from thirdeye.model.linear.linear import Linear
from thirdeye.model.native.library import Library
from thirdeye.model.native.tape import Tape, Unrecordable
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


@pytest.mark.parametrize(
    ("step", "name"),
    [
        (lambda x: x.relu(), "aten.relu"),
        (lambda x: torch.cat([x, x]), "aten.cat"),
        (lambda x: x + x[:1], "aten.add of"),
        (lambda x: x * 2, "aten.mul"),
        (lambda x: x.add_(1), "aten.add_"),
        (lambda x: x[:, ::2].contiguous(), "aten.clone"),
        (lambda x: x.copy_(x), "aten.copy_"),
    ],
)
def test_what_only_torch_can_do_is_refused(
    native: Library, step: Callable[[Tensor], Tensor], name: str
) -> None:
    """It would be missing at every replay. And the library is as it was before."""
    x = torch.randn(3, 4)
    with pytest.raises(Unrecordable, match=name):
        Tape(native, lambda: step(x) + x)
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
