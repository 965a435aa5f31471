"""The queue's time limit, seen from outside: a 503 with advice, and nothing computed."""

import json
from concurrent.futures import ThreadPoolExecutor

import httpx

from tests.draws import also_at_night
from tests.e2e.in_process import served
from tests.e2e.life.test_server_life import metric, wait_until
from tests.tiny import tiny_llama

CONTEXT = 1 << 16  # tokens: a run of this length ends when its client hangs up, not before
BODY = {"model": "tiny", "prompt": "Greasy", "max_tokens": 8, "ignore_eos": True}
LONG = BODY | {"max_tokens": CONTEXT // 2, "stream": True}
RUNNING = "thirdeye_num_requests_running"
REJECTED = 'thirdeye_admission_rejections_total{model_name="tiny",reason="queue_timeout"}'


@also_at_night
def test_who_waits_too_long_gets_a_503_and_is_never_prefilled(tmp_path):
    """One row: while an answer runs, a stream and a whole answer wait past the limit."""
    tiny_llama(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["max_position_embeddings"] = CONTEXT
    (tmp_path / "config.json").write_text(json.dumps(config))
    settings = {"max_num_seqs": 1, "queue_timeout": 0.1, "max_model_len": CONTEXT}
    with served(tmp_path, **settings) as url:

        def post(body):
            path = f"{url}/v1/completions"
            return httpx.post(path, json=body, trust_env=False, timeout=30)

        with (
            ThreadPoolExecutor(2) as pool,
            httpx.stream(
                "POST", f"{url}/v1/completions", json=LONG, trust_env=False, timeout=30
            ) as runs,
        ):
            assert runs.status_code == 200
            lines = runs.iter_lines()  # without a holder the connection would be closed
            first = next(lines)
            assert "error" not in first, first
            late = [pool.submit(post, BODY | {"stream": stream}) for stream in (True, False)]
            for answer in (future.result() for future in late):
                assert answer.status_code == 503, answer.text
                assert answer.json()["error"]["code"] == "queue_timeout"
                assert int(answer.headers["retry-after"]) >= 1
            assert metric(url, RUNNING) == 1
        wait_until(lambda: metric(url, RUNNING) == 0)
        after = post(BODY)
        assert after.status_code == 200, after.text
        prompt_tokens = after.json()["usage"]["prompt_tokens"]
        assert metric(url, "thirdeye_prompt_tokens_total") == 2 * prompt_tokens
        assert metric(url, REJECTED) == 2
