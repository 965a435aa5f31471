"""A tape: the operations of a forward pass, recorded once and replayed by one call into C.

The CPU's twin of a CUDA graph. A step of a few tokens is hundreds of small operations, and Python
takes as long to start one as it takes to run. So they are recorded without being run, for one shape
of inputs, with buffers that stay where they are; a step then copies its inputs into these and
replays. What the model is stays in Python, in one place.

An operation that has no kernel of ours ends a segment: torch does it between two calls into C.
"""

import ctypes
from collections.abc import Callable, Sequence
from itertools import groupby

from torch import Tensor

from thirdeye.model.native.library import Library
from thirdeye.model.native.tapes.recorder import Call, Recorder, RefuseReads, unheld
from thirdeye.model.native.tapes.torch_call import TorchCall


class Entry(ctypes.Structure):
    """`struct tape_entry`."""

    _fields_ = (
        ("operation", ctypes.c_void_p),
        ("args", ctypes.c_void_p),
        ("is_small", ctypes.c_long),
    )


class TapeArgs(ctypes.Structure):
    """`struct tape_args`."""

    _fields_ = (("entries", ctypes.c_void_p), ("num_entries", ctypes.c_long))


class TapeSegment:
    """Operations in C, one after the other by one call."""

    def __init__(self, library: Library, calls: Sequence[Call]) -> None:
        self.calls = tuple(calls)  # C has the addresses of what they hold
        self._entries = (Entry * len(calls))(
            *(Entry(op, ctypes.addressof(args), small) for op, args, small in calls)
        )
        self._args = TapeArgs(ctypes.addressof(self._entries), len(calls))
        self._run, self._operation = library.run, library.operation("tape")

    def __call__(self) -> None:
        self._run(self._operation, self._args)


class Tape:
    """What `forward` does, ready to be done again on what its inputs' buffers hold then.

    Raises `Unrecordable`. `forward` is called once, here, and nothing is computed yet: what it
    reads of Python's is as it was then.
    """

    def __init__(
        self, library: Library, forward: Callable[[], Tensor], memory: list[Tensor] | None = None
    ) -> None:
        """`memory`: buffers to use and to add to, shared by tapes that are never needed at once: an
        output is good until the next of them is replayed.
        """
        recorder = Recorder(library, [] if memory is None else memory)
        with library.recorded_by(recorder.record), recorder, RefuseReads():
            output = forward()
        self.output = unheld(output, recorder.buffers)
        self._kept = recorder.buffers, recorder.kept  # C has their addresses
        self.parts: list[TapeSegment | TorchCall] = []
        for _, group in groupby(recorder.steps, type):
            steps = list(group)
            in_c = [step for step in steps if not isinstance(step, TorchCall)]
            in_torch = [step for step in steps if isinstance(step, TorchCall)]
            self.parts += [TapeSegment(library, in_c)] if in_c else in_torch
        names = [part.name for part in self.parts if isinstance(part, TorchCall)]
        self.done_by_torch = tuple(dict.fromkeys(names))  # the operations' names, each once

    def replay(self) -> Tensor:
        """The output of `forward`; the next replay writes to the same place, of whichever tape
        with the same memory."""
        for part in self.parts:
            part()
        return self.output
