"""What each field of a request does, in a line: for the OpenAPI document and the page at `/docs`.

`SHARED` are the words for a field wherever it is taken, `OWN` those of one request; a hint is
said to be one. docs/api.md has the same words: a test holds the two together.
"""

from thirdeye.server.api.field_rules.hints import hints_of
from thirdeye.server.api.requests.strict_model import Strict

SHARED: dict[str, str] = {
    "add_generation_prompt": "Ends the prompt where the assistant begins to speak.",
    "add_special_tokens": "BOS in front, where the model has one; the chat template has its own.",
    "allowed_token_ids": "The answer is made of these tokens; it ends where one of them ends it.",
    "answer_token_ids": "The answer's first tokens, drawn by another replica: it goes on there.",
    "bad_words": "Strings that the answer does not hold.",
    "cache_salt": "Shares cached prefixes only with equal salts, beside the key.",
    "chat_template_kwargs": "Variables of the chat template, by the names that it reads.",
    "continue_final_message": (
        "The answer goes on with the last message, an assistant's; it holds the new text alone. "
        "'prefix: true' or 'partial: true' in that message says the same."
    ),
    "dimensions": "Only the model's own width: its hidden states cannot be shortened.",
    "ebnf": "SGLang's name of 'grammar'.",
    "enable_thinking": "Whether to think.",
    "encoding_format": "base64 is little-endian float32.",
    "function_call": "Whether and which of the 'functions' is called.",
    "functions": "The older form of 'tools': the answer has 'function_call'.",
    "frequency_penalty": "Taken off a token's logit for each time it was generated.",
    "grammar": "A grammar, in llama.cpp's GBNF or in Lark.",
    "guided_choice": "vLLM's older 'structured_outputs.choice'.",
    "guided_grammar": "vLLM's older 'structured_outputs.grammar'.",
    "guided_json": "vLLM's older 'structured_outputs.json'.",
    "guided_json_object": "vLLM's older 'structured_outputs.json_object'.",
    "guided_regex": "vLLM's older 'structured_outputs.regex'.",
    "ignore_eos": "Goes on behind the end-of-sequence token: exactly 'max_tokens' tokens.",
    "include_reasoning": "False: thoughts are left out of the answer.",
    "include_reasoning_logprobs": "Logprobs of the thoughts too, in 'logprobs.reasoning_content'.",
    "include_stop_str_in_output": "The stop string that matched is part of the text.",
    "json_schema": "llama.cpp's 'structured_outputs.json'.",
    "load_inplace": "True: takes the place of one that has the name.",
    "logit_bias": "Token id -> a number -100..100 added to its logit.",
    "lora_name": "What requests say in 'model'.",
    "lora_path": "Its folder, below '--lora-dir' or as '--lora' has it.",
    "max_completion_tokens": (
        "The longest answer; without it and with -1, the room beside the prompt, which it "
        "is lowered to."
    ),
    "max_tool_calls": "Calls of one answer at most; none is made beyond it.",
    "metadata": "Keys to 64, values to 512 characters; for the log alone.",
    "min_p": "Drops tokens less likely than this share of the likeliest one's probability.",
    "min_tokens": (
        "No end before so many tokens: end-of-sequence and stop ids are masked, stop "
        "strings not looked for. At most 'max_tokens'."
    ),
    "model": "A served name; 'GET /v1/models' lists them.",
    "n": "Answers to each prompt, each with a seed of its own.",
    "parallel_tool_calls": "False: at most one call.",
    "penalize_newline": "False only where nothing is penalized.",
    "presence_penalty": "Taken off a token's logit if it was generated.",
    "priority": "Lower goes first in the queue; nobody who runs is thrown out for it.",
    "prompt_logprobs": "Scores the prompt, vLLM's shape; not with 'stream'.",
    "reasoning_effort": "How hard to think; 'none' is not at all.",
    "reasoning_format": (
        "llama.cpp's: 'auto' and 'deepseek' are what happens; the others are refused where the "
        "model thinks."
    ),
    "receipt": "What proves the answer, beside it.",
    "regex": "SGLang's 'structured_outputs.regex'.",
    "repeat_last_n": (
        "The three penalties see so many last tokens, of those they see otherwise; -1: all, "
        "0: none."
    ),
    "repetition_penalty": (
        "Divides the positive logits of tokens of prompt and answer, multiplies the "
        "negative ones; 1 is none."
    ),
    "response_format": "'text', 'json_object' or 'json_schema'.",
    "return_progress": (
        "With 'stream': chunks without choices say how far a long prompt is ('prompt_progress')."
    ),
    "return_token_ids": "'prompt_token_ids' and 'token_ids' in the answer.",
    "return_tokens_as_token_ids": "Logprobs call tokens 'token_id:123'.",
    "safety_identifier": "For the log alone.",
    "seed": "Makes the answer come again, whatever else runs.",
    "separate_reasoning": "Where the model thinks only true: thoughts always stand apart.",
    "skip_special_tokens": "False shows special tokens as text.",
    "stop": "Ends the answer before the first of these; an empty one asks for nothing.",
    "stop_token_ids": "Ends the answer at one of these tokens, which is not in the text.",
    "stream": "Server-sent events.",
    "stream_options": "With 'stream': 'include_usage', 'continuous_usage_stats'.",
    "structured_outputs": "'json', 'regex', 'choice' or 'grammar'.",
    "t_max_predict_ms": (
        "Ends with 'length' at the first token that comes so long after the first one; 0 is never."
    ),
    "temperature": "0 is greedy: the likeliest token.",
    "think": "Whether to think, or how hard.",
    "thinking_token_budget": "Tokens of thinking at most, then it is closed; -1: any number.",
    "tool_choice": "Whether and which tool is called; with 'tools' the default is 'auto'.",
    "tools": "Functions the model may call.",
    "top_k": "Only the k likeliest tokens; 0 and -1 are off.",
    "top_logprobs": "So many likeliest tokens at each place; needs 'logprobs'.",
    "top_p": "Only the likeliest tokens that together have this probability; 0 is greedy.",
    "truncate_prompt_tokens": (
        "Keeps the prompt's last tokens; -1 what fits beside 'max_tokens'. "
        "'timings.truncated_n' says how many went."
    ),
    "user": "For the log alone.",
    "logprobs": "Each token's logprob.",
}
_COUNTED: dict[str, str] = {
    "messages": "The conversation, of user and assistant; content is a string or blocks.",
    "system": "A system message: a string or text blocks.",
    "output_config": "'format': a JSON schema; 'effort': how hard to think.",
    "thinking": "Whether to think ('type') and how much ('budget_tokens').",
    "tool_choice": "'auto', 'any', 'tool' or 'none'; 'disable_parallel_tool_use' allows one call.",
}
_OLLAMA: dict[str, str] = {
    "stream": "Lines of JSON; false: one object.",
    "options": "Sampling and limits by Ollama's names.",
    "format": "'json', or a JSON schema that the answer satisfies.",
}
_TEXT_OR_CHAT: dict[str, str] = {
    "prompt": "A text; or 'messages'.",
    "messages": "A conversation, by the chat template; or 'prompt'.",
    "add_special_tokens": "BOS in front; by default of a prompt alone.",
}
OWN: dict[str, dict[str, str]] = {
    "ChatRequest": {
        "logprobs": "Each token's logprob.",
        "max_tokens": "The older name of 'max_completion_tokens'.",
        "messages": (
            "The conversation; roles system, developer, user, assistant (and tool), "
            "content as text or text parts."
        ),
        "reasoning": "OpenRouter's form: 'effort', 'max_tokens', 'enabled', 'exclude'.",
        "thinking": "Whether to think ('type') and how much ('budget_tokens').",
    },
    "CompletionRequest": {
        "logprobs": "Each token's logprob and that of so many likeliest; 0 is its own alone.",
        "max_tokens": (
            "The longest answer, lowered to the room beside the prompt; -1 is all of "
            "that. 0 needs 'echo'."
        ),
        "prompt": (
            "One prompt or several, as text or token ids. Special-token literals in text "
            "become their ids. An empty text is the BOS token."
        ),
        "echo": (
            "The answer begins with the prompt, its logprobs too; with 'max_tokens' 0 it "
            "is only scored."
        ),
        "best_of": "Only equal to 'n'.",
    },
    "EmbeddingRequest": {
        "input": "What to embed: one text, several, or token ids of either.",
        "truncate": "A text that is too long loses its end (true too) or its beginning.",
    },
    "ResponsesRequest": {
        "input": (
            "The conversation: a string, or items (messages, calls, their results, reasoning)."
        ),
        "instructions": "A system message in front.",
        "max_output_tokens": (
            "The longest answer, lowered to the room beside the prompt; -1 is all of that."
        ),
        "text": "'format': 'text', 'json_object' or 'json_schema'; 'verbosity' is a hint.",
        "include": "'message.output_text.logprobs' scores the tokens of the text.",
        "reasoning": "'effort': how hard to think.",
        "stream_options": "'include_obfuscation' is a hint: nothing is padded.",
        "top_logprobs": "So many likeliest tokens at each place; needs 'include'.",
    },
    "MessagesRequest": _COUNTED
    | {
        "max_tokens": "The longest answer, lowered to the room beside the prompt.",
        "stop_sequences": "Ends the answer before the first of these.",
        "metadata": "'user_id', for the log alone.",
    },
    "CountTokensRequest": _COUNTED,
    "OllamaChatRequest": _OLLAMA
    | {
        "messages": "The conversation; without it the model is only loaded.",
    },
    "OllamaGenerateRequest": _OLLAMA
    | {
        "prompt": "A user's message, or with 'raw' the text to go on with.",
        "system": "A system message in front.",
        "raw": "Goes without the chat template.",
    },
    "OllamaEmbedRequest": {
        "input": "A text or several.",
        "truncate": "A text that is too long loses its end; else it is refused.",
    },
    "OllamaEmbeddingsRequest": {
        "prompt": "The text.",
    },
    "TokenizeRequest": _TEXT_OR_CHAT
    | {
        "return_token_strs": "Each token's text too.",
    },
    "DetokenizeRequest": {
        "tokens": "Token ids.",
    },
    "InspectRequest": _TEXT_OR_CHAT
    | {
        "include": "What to tell of each layer: docs/inspect.md.",
        "layers": "Of which layers; all by default.",
        "heads": "Of which heads; all by default.",
        "positions": "Of which tokens, negative ones from the end; all by default.",
        "masked_scores": "Scores of keys that lie ahead too, which no query sees.",
        "top_neurons": "So many of the largest neurons of each token.",
        "lens_tokens": "Tokens to follow through the logit lens.",
        "compare": "Tokens whose logits are compared and attributed; the likeliest two by default.",
        "interventions": "What is edited: docs/inspect.md. What is told is then of the edited run.",
        "sweep": "Many edits, each by itself; tells of no layer.",
        "source": "The text that 'set': 'source' takes from.",
        "mean_of": "Texts that 'set': 'mean' is taken over; this one by default.",
        "noise": "Runs to measure the noise floor with.",
        "continue": "So many tokens that the text goes on by, with the interventions and without.",
        "lens_positions": "The logit lens at the last token or at all.",
        "top_logprobs": "So many likeliest tokens at each place.",
        "stream": "One event a layer.",
    },
    "VocabularyRequest": {
        "tokens": "Tokens, by text or id.",
        "nearest": "So many neighbours of each.",
        "centered": "The mean of all embeddings is taken away first.",
    },
    "VerifyRequest": {
        "receipt": "What an answer's 'receipt' was.",
    },
}
A_HINT = "A hint: taken, and named in the header X-Ignored-Params."


def descriptions_of(request: type[Strict]) -> dict[str, str]:
    """The words for each field that the request has; refused fields have theirs already."""
    words = SHARED | OWN.get(request.__name__, {})
    hints = hints_of(request.model_fields)
    names = [field.alias or name for name, field in request.model_fields.items()]
    return {name: A_HINT if name in hints else words[name] for name in names}
