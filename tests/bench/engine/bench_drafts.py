"""What a draft model is worth on this machine: nothing, prompt lookup and the draft, in turns.

    python -m tests.bench.engine.bench_drafts MODEL DRAFT [--quantize none]
                                        [--draft-quantize q4_0] [--rounds 2] [--max-tokens 96]
                                        [--threads 1] [--always] [--only chat]

Engines as `thirdeye serve` builds them, processor time of this process, whole answers. For each
prompt the ratio to the time without guesses; above 1 is a gain. `--always` takes the switch away
that ends what loses, and shows what it would cost. The last line is JSON.
"""

import argparse
import json
import time
from collections.abc import Mapping

from tests.bench.engine.prompts_speculation import CHAT, COPY
from thirdeye.server.engine.core.engine_core import EngineCore
from thirdeye.server.engine.drafting.worth import GuessAccount, TextRate
from thirdeye.server.engine.interface.types import Request, SamplingParams
from thirdeye.server.launch.opened_model import OpenedModel, open_model
from thirdeye.server.launch.start_engine import write_recipe
from thirdeye.server.load.load_engine import load_engine
from thirdeye.server.settings.read_settings import read_settings

Answers = dict[str, list[int]]


def make_engine(model: str, threads: int, **flags: object) -> tuple[EngineCore, OpenedModel]:
    settings = read_settings(
        {"model": model, "device": "cpu", "threads": threads, "max_model_len": 1024}
        | {"prefix_caching": False, **flags}
    )
    opened = open_model(settings.checkpoint)
    return load_engine(write_recipe(settings, opened), lambda *_: None)[0], opened


def answer(
    core: EngineCore, opened: OpenedModel, prompts: Mapping[str, str], sampling: SamplingParams
) -> tuple[float, Answers]:
    """Processor seconds, and the tokens."""
    assert opened.template is not None
    for name, text in prompts.items():
        token_ids = opened.template.encode([{"role": "user", "content": text}])
        core.add(Request(request_id=name, prompt_token_ids=token_ids, sampling=sampling))
    answers: Answers = {name: [] for name in prompts}
    started = time.process_time()
    while core.has_work:
        for output in core.step():
            answers[output.request_id] += output.token_ids
    return time.process_time() - started, answers


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("draft")
    parser.add_argument("--quantize", default="auto", help="of the model; the draft has its own")
    parser.add_argument("--draft-quantize", default="same")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--max-tokens", type=int, default=96)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--always", action="store_true")
    parser.add_argument("--only", default="", help="scenarios whose name contains this")
    args = parser.parse_args()
    if args.always:
        GuessAccount.may_guess = lambda self, num_texts: True  # type: ignore[method-assign]  # a bench's
        TextRate.num_wanted = lambda self, num_tokens, cost: 3  # type: ignore[method-assign]
    own = {"quantize": args.quantize}
    drafting = own | {"draft": args.draft, "draft_quantize": args.draft_quantize}
    engines = {
        "off": make_engine(args.model, args.threads, speculation="off", **own),
        "lookup": make_engine(args.model, args.threads, **own),
        "draft": make_engine(args.model, args.threads, **drafting),
    }
    greedy = SamplingParams(max_tokens=args.max_tokens, temperature=0.0)
    drawn = SamplingParams(max_tokens=args.max_tokens, temperature=1.0, seed=7)
    few = dict(list(CHAT.items())[:4])
    scenarios = {f"copy, {name}": ([{name: text}], greedy) for name, text in COPY.items()}
    scenarios["chat"] = ([{name: text} for name, text in few.items()], greedy)
    scenarios["chat, temperature 1"] = ([{name: text} for name, text in few.items()], drawn)
    scenarios["chat, four at once"] = ([few], greedy)
    results: dict[str, dict[str, object]] = {}
    for name, (groups, sampling) in scenarios.items():
        if args.only not in name:
            continue
        seconds, before = dict.fromkeys(engines, 0.0), engines["draft"][0].stats()
        different = 0
        for _ in range(args.rounds):
            for group in groups:
                found = {kind: answer(*engine, group, sampling) for kind, engine in engines.items()}
                for kind, (spent, _) in found.items():
                    seconds[kind] += spent
                different += sum(said != found["off"][1] for _, said in found.values())
        after = engines["draft"][0].stats()
        drafted = (
            after.spec_decode_num_draft_tokens_total - before.spec_decode_num_draft_tokens_total
        )
        accepted = (
            after.spec_decode_num_accepted_tokens_total
            - before.spec_decode_num_accepted_tokens_total
        )
        results[name] = {
            "lookup": round(seconds["off"] / seconds["lookup"], 3),
            "draft": round(seconds["off"] / seconds["draft"], 3),
            "accepted": f"{accepted} of {drafted}",
            "is_paused": after.is_draft_paused,
            "different_answers": different,
        }
        print(f"{name:20} {results[name]}", flush=True)
    print(json.dumps({"benchmark": "drafts", **vars(args), "scenarios": results}))


if __name__ == "__main__":
    main()
