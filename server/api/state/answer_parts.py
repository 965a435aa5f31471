"""What answers of several dialects hold beside the text: tokens, milliseconds, a receipt."""

from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType

from thirdeye.server.api.http.documented import reference
from thirdeye.server.api.http.json_response import Count

# Made by `receipts`, and described by the model that reads it there.
WrittenReceipt = Annotated[dict[str, object], Meta(extra_json_schema=reference("Receipt"))]


class PromptTokensDetails(Struct, frozen=True):
    cached_tokens: Count
    audio_tokens: Count = 0


class CompletionTokensDetails(Struct, frozen=True):
    reasoning_tokens: Count = 0
    audio_tokens: Count = 0
    accepted_prediction_tokens: Count = 0
    rejected_prediction_tokens: Count = 0


class TokenUsage(Struct, frozen=True):
    """OpenAI's `usage`."""

    prompt_tokens: Count
    completion_tokens: Count
    total_tokens: Count
    prompt_tokens_details: PromptTokensDetails
    completion_tokens_details: CompletionTokensDetails = CompletionTokensDetails()


class AnswerTimings(Struct, frozen=True, kw_only=True):
    """llama.cpp's names, with the queue beside them; milliseconds."""

    queue_ms: float
    cache_n: Count  # tokens of the prompt that were found
    prompt_n: Count  # and that were computed
    prompt_ms: float
    prompt_per_second: float
    predicted_n: Count
    predicted_ms: float
    predicted_per_second: float
    ttft_ms: float
    itl_mean_ms: float
    itl_max_ms: float
    total_ms: float
    steps: Count
    preemptions: Count
    batch_mean: float
    batch_max: Count
    truncated_n: Count | UnsetType = UNSET
