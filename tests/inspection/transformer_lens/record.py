"""Writes `cases.json`: what TransformerLens 4.3 says of these models. By hand, where it is:

python -m tests.inspection.transformer_lens.record
"""

import json
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformer_lens.model_bridge import TransformerBridge
from transformers import PreTrainedTokenizerFast

from tests.inspection.transformer_lens.models import (
    COMPARED,
    CONFIGS,
    OTHER,
    TEXT,
    VOCAB_SIZE,
    formula_model,
)

FILE = Path(__file__).parent / "cases.json"
LAYER, HEAD, POSITION = 1, 2, 4


def main() -> None:
    """Layer 1 of each text throughout, but for the stream of layer 2 that is patched."""
    lines = [f"{json.dumps(name)}: {json.dumps(case(name))}" for name in CONFIGS]
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n")


@torch.no_grad()
def case(name: str) -> dict[str, Any]:
    model = formula_model(name)
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        words = models.WordLevel({f"t{i}": i for i in range(VOCAB_SIZE)}, unk_token="t0")
        tokenizer = Tokenizer(words)
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="t1", eos_token="t1")
        fast.save_pretrained(folder)
        bridge = TransformerBridge.boot_transformers(folder, hf_model=model, device="cpu")
    text, other = torch.tensor([TEXT]), torch.tensor([OTHER])
    logits, cache = bridge.run_with_cache(text)
    _, others = bridge.run_with_cache(other)
    at = f"blocks.{LAYER}."
    found = {"logits": logits[0, -1], "pattern": cache[f"{at}attn.hook_pattern"][0]}
    for ours in ("q", "k", "v", "z", "rot_q", "rot_k"):
        if f"{at}attn.hook_{ours}" in cache:
            found[ours] = cache[f"{at}attn.hook_{ours}"][0, POSITION]
        normed = f"{at}attn.hook_{ours}_normed"  # [1, heads, n, head_dim]
        if normed in cache:
            found[f"{ours}_normed"] = cache[normed][0, :, POSITION]
    for ours in ("resid_pre", "attn_out", "resid_mid", "mlp_out", "resid_post"):
        found[ours] = cache[f"{at}hook_{ours}"][0, POSITION]
    found["neurons"] = cache[f"{at}mlp.out.hook_in"][0, POSITION]
    found["scale"] = cache[f"{at}ln1.hook_scale"][0, :, 0]
    found["lens"] = bridge.unembed(bridge.ln_final(cache[f"{at}hook_resid_pre"]))[0, -1]
    zero = [(f"{at}attn.hook_z", partial(put, index=(0, slice(None), HEAD), values=0.0))]
    found["without_a_head"] = bridge.run_with_hooks(text, fwd_hooks=zero)[0, -1]
    taken = others["blocks.2.hook_resid_pre"][0, POSITION]
    patch = [("blocks.2.hook_resid_pre", partial(put, index=(0, POSITION), values=taken))]
    found["patched"] = bridge.run_with_hooks(text, fwd_hooks=patch)[0, -1]
    bridge.enable_compatibility_mode(
        disable_warnings=True, fold_value_biases=False
    )  # the norms' weights folded in
    _, cache = bridge.run_with_cache(text)
    first, second = COMPARED
    results = cache.stack_head_results(layer=-1, pos_slice=-1)  # [layers x heads, 1, hidden]
    parts = cache.logit_attrs(results, tokens=first, incorrect_tokens=second, pos_slice=-1)
    found["attribution"] = parts[: 3 * 4, 0]
    return {key: rounded(value) for key, value in found.items()}


def put(x: torch.Tensor, hook: object, index: Any, values: Any) -> torch.Tensor:
    x = x.clone()
    x[index] = values
    return x


def rounded(values: torch.Tensor) -> Any:
    return torch.round(values.double(), decimals=7).tolist()


if __name__ == "__main__":
    main()
