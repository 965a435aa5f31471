"""Who may what, what others can learn of it, and what the code does not do."""

from tests.trust.row import Row

AUTH = "tests/api/http/test_auth.py"
ACCESS_ROWS = (
    Row(
        24,
        "keys",
        "every route, 13 Hosts x 16 spellings of a path, 11 headers that are no key, scopes",
        "only the listed open paths answer without the key",
        full=(AUTH, "tests/api/access/test_scopes.py"),
        push=(AUTH, "tests/api/access/test_scopes.py"),
    ),
    Row(
        27,
        "other origins, other Hosts",
        "4 origins, 12 Hosts, other content types",
        "refused where no key is set; no CORS header but for origins the operator names",
        full=(AUTH, "tests/api/http/test_surface.py", "tests/api/http/test_body.py"),
        push=(AUTH, "tests/api/http/test_surface.py", "tests/api/http/test_body.py"),
        other_rows=("tests/api/http/test_body.py::test_ten_thousand_mutations_make_no_500",),
    ),
    Row(
        28,
        "what logs hold",
        "canaries in prompt, answer, key and in the words of our own bugs",
        "no hit, at DEBUG too",
        full=(AUTH, "tests/server/test_logs.py"),
        push=(AUTH, "tests/server/test_logs.py"),
    ),
    Row(
        33,
        "the page",
        "60 payloads that a model might say, in Chromium",
        "none runs, none fetches, the policy has nothing to stop",
        full=("tests/browser/chat/test_hostile.py",),
        push=("tests/browser/chat/test_hostile.py",),
    ),
    Row(
        34,
        "listeners",
        "one process, and two ranks",
        "one listening socket, on the address asked for",
        full=(
            "tests/e2e/life/test_server_life.py::test_one_listening_socket",
            "tests/e2e/test_ranks.py",
        ),
        push=(
            "tests/e2e/life/test_server_life.py::test_one_listening_socket",
            "tests/e2e/test_ranks.py",
        ),
    ),
    Row(
        25,
        "time of a refusal",
        "20,000 wrong keys, the first byte or the last",
        "no difference: Welch t below 4.5",
        full=("tests/trust/live/test_key_timing.py",),
        push=("tests/api/http/test_auth.py::test_nothing_but_the_key_opens",),
        push_size="the answers, without a clock",
        by_the_clock=True,
    ),
    Row(
        26,
        "time to the first token across keys",
        "100 prompts of 2,000 tokens",
        "no tokens are found across keys, and the time tells nothing (AUC); within one key it does",
        full=("tests/trust/live/test_side_channel.py",),
        push=("tests/api/http/test_auth.py::test_prefixes_are_shared_within_one_key_only",),
        push_size="the salts, without a clock",
        by_the_clock=True,
    ),
    Row(
        29,
        "lines of the log",
        "line ends in ids, names and models",
        "one line for each request",
        full=(
            "tests/api/http/test_auth.py::test_logs_hold_no_prompt_no_answer_no_key_and_one_line_each",
            "tests/server/test_logs.py",
        ),
        push=(
            "tests/api/http/test_auth.py::test_logs_hold_no_prompt_no_answer_no_key_and_one_line_each",
            "tests/server/test_logs.py",
        ),
    ),
    Row(
        35,
        "the source",
        "every file of ours, by its syntax tree",
        "no pickle, eval, exec, shell, torch.load, trust_remote_code, open address by default",
        full=("tests/trust/test_source.py",),
        push=("tests/trust/test_source.py",),
    ),
)
