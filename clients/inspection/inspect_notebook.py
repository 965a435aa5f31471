"""An inspection as a Jupyter notebook, to go on from: it asks the server again, cell by cell.

Notebook format 4.5, written as plain JSON. Nothing of an answer is in it and no key: the client
reads OPENAI_API_KEY where the notebook is run.
"""

import json
from pathlib import Path
from typing import Any

FIRST = """\
import matplotlib.pyplot as plt
import numpy as np
from thirdeye import Client

TEXT = {text}
COMPARE = {compare}  # one token: its logit is taken apart; two: the first's less the second's
client = Client({url}, model={model})
asked = {{"compare": COMPARE}} if COMPARE else {{}}
asked |= {{"model": client.model}} if client.model else {{}}"""

SURPRISAL = """\
read = client.inspect(TEXT, include=["surprisal", "attribution"], layers=[0], **asked)
told = read.raw["surprisal"]
for token, nats, rank in zip(read.tokens[1:], told["nats"], told["rank"]):
    print(f"{token!r:16} {nats:6.2f} {rank:8,}")
for guess in read.next_token[0]:
    print(f"then {guess['token']!r:16} {np.exp(guess['logprob']):6.1%}")"""

HEADS = """\
heads = read.arrays["attribution.heads"].values  # [layer, head]
limit = np.abs(heads).max() or 1.0
plt.imshow(heads, cmap="RdBu_r", vmin=-limit, vmax=limit, aspect="auto")
plt.xlabel("head"), plt.ylabel("layer"), plt.colorbar()
plt.show()
LAYER, HEAD = map(int, np.unravel_index(np.abs(heads).argmax(), heads.shape))
print(f"the largest part: layer {LAYER}, head {HEAD}, {heads[LAYER, HEAD]:+.3f}")"""

PATTERN = """\
seen = client.inspect(TEXT, include=["pattern"], layers=[LAYER], heads=[HEAD], **asked)
pattern = seen.arrays["pattern"].at(layer=LAYER, head=HEAD)  # [query_pos, key_pos]
plt.imshow(pattern, vmin=0)
plt.xticks(range(len(seen.tokens)), seen.tokens, rotation=90)
plt.yticks(range(len(seen.tokens)), seen.tokens)
plt.show()"""

EDIT = """\
edit = {"at": "head", "layer": LAYER, "head": HEAD, "set": "zero"}
without = client.inspect(TEXT, include=[], interventions=[edit], **asked).raw
print("changed by", without["changed"]["kl"], "nats; noise up to", without["noise"]["kl_max"])
for before, after in zip(without["base_next_token"][0], without["next_token"][0]):
    print(f"{before['token']!r:16} {after['token']!r:16}")"""

SWEEP = """\
swept = client.inspect(TEXT, include=[], sweep={{"over": {over}}}, **asked)
kl = swept.arrays["variants.kl"]
print(kl.dims, "above the noise:", sum(one["is_above_noise"] for one in swept.raw["variants"]))
plt.imshow(np.atleast_2d(kl.values), vmin=0, aspect="auto")
plt.xlabel(kl.dims[-1]), plt.colorbar()
plt.show()"""


def write_notebook(
    file: Path,
    text: str,
    url: str,
    model: str | None = None,
    compare: list[str] | None = None,
    sweep: str | None = None,
) -> None:
    """`sweep`: what its last cell switches off, one after the other; heads, if nothing was asked.
    Raises OSError where it cannot be written."""
    first = FIRST.format(text=repr(text), compare=repr(compare), url=repr(url), model=repr(model))
    cells = [
        _prose("Needs a running `thirdeye serve`, and `numpy` and `matplotlib` here."),
        _code(first),
        _prose("How surprising each token was, in nats, its rank, and what comes next."),
        _code(SURPRISAL),
        _prose("What each head adds to the logit. A large part is no cause."),
        _code(HEADS),
        _prose("Where that head looks: a row for each token that asks."),
        _code(PATTERN),
        _prose("The text without that head. A change below the noise says nothing."),
        _code(EDIT),
        _prose(f"The same for all {(sweep or 'heads').replace('_', ' ')}, one after the other."),
        _code(SWEEP.format(over=repr(sweep or "heads"))),
    ]
    numbered = [cell | {"id": f"cell-{number}"} for number, cell in enumerate(cells)]
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    whole = {
        "nbformat": 4,
        "nbformat_minor": 5,
        "metadata": {"kernelspec": kernel, "language_info": {"name": "python"}},
        "cells": numbered,
    }
    file.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")


def _prose(text: str) -> dict[str, Any]:
    return {"cell_type": "markdown", "metadata": {}, "source": text}


def _code(text: str) -> dict[str, Any]:
    empty: dict[str, Any] = {"execution_count": None, "outputs": []}
    return {"cell_type": "code", "metadata": {}, "source": text, **empty}
