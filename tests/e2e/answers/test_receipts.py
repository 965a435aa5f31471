"""Receipts of a real model behind the real command: replayed by another process's engine, equal.

The same server shows where the time went, in each of the places that say so.
"""

import copy
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.api.generation.test_stream import chunks
from tests.api.support import eventually
from thirdeye.server.api.receipts.receipt import digest_of, digest_of_ids

DOCS = Path(__file__).parents[3] / "docs"
PROMPT = "The quick brown fox jumps over the lazy dog; the dog"
MESSAGES = [{"role": "user", "content": "Greasy fried noodles?"}]
COMPLETION = {"model": "tiny", "prompt": PROMPT, "max_tokens": 24, "receipt": True}
CHAT = {"model": "tiny", "messages": MESSAGES, "max_tokens": 24, "receipt": True}


def post(server, path, body):
    answer = httpx.post(server.url + path, json=body, trust_env=False, timeout=30)
    assert answer.status_code == 200, answer.text
    return answer


def verify(server, receipt):
    return post(server, "/v1/verify", {"receipt": receipt}).json()


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/completions", COMPLETION | {"temperature": 0}),
        ("/v1/completions", COMPLETION | {"n": 3, "prompt": [PROMPT, "def add"]}),
        ("/v1/completions", COMPLETION | {"max_tokens": 0, "echo": True}),
        ("/v1/chat/completions", CHAT | {"seed": 7, "top_p": 0.9, "repetition_penalty": 1.3}),
        ("/v1/chat/completions", CHAT | {"stop": ["e", "o"], "temperature": 0.7}),
    ],
)
def test_an_answer_and_its_replay_are_equal(tiny_server, path, body):
    """Whatever the prefix cache holds by then."""
    receipt = post(tiny_server, path, body).json()["receipt"]
    assert verify(tiny_server, receipt)["verdict"] == "equal"


def test_a_streams_receipt_is_equal_too(tiny_server):
    body = CHAT | {"stream": True, "stream_options": {"include_usage": True}}
    *_, last = chunks(post(tiny_server, "/v1/chat/completions", body))
    assert verify(tiny_server, last["receipt"])["verdict"] == "equal"


def test_a_changed_token_is_named(tiny_server):
    body = COMPLETION | {"n": 2, "ignore_eos": True}
    receipt = post(tiny_server, "/v1/completions", body).json()["receipt"]
    lie = copy.deepcopy(receipt)
    choice = lie["choices"][1]
    honest = choice["token_ids"][9]
    choice["token_ids"][9] = (honest + 1) % 512
    choice["sha256"] = digest_of_ids(choice["token_ids"])
    lie["sha256"] = digest_of(lie)
    found = verify(tiny_server, lie)
    wanted = {"choice": 1, "position": 9, "expected": (honest + 1) % 512, "got": honest}
    assert {key: found[key] for key in wanted} == wanted


def test_a_changed_temperature_is_found(tiny_server):
    lie = post(tiny_server, "/v1/completions", COMPLETION).json()["receipt"]
    lie["parameters"]["temperature"] = 0.0
    lie["sha256"] = digest_of(lie)
    assert verify(tiny_server, lie)["verdict"] == "different"


def test_the_identity_is_whole(tiny_server):
    """Each part of it is there, and the fingerprint is that of the answer."""
    answer = post(tiny_server, "/v1/completions", COMPLETION).json()
    receipt = answer["receipt"]
    assert receipt["system_fingerprint"] == answer["system_fingerprint"]
    assert receipt["system_fingerprint"].startswith(f"te-{receipt['version']}-")
    for name in ("build", "weights", "tokenizer"):
        assert re.fullmatch("[0-9a-f]{64}", receipt[name])
    assert re.match(r"cpu float32, torch \d.*(, [\w ]+){3,4}, \d+ threads", receipt["numerics"])
    lie = receipt | {"weights": "0" * 64}
    found = verify(tiny_server, lie)
    assert (found["verdict"], found["field"]) == ("not_comparable", "receipt.weights")


def test_the_documented_example_runs(tiny_server, tmp_path):
    """docs/receipts.md: the commands work as they stand, and say what the page says."""
    page = (DOCS / "receipts.md").read_text()
    script = re.search(r"```sh\n(.*?)```", page, re.DOTALL).group(1)
    promised = json.loads(re.search(r"```json\n(.*?)```", page, re.DOTALL).group(1))
    env = {
        "URL": tiny_server.url,
        "PATH": f"{Path(sys.executable).parent}:{os.defpath}:/usr/local/bin",
        "NO_PROXY": "*",
    }
    done = subprocess.run(
        ["bash", "-ec", script], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert {key: found[key] for key in promised} == promised


def test_the_timeline_shows_a_request_and_fits_its_schema(tiny_server):
    """Every event has exactly the documented fields, and a request's rows add up to its tokens."""
    schema, example = documented_timeline()
    check(example, schema)
    answer = post(tiny_server, "/v1/completions", COMPLETION | {"prompt": list(range(40, 90))})
    timings, name = answer.json()["timings"], answer.json()["id"] + "-0"
    steps = []
    url = tiny_server.url + "/v1/timeline"
    with httpx.stream("GET", url, trust_env=False, timeout=10) as stream:
        for line in stream.iter_lines():
            if line.startswith("data: "):
                steps.append(json.loads(line[6:]))
                check(steps[-1], schema)
                rows = [row for s in steps for row in s["rows"] if row["request_id"] == name]
                if len(rows) == timings["steps"]:
                    break
    tokens = {
        kind: sum(r["num_tokens"] for r in rows if r["kind"] == kind)
        for kind in ("prefill", "decode")
    }
    assert tokens["prefill"] == timings["prompt_n"]
    assert tokens["decode"] >= timings["predicted_n"] - 1  # drafts that were rejected count too
    for step in steps:
        parts = step["schedule_ms"] + step["forward_ms"] + step["sample_ms"]
        assert 0 < parts <= step["total_ms"]


def documented_timeline():
    example, schema = re.findall(
        r"```json\n(.*?)```", (DOCS / "timeline.md").read_text(), re.DOTALL
    )
    return json.loads(schema), json.loads(example)


def check(value, schema):
    """As much of JSON Schema as the page uses."""
    if "enum" in schema:
        assert value in schema["enum"]
        return
    types = {"object": dict, "array": list, "string": str, "integer": int, "number": (int, float)}
    assert isinstance(value, types[schema["type"]]), (value, schema)
    assert not isinstance(value, (int, float)) or value >= schema.get("minimum", 0)
    if schema["type"] == "array":
        for item in value:
            check(item, schema["items"])
    if schema["type"] == "object":
        assert value.keys() == schema["properties"].keys() == set(schema["required"])
        for key, item in value.items():
            check(item, schema["properties"][key])


def test_where_the_time_went_is_told_in_four_places(tiny_server):
    """The body, the header, the log line and /metrics; also when a stop string ends the answer."""
    body = CHAT | {"stop": ["e", "o", "a", "i"], "max_tokens": 200, "receipt": False}
    answer = post(tiny_server, "/v1/chat/completions", body)
    data = answer.json()
    assert data["choices"][0]["finish_reason"] == "stop"
    timings = data["timings"]
    parts = timings["queue_ms"] + timings["prompt_ms"] + timings["predicted_ms"]
    assert parts == pytest.approx(timings["total_ms"], abs=0.01)
    assert timings["prompt_ms"] > 0
    assert timings["cache_n"] + timings["prompt_n"] == data["usage"]["prompt_tokens"]
    assert timings["steps"] < 200, "it was told to stop"
    assert timings["batch_mean"] == timings["batch_max"] == 1
    assert timings["preemptions"] == 0
    header = answer.headers["server-timing"]
    assert f'steps;desc="{timings["steps"]}", preemptions;desc="0"' in header
    assert f"prefill;dur={timings['prompt_ms']:.1f}" in header
    request_id = answer.headers["x-request-id"]
    eventually(lambda: any(request_id in line for line in tiny_server.lines))
    (log,) = [line for line in tiny_server.lines if request_id in line]
    assert json.loads(log.partition("request ")[2])["timings"] == timings
    metrics = httpx.get(tiny_server.url + "/metrics", trust_env=False).text
    stages = re.findall(r'scheduler_stage_seconds_total{.*stage="(\w+)"} (\S+)', metrics)
    assert [name for name, _ in stages] == ["schedule", "draft", "forward", "sample", "emit"]
    assert all((float(seconds) > 0) == (name != "draft") for name, seconds in stages)
    buckets = re.findall(r"iteration_tokens_total_bucket{.*} (\S+)", metrics)
    assert buckets == sorted(buckets, key=float)
    count = re.search(r"iteration_tokens_total_count{.*} (\S+)", metrics)
    assert count
    assert float(count.group(1)) == float(buckets[-1]) >= timings["steps"]
