"""What clients and files may say: bodies, heads, grammars, templates, tokenizers, checkpoints."""

from tests.trust.row import Row

HTTP = "tests/api/http"
CACHES = (
    "tests/model/native/test_hostile_cache.py",
    "tests/model/native/test_seal.py",
    "tests/model/native/test_prebuilt.py",
    "tests/model/loading/test_compiled_cache.py",
    "tests/weights/hub/test_hostile_records.py",
    "tests/weights/hub/test_verify_files.py",
    "tests/weights/test_pull.py",
)
DAMAGED = "tests/prove/test_damaged_files.py"
HOSTILE_SERVERS = (
    "tests/clients/test_bounds.py",
    "tests/clients/resume/test_hostile_servers.py",
    "tests/clients/loadtest/test_wire.py",
)
GUESSERS = (
    "tests/architectures/mtp/test_hostile_heads.py",
    "tests/server/load/test_hostile_drafts.py",
)

INPUT_ROWS = (
    Row(
        15,
        "limits",
        "each limit of the API by one beyond it, each row of the table of errors",
        "400 that names the field and the limit, or 413, before the queue",
        full=(f"{HTTP}/test_errors.py", f"{HTTP}/test_error_table.py", f"{HTTP}/test_floods.py"),
        push=(f"{HTTP}/test_errors.py", f"{HTTP}/test_error_table.py", f"{HTTP}/test_floods.py"),
    ),
    Row(
        16,
        "heads",
        "40 KB of URL, 40 KB and 300 KB of one header, 101 headers, halves, garbage",
        "431 or 400 in our envelope, and closed; never written into a running stream",
        full=(f"{HTTP}/test_guard.py",),
        push=(f"{HTTP}/test_guard.py",),
    ),
    Row(
        20,
        "hostile GGUF files",
        "5,000 damaged, each cut of the first 4,096 bytes, inflated ones",
        "one line that names the file, in 2 s and 200 MB; never a hang",
        full=(
            f"{DAMAGED}::test_damaged[GGUF]",
            f"{DAMAGED}::test_cut[GGUF]",
            "tests/weights/formats/test_gguf_reader.py",
        ),
        push=("tests/weights/hostile", "tests/weights/formats/test_gguf_reader.py"),
        push_size="20 damaged, 13 cuts",
    ),
    Row(
        22,
        "chat templates",
        "53 attacks on the template engine, 11 that do not compile",
        "no code runs, nothing is computed while compiling, a render ends within 1 s",
        full=("tests/text/templates/test_sandbox.py", "tests/text/templates/test_chat.py"),
        push=("tests/text/templates/test_sandbox.py", "tests/text/templates/test_chat.py"),
    ),
    Row(
        23,
        "special tokens in text",
        "every special token in every field, whole and split between any two fields",
        "no special id beyond the template's own",
        full=("tests/text/templates/test_specials.py",),
        push=("tests/text/templates/test_specials.py",),
    ),
    Row(
        30,
        "schemathesis",
        "300 examples an operation, valid and not, and every boundary",
        "no 5xx, no undocumented status, every valid request answered",
        full=("tests/contract",),
        push=(
            "tests/contract/test_generated_requests.py::test_generated_requests",
            "tests/contract/test_generated_requests.py::test_generated_requests_with_a_key",
        ),
        push_size="4 examples",
    ),
    Row(
        18,
        "hostile grammars",
        "19 hostile grammars, 11 that prescribe millions of characters, one that never ends; a "
        "stream beside 17 kinds of them without a pause, 30 s",
        "compiled, or refused by its field; what never ends is ended with its process; the "
        "stream's worst pause is 20 ms longer at most",
        full=(
            "tests/text/constraints",
            "tests/engine/grammar",
            "tests/trust/live/test_hostile_grammars.py",
        ),
        push=("tests/text/constraints", "tests/engine/grammar"),
        push_size="all but the stream",
        by_the_clock=True,
        beside=("tests/text/constraints", "tests/engine/grammar"),
    ),
    Row(
        32,
        "fuzzing",
        "11 readers (GGUF, safetensors and tokenizer headers, HTTP heads and bodies, SSE, the load "
        "tester's, schemas, expressions, grammars, templates) a minute each, by coverage",
        "each input is read or refused, in 10 s and 1 GB; every finding stays in the corpus",
        full=("tests/trust/fuzz",),
        push=("tests/trust/fuzz/test_fuzz.py::test_nothing_but_refusals",),
        push_size="each corpus, and 30 wounds of each file",
    ),
    Row(
        14,
        "malformed bodies",
        "10,000 mutations of good requests, and every kind of broken JSON",
        "4xx in our envelope, never a 5xx, nothing echoed",
        full=("tests/api/http/test_body.py",),
        push=("tests/api/http/test_body.py",),
        push_size="480 mutations",
    ),
    Row(
        19,
        "tokenizer bombs",
        "a megabyte of one letter, over every tokenizer kind",
        "what cannot fit is refused before it is cut; the rest ends",
        full=(
            "tests/text/templates/test_completion_prompt.py",
            "tests/weights/tokenizers/test_pipeline.py",
        ),
        push=(
            "tests/text/templates/test_completion_prompt.py",
            "tests/weights/tokenizers/test_pipeline.py",
        ),
    ),
    Row(
        21,
        "hostile safetensors and settings",
        "5,000 damaged files of each of 7 formats, each cut, inflated ones",
        "one line that names the file, in 2 s and 200 MB",
        full=(
            DAMAGED,
            *GUESSERS,
            "tests/weights/formats/test_safetensors.py",
            "tests/weights/formats/test_hostile_config.py",
        ),
        push=(
            "tests/weights/hostile",
            *GUESSERS,
            "tests/weights/formats/test_safetensors.py",
            "tests/weights/formats/test_hostile_config.py",
        ),
        push_size="20 damaged, 13 cuts of each",
        other_rows=(f"{DAMAGED}::test_damaged[GGUF]", f"{DAMAGED}::test_cut[GGUF]"),
    ),
    Row(
        31,
        "state machine of scheduler and blocks",
        "2,000 runs of 50 rules",
        "every position holds its own KV, no block is lost, nobody starves",
        full=("tests/prove/test_scheduler.py::test_two_thousand_runs",),
        push=(
            "tests/engine/scheduling/test_kv_oracle.py",
            "tests/engine/scheduling/test_late_masks.py",
        ),
        push_size="200 runs",
    ),
    Row(
        37,
        "what lies in the caches",
        "compiled libraries, triton's kernels, records of models: empty, cut, of another "
        "processor, pipes, devices, links, folders; killed compilations and pulls",
        "it is made again, or said in a line; nothing outside is read, written or deleted",
        full=CACHES,
        push=CACHES,
    ),
    Row(
        38,
        "hostile servers",
        "our clients against interim answers, heads, trailers and bodies without end, bombs, "
        "silence",
        "left by name, within bounds of bytes, number and time",
        full=HOSTILE_SERVERS,
        push=HOSTILE_SERVERS,
    ),
)
