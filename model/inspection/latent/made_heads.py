"""Heads' keys and values where attention is over latents, made so that they can be edited.

The cache has what all heads' are made of, so nothing in it is one head's own. An edited head looks
at keys and values that are made for it alone, as the model was trained: by `q . k` of its own, in
place of a query that is led to latents. Both are the same up to rounding, so a head whose edits
change nothing is left as it is served.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from thirdeye.model.inspection.heads import head_pattern, weights_of
from thirdeye.model.inspection.latent.head_matrices import HeadMatrices
from thirdeye.model.inspection.text_rows import TextRows
from thirdeye.model.parts.rope import Rotation
from thirdeye.model.parts.self_attention import SelfAttention

Place = tuple[int, int]  # text, head of this rank


@dataclass(frozen=True, slots=True)
class MadeHead:
    """Of all tokens so far."""

    keys: Tensor  # [n, head_size], turned
    values: Tensor  # [n, value_size]
    is_new: bool  # whether one of them is another than it would be

    def followed_by(self, more: "MadeHead") -> "MadeHead":
        keys, values = (self.keys, more.keys), (self.values, more.values)
        return MadeHead(torch.cat(keys), torch.cat(values), self.is_new or more.is_new)


MadeCache = dict[tuple[int, Place], MadeHead]  # by layer, of one run


class MadeHeads:
    """Those that are edited in one block, of all texts of its rows."""

    def __init__(
        self, attention: SelfAttention, normed: Tensor, kept_of: Callable[[int], Tensor]
    ) -> None:
        """normed [rows, hidden_size], as attention reads it; `kept_of` a text: what the cache has
        of it so far, [n, 1, kept_size]."""
        self._attention, self._normed, self._kept_of = attention, normed, kept_of
        self._matrices = HeadMatrices(attention, normed)
        self._made: dict[Place, MadeHead] = {}

    def unturned(self) -> Tensor:
        """Keys, then values, of these rows before they are edited: [rows, num_heads, both]."""
        kept = self._matrices.latents(self._normed)
        return torch.cat((self._matrices.keys(kept), self._matrices.values(kept)), dim=-1)

    def keep(
        self,
        places: Iterable[Place],
        before: Tensor,
        after: Tensor,
        rotate: Rotation,
        rows: TextRows,
        cache: MadeCache,
    ) -> None:
        """before and after the edits [rows, num_heads, both]; `cache` has what was made of the
        tokens before these, and gets these."""
        is_new = (after != before).any(-1, keepdim=True)
        key, value = after.tensor_split([self._matrices.spec.head_size], dim=-1)
        turned, num_rows = rotate(key), rows.stop - rows.start
        for text, head in places:
            own, kept = rows.of(text), self._kept_of(text)[-num_rows:]
            new = is_new[own, head]
            made = MadeHead(
                torch.where(new, turned[own, head], self._matrices.keys(kept)[:, head]),
                torch.where(new, value[own, head], self._matrices.values(kept)[:, head]),
                bool(new.any()),
            )
            place = self._attention.layer, (text, head)
            if rows.start:
                made = cache[place].followed_by(made)
            self._made[text, head] = cache[place] = made

    def get(self, text: int, head: int) -> MadeHead | None:
        made = self._made.get((text, head))
        return made if made and made.is_new else None

    def of(self, text: int) -> dict[int, MadeHead]:
        """By head."""
        return {
            head: made for (own, head), made in self._made.items() if own == text and made.is_new
        }

    def see(
        self, z: Tensor, query: Tensor, scale: Tensor | None, rows: TextRows
    ) -> tuple[Tensor, dict[Place, Tensor]]:
        """z [rows, num_heads, value_size] with what these heads see, as in the textbook, and their
        weights [rows of the text, n]; query and scale are the rows', see `turned_queries`."""
        z, patterns = z.clone(), {}
        asked = self._matrices.turned_queries(query, self._normed, scale)
        for (text, head), made in self._made.items():
            own = rows.of(text)
            if made.is_new:
                weights = weights_of(self._attention, asked[own, head], made.keys, head)
                z[own, head] = (weights @ made.values.float()).to(z.dtype)
            else:
                keys = self._kept_of(text)
                weights = head_pattern(self._attention, query[own], keys, [head])[0]
            patterns[text, head] = weights
        return z, patterns
