"""Files that share a started server, a loaded model or a compiled library run on one worker, which
starts, loads or compiles it once."""

from xdist.scheduler import LoadFileScheduling

# Each row is one worker's, from its first file to its last.
SHARERS = (
    (  # the tiny server, the real one and the default one, and transformers' default model
        "tests/e2e/answers/",
        "tests/e2e/clients/test_clients.py",
        "tests/e2e/clients/test_dialects.py",
        "tests/e2e/clients/test_readme.py",
        "tests/e2e/clients/test_rest.py",
        "tests/e2e/life/test_leavers.py",
        "tests/e2e/life/test_memory.py",
        "tests/e2e/life/test_server_life.py",
        "tests/e2e/test_inspect.py",
        "tests/e2e/test_tour_figures.py",
    ),
    ("tests/browser/",),  # one Chromium
    ("tests/fake_gpu/",),  # the process without triton's interpreter
    ("tests/architectures/",),  # transformers' tiny models, and their files
    ("tests/inspection/",),  # the same, hooked, and ours beside them
    (  # the kernels on every level of instructions
        "tests/model/native/levels/test_levels.py",
        "tests/model/native/products/",
        "tests/model/native/test_",
    ),
)


class SharingScheduling(LoadFileScheduling):
    """One worker for a file (`--dist loadfile`), and one for each row of SHARERS."""

    def _split_scope(self, nodeid: str) -> str:
        return next((row[0] for row in SHARERS if nodeid.startswith(row)), nodeid.split("::")[0])
