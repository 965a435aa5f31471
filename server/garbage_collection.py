"""How Python's garbage collector is to look at a process that serves: never for long."""

import gc

NEW_OBJECTS, YOUNG_COLLECTIONS, MIDDLE_COLLECTIONS = 700, 10, 2  # Python's own: 700, 10, 10


def freeze_heap() -> None:
    """What is there now stays, and collections pass it over. Call it when loading has ended.

    Requests leave reference cycles (a stream's cancelled tasks, with their tracebacks), and while
    these are taken apart no stream gets a token. So they are taken apart often and few at a time:
    with Python's own thresholds 30,000 objects pile up, some 30 ms of work. The empty collection
    tells the collector that nothing is old: it waits until what is new is a quarter of that.
    """
    gc.freeze()
    gc.collect()
    gc.set_threshold(NEW_OBJECTS, YOUNG_COLLECTIONS, MIDDLE_COLLECTIONS)
    gc.enable()
