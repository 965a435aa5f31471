"""llguidance by its C interface, which its Python package carries beside its own classes.

Those classes hold the interpreter while a tokenizer is made: a tenth of a second for 49,152 tokens,
in which no step can go on. A call of C does not. What is called in a step takes microseconds, less
than to give the interpreter up and have it back: such calls keep it. Structs are those
of `llguidance.h`.
"""

import ctypes as c
import logging
from collections.abc import Callable, Sequence

from llguidance import LLParserLimits, _lib

logger = logging.getLogger(__name__)

MARKER = b"\xff"  # in front of a special token's text: no byte of UTF-8
FAILED = c.c_size_t(-1).value  # so many tokens no text has: llguidance gives that answer up
SPARE_BYTES = 1024  # behind a struct that says nothing of its size: a later one may be larger

Encode = Callable[[str], list[int]]

_TokenizeFn = c.CFUNCTYPE(c.c_size_t, c.c_void_p, c.c_void_p, c.c_size_t, c.c_void_p, c.c_size_t)


class _TokenizerInit(c.Structure):  # LlgTokenizerInitV2
    _fields_ = [
        ("struct_size", c.c_size_t),
        ("vocab_size", c.c_uint32),
        ("tok_eos", c.c_uint32),
        ("token_lens", c.POINTER(c.c_uint32)),
        ("token_bytes", c.c_char_p),
        ("tokenizer_json", c.c_char_p),
        ("tokenize_assumes_string", c.c_bool),
        ("tokenize_fn", _TokenizeFn),
        ("use_approximate_greedy_tokenize_fn", c.c_bool),
        ("tokenize_user_data", c.c_void_p),
        ("slices", c.c_void_p),
        ("tok_eos_extra", c.POINTER(c.c_uint32)),
        ("tok_eos_extra_count", c.c_uint32),
    ]


class _Limits(c.Structure):  # LlgParserLimits
    _fields_ = [
        ("max_items_in_row", c.c_size_t),
        ("initial_lexer_fuel", c.c_uint64),
        ("step_lexer_fuel", c.c_uint64),
        ("step_max_items", c.c_size_t),
        ("max_lexer_states", c.c_size_t),
        ("max_grammar_size", c.c_size_t),
        ("precompute_large_lexemes", c.c_bool),
        ("verbose_errors", c.c_bool),
    ]


LIMIT_NAMES = [field[0] for field in _Limits._fields_]


class _MatcherInit(c.Structure):  # LlgConstraintInit
    _fields_ = [
        ("tokenizer", c.c_void_p),
        ("log_buffer_level", c.c_uint32),
        ("log_stderr_level", c.c_uint32),
        ("ff_tokens_ok", c.c_bool),
        ("backtrack_ok", c.c_bool),
        ("limits", _Limits),
        ("spare", c.c_char * SPARE_BYTES),
    ]


_beside = c.CDLL(_lib.__file__)  # others go on meanwhile
_within = c.PyDLL(_lib.__file__)  # they do not

_new_tokenizer = _beside.llg_new_tokenizer_v2
_new_tokenizer.argtypes = [c.POINTER(_TokenizerInit), c.c_char_p, c.c_size_t]
_new_tokenizer.restype = c.c_void_p
_new_matcher = _beside.llg_new_matcher
_new_matcher.argtypes = [c.POINTER(_MatcherInit), c.c_char_p, c.c_char_p]
_new_matcher.restype = c.c_void_p
_compute_mask = _beside.llg_matcher_compute_mask_into
_compute_mask.argtypes = [c.c_void_p, c.c_void_p, c.c_size_t]
_free_tokenizer = _within.llg_free_tokenizer
_free_matcher = _within.llg_free_matcher
_clone = _within.llg_clone_matcher
_clone.restype = c.c_void_p
_is_error = _within.llg_matcher_is_error
_is_stopped = _within.llg_matcher_is_stopped
_is_error.restype = _is_stopped.restype = c.c_bool
for _function in (_free_tokenizer, _free_matcher, _clone, _is_error, _is_stopped):
    _function.argtypes = [c.c_void_p]
_validate = _within.llg_matcher_validate_tokens
_validate.argtypes = [c.c_void_p, c.POINTER(c.c_uint32), c.c_size_t]
_consume = _within.llg_matcher_consume_token
_consume.argtypes = [c.c_void_p, c.c_uint32]
_rollback = _within.llg_matcher_rollback
_rollback.argtypes = [c.c_void_p, c.c_size_t]


class CTokenizer:
    """A vocabulary as llguidance walks it."""

    def __init__(
        self,
        tokens: Sequence[bytes],
        *,
        special_token_ids: Sequence[int],
        eos_token_ids: Sequence[int],
        encode: Encode,
    ) -> None:
        """`encode` may be called by whatever thread walks, and for as long as there is a walk.
        Special tokens are never text. Raises ValueError if llguidance refuses them."""
        self._pointer = None
        self._encode = encode
        self._too_long: tuple[str, list[int]] = ("", [])  # for its room: it is asked again
        self._callback = _TokenizeFn(self._tokenize)
        texts = list(tokens)
        for token_id in special_token_ids:
            texts[token_id] = MARKER + texts[token_id].removeprefix(MARKER)
        extra = eos_token_ids[1:]
        init = _TokenizerInit(
            struct_size=c.sizeof(_TokenizerInit),
            vocab_size=len(texts),
            tok_eos=eos_token_ids[0],
            token_lens=(c.c_uint32 * len(texts))(*map(len, texts)),
            token_bytes=b"".join(texts),
            tokenize_assumes_string=True,
            tokenize_fn=self._callback,
            tok_eos_extra=(c.c_uint32 * len(extra))(*extra),
            tok_eos_extra_count=len(extra),
        )
        why = c.create_string_buffer(1000)
        self._pointer = _new_tokenizer(init, why, len(why))
        if self._pointer is None:
            raise ValueError(f"llguidance refuses the vocabulary: {why.value.decode()}")

    def walk(self, grammar: str, limits: LLParserLimits) -> "CWalk":
        """At the start of a serialized grammar; `is_error` where there is none."""
        return CWalk(self, self._matcher(grammar, limits))

    def _matcher(self, grammar: str, limits: LLParserLimits) -> int:
        text = grammar.encode(errors="surrogatepass")
        if b"\0" in text:  # where C's text ends; JSON has none
            text = b""
        init = _MatcherInit(tokenizer=self._pointer)
        for name in LIMIT_NAMES:
            setattr(init.limits, name, getattr(limits, name))
        return int(_new_matcher(init, b"llguidance", text))

    def _tokenize(self, _: object, text: int, size: int, token_ids: int, room: int) -> int:
        """What is raised here would be lost on its way through C."""
        try:
            asked = c.string_at(text, size).decode()
            before, found = self._too_long
            if before != asked:
                found = self._encode(asked)
            if len(found) <= room:
                c.memmove(token_ids, (c.c_uint32 * len(found))(*found), 4 * len(found))
                self._too_long = "", []
            else:
                self._too_long = asked, found
            return len(found)
        except Exception:
            logger.debug("a text of a grammar could not be cut into tokens", exc_info=True)
            return FAILED

    def __del__(self, free: Callable[[int], None] = _free_tokenizer) -> None:
        if self._pointer is not None:
            free(self._pointer)


class CWalk:
    """One text's way through a grammar. One thread at a time uses it."""

    def __init__(self, tokenizer: CTokenizer, pointer: int) -> None:
        self._tokenizer = tokenizer  # which has to be there for as long
        self._pointer = pointer
        self._token = c.c_uint32()

    def copy(self) -> "CWalk":
        return CWalk(self._tokenizer, _clone(self._pointer))

    def is_error(self) -> bool:
        return _is_error(self._pointer) is True

    def is_stopped(self) -> bool:
        return _is_stopped(self._pointer) is True

    def consume(self, token_ids: Sequence[int]) -> int:
        """Goes on as far as the grammar takes it: how many of them."""
        pointer, token = self._pointer, self._token
        for num_taken, token_id in enumerate(token_ids):
            token.value = token_id
            if _validate(pointer, token, 1) != 1 or _consume(pointer, token_id) != 0:
                return num_taken
        return len(token_ids)

    def rollback(self, num_tokens: int) -> None:
        _rollback(self._pointer, num_tokens)

    def mask(self, address: int, num_bytes: int) -> None:
        """Writes one bit for each token; `is_error` where nothing was written."""
        _compute_mask(self._pointer, address, num_bytes)

    def __del__(self, free: Callable[[int], None] = _free_matcher) -> None:
        free(self._pointer)
