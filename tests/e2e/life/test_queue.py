"""The queue's time limit, seen from outside: a 503 with advice, and nothing computed."""

import time
from concurrent.futures import ThreadPoolExecutor

import httpx

from tests.e2e.life.test_server_life import metric
from tests.e2e.live import LiveServer
from tests.tiny import tiny_llama

BODY = {"model": "tiny", "prompt": "Greasy", "max_tokens": 200, "ignore_eos": True}


def test_who_waits_too_long_gets_a_503_and_is_never_prefilled(tmp_path):
    """One row: while an answer runs, a stream and a whole answer wait past the limit."""
    tiny_llama(tmp_path)
    flags = ["--max-num-seqs", "1", "--queue-timeout", "0.02", "--admission", "reserve"]
    server = LiveServer([str(tmp_path), "--served-model-name", "tiny", *flags]).start()

    def post(body):
        return httpx.post(server.url + "/v1/completions", json=body, trust_env=False, timeout=30)

    try:
        with ThreadPoolExecutor(3) as pool:
            runs = pool.submit(post, BODY)
            while metric(server, "thirdeye_num_requests_running") != 1 and not runs.done():
                time.sleep(0.005)
            late = [pool.submit(post, BODY | {"stream": stream}) for stream in (True, False)]
            for answer in (future.result() for future in late):
                assert answer.status_code == 503, answer.text
                assert answer.json()["error"]["code"] == "queue_timeout"
                assert int(answer.headers["retry-after"]) >= 1
            whole = runs.result()
        assert whole.status_code == 200
        prompt_tokens = whole.json()["usage"]["prompt_tokens"]
        assert metric(server, "thirdeye_prompt_tokens_total") == prompt_tokens
        rejected = 'thirdeye_admission_rejections_total{model_name="tiny",reason="queue_timeout"}'
        assert metric(server, rejected) == 2
    finally:
        assert server.stop() == 0, server.output
