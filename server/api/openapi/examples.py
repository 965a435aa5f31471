"""A small good request of each kind: `example` in the OpenAPI document, what `/docs` tries out."""

from typing import Any

_HELLO = [{"role": "user", "content": "What is the capital of Japan?"}]

EXAMPLES: dict[str, dict[str, Any]] = {
    "ChatRequest": {"messages": _HELLO, "max_tokens": 32, "temperature": 0, "stream": True},
    "CompletionRequest": {"prompt": "Once upon a time", "max_tokens": 16, "stream": True},
    "EmbeddingRequest": {"input": "Tokyo"},
    "ResponsesRequest": {"input": "What is the capital of Japan?", "max_output_tokens": 32},
    "MessagesRequest": {"messages": _HELLO, "max_tokens": 32},
    "CountTokensRequest": {"messages": _HELLO},
    "OllamaChatRequest": {"messages": _HELLO, "options": {"num_predict": 32}},
    "OllamaGenerateRequest": {"prompt": "Tell a story.", "options": {"num_predict": 32}},
    "OllamaEmbedRequest": {"input": "Tokyo"},
    "OllamaEmbeddingsRequest": {"prompt": "Tokyo"},
    "OllamaShowRequest": {},
    "TokenizeRequest": {"prompt": "Hello there!"},
    "DetokenizeRequest": {"tokens": [72, 105]},
    "InspectRequest": {"prompt": "Hello", "include": ["logit_lens"], "top_logprobs": 3},
    "VocabularyRequest": {"tokens": ["a", "b"], "nearest": 3},
}
