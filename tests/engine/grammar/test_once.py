"""What is made once, by whoever asks first."""

import gc
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest

from thirdeye.server.engine.grammar.once import Once

THREADS = 8


class Thing:
    pass


def test_it_is_made_when_asked_for_and_the_others_wait() -> None:
    begun, may_end, calls = threading.Event(), threading.Event(), []

    def make() -> Thing:
        calls.append(threading.get_ident())
        begun.set()
        assert may_end.wait(60)
        return Thing()

    once = Once(make)
    assert not calls
    with ThreadPoolExecutor(THREADS) as threads:
        asked = [threads.submit(once) for _ in range(THREADS)]
        assert begun.wait(60)
        may_end.set()
        made = {id(each.result()) for each in asked}
    assert len(calls) == len(made) == 1


def test_what_failed_is_tried_again() -> None:
    outcomes = iter([None, Thing()])

    def make() -> Thing:
        if (thing := next(outcomes)) is None:
            raise OSError("gone")
        return thing

    once = Once(make)
    with pytest.raises(OSError, match="gone"):
        once()
    assert once() is once()


def test_what_it_was_made_of_is_let_go() -> None:
    thing = Thing()
    known = weakref.ref(thing)
    once = Once(lambda thing=thing: 1)
    del thing
    assert once() == 1
    gc.collect()
    assert known() is None
