"""Variations of requests that client programs send, by the rule of docs/api.md that answers them.

Each is a change of a small good request: `OBEYED` and `NEUTRAL` are answered and no header says
more; `HINTS` are answered and the header names what is behind them; `REFUSED` are a 400 for the
field behind them.
"""

from typing import Any

from tests.api.support import CHAT, COMPLETION, FAKE_WIDTH

CHAT_URL, TEXT_URL = "/v1/chat/completions", "/v1/completions"
EMBED_URL, RESPONSES_URL = "/v1/embeddings", "/v1/responses"
MESSAGES_URL = "/v1/messages"
GOOD: dict[str, dict[str, Any]] = {
    CHAT_URL: CHAT | {"max_tokens": 4},
    TEXT_URL: COMPLETION | {"max_tokens": 4},
    EMBED_URL: {"model": "tiny", "input": "Hi"},
    RESPONSES_URL: {"model": "tiny", "input": "Hi", "max_output_tokens": 4},
    MESSAGES_URL: CHAT | {"max_tokens": 4},
}
OBJECT = {"type": "object"}
FUNCTIONS = [{"name": "f", "parameters": OBJECT}]
HI = CHAT["messages"][0]
ASSISTANT = {"role": "assistant", "content": "Hello"}
ENDLESS = {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]}
CALLED = {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}}
NAMED = {"type": "function", "function": {"name": "f"}}
CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
TEXT = {"type": "text", "text": "Hi"}
FLAT = {"type": "function", "name": "f", "parameters": OBJECT}
CUSTOM = {
    "type": "custom",
    "name": "f",
    "description": "d",
    "format": {"type": "grammar", "syntax": "regex", "definition": "[a-z]+"},
}
LARK = CUSTOM | {"format": {"type": "grammar", "syntax": "lark", "definition": 'start: "a"'}}
SHELL_CALL = {
    "type": "local_shell_call",
    "call_id": "c",
    "status": "completed",
    "action": {"type": "exec", "command": ["ls", "-l"], "env": {}},
}
SEALED = {
    "type": "reasoning",
    "summary": [{"type": "summary_text", "text": "I see."}],
    "encrypted_content": "x",
}
SEARCH_CALL = {
    "type": "web_search_call",
    "id": "w",
    "status": "completed",
    "action": {"type": "search", "query": "q"},
}
ALLOWED = {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [NAMED]}}
CACHE = {"type": "ephemeral"}
OF_ROUTERS = [  # what they add to every request, at the values that they add
    {"no_stop_trim": False},
    {"separate_reasoning": True},
    {"stream_reasoning": True},
    {"return_hidden_states": False},
    {"include_reasoning": True},
]
IMAGE = {"type": "image_url", "image_url": {"url": "data:,"}}


def tool(schema: dict[str, Any] | None = None, /, **fields: Any) -> dict[str, Any]:
    """A tool that is offered and not called: the prompt is short, and the answer text."""
    function = {"name": "f", "parameters": {"type": "object", **(schema or {})}} | fields
    return {"tools": [{"type": "function", "function": function}], "tool_choice": "auto"}


def of_x(**keywords: Any) -> dict[str, Any]:
    return tool({"properties": {"x": keywords}})


def said(*messages: dict[str, Any]) -> dict[str, Any]:
    return {"messages": [HI, *messages]}


Change = dict[str, Any]
OBEYED: list[tuple[str, Change]] = [
    *((CHAT_URL, change) for change in (
        {"metadata": {"a": "b"}}, {"max_tokens": 4, "max_completion_tokens": 4},
        {"max_tokens": None, "n_predict": 3}, {"max_tokens": -1}, {"max_completion_tokens": -1},
        {"max_tokens": None, "n_predict": -1}, {"repeat_penalty": 1.1}, {"top_k": 40},
        {"repetition_penalty": 1.1}, {"min_p": 0.1}, {"random_seed": 7}, {"seed": -1},
        {"repeat_last_n": 64, "repeat_penalty": 1.1}, {"n_cmpl": 2},
        {"messages": [HI | {"name": None, "tool_calls": None, "tool_call_id": None, "refusal": None,
                            "function_call": None, "reasoning_content": None}]},
        said(ASSISTANT | {"tool_calls": [CALL], "tool_call_id": None},
             {"role": "tool", "tool_call_id": "c", "content": "x", "tool_calls": None}),
        {"functions": FUNCTIONS}, {"functions": FUNCTIONS, "function_call": "auto"},
        {"functions": FUNCTIONS, "function_call": {"name": "f"}},
        said(CALLED, {"role": "function", "name": "f", "content": "42"}, HI),
        {"functions": [{"name": "f", "description": "d"}]},
        {"stop": ["a", "b", "c", "d", "e"]}, {"stop": [str(i) for i in range(16)]},
        {"grammar": 'root ::= "a" [a-z]*'}, {"json_schema": {"type": "boolean"}},
        {"regex": "[a-z]+"}, {"ebnf": 'root ::= "a" | "b"'}, {"guided_json": OBJECT},
        {"guided_json": '{"type": "object"}'}, {"guided_choice": ["a", "b"]},
        {"guided_regex": "a+"}, {"guided_grammar": 'start: "a"'}, {"guided_json_object": True},
        {"structured_outputs": {"choice": ["a"]}}, {"response_format": {"type": "json_object"}},
        {"response_format": {"type": "json_object", "schema": OBJECT}},
        {"response_format": {"type": "json_schema", "schema": OBJECT}},
        {"response_format": {"type": "json_schema", "json_schema": {"schema": OBJECT}}},
        {"allowed_token_ids": [65, 66]}, {"bad_words": ["Paris", "a/b"]},
        {"logprobs": True, "top_logprobs": 2}, {"return_token_ids": True},
        {"user": "u"}, {"safety_identifier": "u"},
        said(ASSISTANT | {"content": None}, HI), said({"role": "assistant"}, HI),
        said(ASSISTANT | {"tool_calls": [CALL | {"index": 0}]}),
        {"messages": [{"role": "user", "content": [{"type": "input_text", "text": "Hi"}]}]},
        said({"role": "assistant", "content": [{"type": "output_text", "text": "a"},
              {"type": "refusal", "refusal": "no"}]}, HI),
        said(ASSISTANT | {"tool_calls": [
            CALL | {"function": {"name": "f", "arguments": {"a": 1}}}]}),
        said(ASSISTANT | {"tool_calls": [CALL]},
             {"role": "tool", "tool_call_id": "c", "content": None}),
        tool(), tool(strict=True), tool(strict=None), tool(parameters=None), tool(parameters={}),
        tool(name="a.b/c-d_e"), tool(name="x" * 128), tool() | {"parallel_tool_calls": False},
        tool() | {"tool_choice": "any"}, tool() | {"tool_choice": {"type": "auto"}},
        tool() | {"tool_choice": NAMED}, tool() | {"tool_choice": ALLOWED},
        tool() | {"tool_choice": {"type": "function", "name": "f"}},
        {"tools": [{"type": "function", "name": "f", "parameters": OBJECT}]},
        tool({"$schema": "x", "additionalProperties": False, "required": []}),
        of_x(format="date-time"), of_x(format="weird"), of_x(type="integer", format="int64"),
        of_x(type="object", propertyNames={"type": "string"}),
        of_x(oneOf=[OBJECT, {"type": "null"}]),
        of_x(type=["string", "null"], default="a", deprecated=True, readOnly=True),
        {"model": None}, {"model": ""}, {"model": "TINY"}, {"model": "tiny:latest"},
        {"model": "org/tiny"},
    )),
    *((TEXT_URL, change) for change in (
        {"max_tokens": -1}, {"max_tokens": None, "n_predict": 3}, {"metadata": {"a": "b"}},
        {"max_tokens": None, "max_completion_tokens": 3}, {"guided_json": OBJECT},
        {"allowed_token_ids": [65]}, {"best_of": 1}, {"echo": True}, {"prompt": [""]},
    )),
    *((RESPONSES_URL, change) for change in (
        {"max_output_tokens": -1},
        {"tools": [FLAT], "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [
            {"type": "function", "name": "f"}]}},
        {"tools": [{"type": "custom", "name": "f"}]},
        {"tools": [CUSTOM], "tool_choice": {"type": "custom", "name": "f"}},
        {"tools": [FLAT | {"name": "g"}, CUSTOM], "tool_choice": {"type": "allowed_tools", "mode":
            "required", "tools": [{"type": "custom", "name": "f"}]}},
        {"input": [{"type": "custom_tool_call", "call_id": "c", "name": "f", "input": "a"},
                   {"type": "custom_tool_call_output", "call_id": "c", "output": "b"}]},
        {"input": [SHELL_CALL, {"type": "local_shell_call_output", "id": "c", "output": "a"}]},
    )),
    (MESSAGES_URL, {"messages": [{"role": "system", "content": "Be brief."}, HI]}),
]  # fmt: skip
NEUTRAL: list[tuple[str, Change]] = [
    *((CHAT_URL, change) for change in (
        {"parallel_tool_calls": False}, {"parallel_tool_calls": True}, {"store": False},
        {"metadata": {}}, {"reasoning_effort": "none"}, {"stream_options": None},
        {"stream_options": {"include_usage": True}}, {"stream": False, "stream_options": {}},
        {"service_tier": "auto"}, {"verbosity": "medium"}, {"max_tokens": None}, {"top_k": -1},
        {"top_k": 0}, {"typical_p": 1}, {"typical_p": 1.0}, {"tfs_z": 1}, {"mirostat": 0},
        {"dry_multiplier": 0}, {"xtc_probability": 0}, {"samplers": []}, {"top_a": 0},
        {"dry_multiplier": 0, "dry_base": 1.75, "dry_allowed_length": 2, "dry_penalty_last_n": -1,
         "dry_sequence_breakers": ["\n", ":"]}, {"xtc_probability": 0, "xtc_threshold": 0.1},
        {"mirostat": 0, "mirostat_eta": 0.1, "mirostat_tau": 5.0}, {"typ_p": 1},
        {"dynatemp_range": 0, "dynatemp_exponent": 1}, {"top_n_sigma": -1}, {"n_keep": 5},
        {"n_probs": 0, "post_sampling_probs": False}, {"min_keep": 0}, {"lora": []},
        {"repeat_last_n": 64}, {"repeat_last_n": 0}, {"repeat_last_n": -1, "repeat_penalty": 1},
        {"repeat_last_n": 2**40}, {"repeat_last_n": 64, "repeat_penalty": 1.0},
        {"penalize_nl": False}, {"penalize_newline": False, "presence_penalty": 0},
        {"repeat_last_n": 0, "repeat_penalty": 1.3, "penalize_nl": False},
        {"do_sample": True}, {"truncation_side": "left"}, {"custom_params": {}}, {"plugins": []},
        {"stop_regex": []}, {"enable_search": False}, {"search_parameters": {"mode": "off"}},
        {"guardrails": []}, {"parse_tool_calls": True}, {"reasoning_in_content": False},
        {"response_format": {"type": "json_object", "json_schema": None, "schema": None}},
        {"response_format": {"type": "text", "json_schema": None}},
        {"structured_outputs": {"regex": "a+", "json": None, "disable_any_whitespace": False,
                                "disable_additional_properties": False, "whitespace_pattern": None,
                                "structural_tag": None}},
        {"media_io_kwargs": None}, {"media_io_kwargs": {}}, {"n_indent": 0},
        {"adaptive_target": -1, "adaptive_decay": 0.9}, {"return_tokens": False},
        {"response_fields": []}, {"reasoning_format": "auto"}, {"reasoning_format": "none"},
        {"separate_reasoning": False},
        {"logit_bias": None}, {"logit_bias": {}}, {"stop": None}, {"stop": []}, {"stop": ""},
        {"stop": [""]}, {"tools": []}, {"tools": [], "tool_choice": "auto"},
        {"tool_choice": "none"}, {"tool_choice": "auto"}, {"tool_choice": None},
        {"functions": None}, {"functions": []}, {"function_call": None},
        {"function_call": "none"}, {"temperature": None}, {"top_p": 0}, {"top_p": 1.0},
        {"presence_penalty": None}, {"frequency_penalty": 0}, {"n": None}, {"seed": None},
        {"user": None}, {"user": ""}, {"logprobs": None}, {"top_logprobs": 0},
        {"logprobs": False, "top_logprobs": 0}, {"logprobs": False, "top_logprobs": None},
        {"response_format": None}, {"response_format": {"type": "text"}},
        {"modalities": []}, {"documents": []}, {"chat_template": ""},
        {"modalities": ["text"]}, {"audio": None}, {"prediction": None},
        {"web_search_options": None}, {"length_penalty": 1.0}, {"early_stopping": False},
        {"use_beam_search": False}, {"spaces_between_special_tokens": True}, {"bad_words": []},
        {"allowed_token_ids": []}, {"logits_processors": None}, {"logits_processors": []},
        {"mm_processor_kwargs": None}, {"documents": None}, {"kv_transfer_params": None},
        {"stream_reasoning": True}, {"return_hidden_states": False}, {"no_stop_trim": False},
        {"separate_reasoning": True}, {"include_reasoning": True}, {"ignore_eos": False},
        {"vllm_xargs": None}, {"echo": False}, {"best_of": 1}, {"suffix": None},
        {"no_repeat_ngram_size": 0}, {"safe_prompt": False}, {"prompt_mode": None},
        {"grammar": ""}, {"structured_outputs": {}}, {"stream": None},
        {"context_overflow_policy": "stopAtLimit"}, {"cache_control": None}, {"options": {}},
        {"extra_body": {}}, {"format": ""}, {"lora_path": None}, {"api_key": None},
        {"transforms": []}, {"vllm_xargs": {}}, {"top_k": 2**40}, {"truncate_prompt_tokens": 2**40},
        {"t_max_predict_ms": 2**40}, {"max_tool_calls": 2**40} | tool(),
    )),
    *((TEXT_URL, change) for change in (
        {"suffix": None}, {"suffix": ""}, {"max_tokens": None}, {"top_logprobs": 0},
        {"stream_options": {"include_usage": True}},
    )),
    *((url, change) for url in (TEXT_URL, RESPONSES_URL, MESSAGES_URL) for change in OF_ROUTERS),
    *((EMBED_URL, change) for change in (
        {"dimensions": None}, {"normalize": True}, {"truncate": False}, {"truncate": "NONE"},
        {"dimensions": FAKE_WIDTH}, {"truncate": "END"}, {"truncate": "START"}, {"truncate": True},
        {"encoding_format": None},
    )),
    *((RESPONSES_URL, change) for change in (
        {"reasoning": {"mode": "standard", "context": "auto"}}, {"image": {}},
        {"background_options": {"completion_window": "soonest"}},
        {"input": [{"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}",
                    "async": False}, {"type": "function_call_output", "call_id": "c",
                                      "output": "x"}]},
        {"truncation": "disabled"}, {"background": False}, {"store": False}, {"store": None},
        {"stream_options": {"include_obfuscation": False}}, {"text": {"verbosity": "medium"}},
    )),
    *((MESSAGES_URL, change) for change in (
        {"diagnostics": None}, {"fallbacks": []},
        {"thinking": {"type": "disabled"}}, {"mcp_servers": []}, {"service_tier": "auto"},
    )),
]  # fmt: skip
HINTS: list[tuple[str, Change, str]] = [
    *((CHAT_URL, change, names) for change, names in (
        ({"store": True}, "store"), ({"service_tier": "flex"}, "service_tier"),
        ({"service_tier": "priority"}, "service_tier"), ({"verbosity": "low"}, "verbosity"),
        ({"prompt_cache_key": "k"}, "prompt_cache_key"), ({"cache_prompt": False}, "cache_prompt"),
        ({"id_slot": 1}, "id_slot"), ({"slot_id": 1}, "slot_id"), ({"ttl": 60}, "ttl"),
        ({"timings_per_token": True}, "timings_per_token"), ({"keep_alive": "5m"}, "keep_alive"),
        ({"prediction": {"type": "content", "content": "x"}}, "prediction"),
        ({"guided_decoding_backend": "x"}, "guided_decoding_backend"),
        ({"structured_outputs": {"regex": "a", "backend": "x"}}, "backend"),
        ({"provider": {"order": ["x"]}}, "provider"), ({"route": "fallback"}, "route"),
        ({"models": ["a", "b"]}, "models"), ({"usage": {"include": True}}, "usage"),
        ({"request_id": "r"}, "request_id"), ({"session_id": "s"}, "session_id"),
        ({"cache_control": {"type": "ephemeral"}}, "cache_control"),
        ({"custom_llm_provider": "openai"}, "custom_llm_provider"),
        ({"drop_params": True}, "drop_params"), ({"draft_model": "x"}, "draft_model"),
        ({"stream_options": {"include_obfuscation": True}}, "include_obfuscation"),
        ({"service_tier": "fast"}, "service_tier"), ({"tool_stream": True}, "tool_stream"),
        ({"user_id": "u"}, "user_id"), ({"extra_key": "k"}, "extra_key"),
        ({"trace": {"id": "t"}}, "trace"), ({"data_parallel_rank": 0}, "data_parallel_rank"),
        ({"messages": [HI | {"content": [TEXT | {"prompt_cache_breakpoint": {"mode": "x"}}]}]},
         "prompt_cache_breakpoint"),
        ({"intent": "x"}, "intent"), ({"n_cache_reuse": 256}, "n_cache_reuse"),
        ({"backend_sampling": True}, "backend_sampling"),
        ({"media_io_kwargs": {"image": {}}}, "media_io_kwargs"),
        ({"vl_high_resolution_images": True}, "vl_high_resolution_images"),
        (tool(returns=OBJECT), "returns"), (tool(response=OBJECT), "response"),
        ({"tools": [tool()["tools"][0] | {"cache_control": CACHE}]}, "cache_control"),
        *((of_x(**asked), f"tools[0].function.parameters.properties.x.{next(iter(asked))}")
          for asked in ({"uniqueItems": True}, {"not": {}}, {"nullable": True},
                        {"contains": {"type": "null"}}, {"enumDescriptions": ["a"]},
                        {"markdownDescription": "a"})),
        (tool({"dependentRequired": {"a": ["b"]}}),
         "tools[0].function.parameters.dependentRequired"),
        ({"functions": [{"name": "f", "parameters": {"not": {}}}]}, "functions[0].parameters.not"),
        (tool(parameters=ENDLESS), "tools[0].function.parameters.properties.a"),
        (tool(parameters={"type": "OBJECT"}), "tools[0].function.parameters.type"),
        ({"max_tokens": 100_000}, "max_tokens"), ({"max_tokens": 2048}, "max_tokens"),
        ({"max_tokens": 2**31}, "max_tokens"), ({"max_tokens": 10**30}, "max_tokens"),
        ({"max_tokens": None, "max_completion_tokens": 32768}, "max_completion_tokens"),
        ({"messages": [HI | {"cache_control": {"type": "ephemeral"}}]}, "cache_control"),
        ({"messages": [HI | {"id": "m", "timestamp": 1}]}, "id, timestamp"),
        ({"messages": [HI | {"content": [TEXT | {"cache_control": CACHE}]}]}, "cache_control"),
        (said(ASSISTANT | {"tool_calls": [CALL | {"extra_content": {"google": {}}}],
                           "provider_specific_fields": {"refusal": None}}),
         "extra_content, provider_specific_fields"),
        ({"ttl": 60, "cache_prompt": False, "max_tokens": 2100}, "cache_prompt, max_tokens, ttl"),
    )),
    (TEXT_URL, {"max_tokens": 100_000}, "max_tokens"),
    (TEXT_URL, {"max_tokens": 2**64}, "max_tokens"),
    (EMBED_URL, {"input_type": "query"}, "input_type"),
    *((RESPONSES_URL, change, names) for change, names in (
        ({"store": True}, "store"), ({"truncation": "auto"}, "truncation"),
        ({"service_tier": "ultrafast"}, "service_tier"), ({"reasoning": {"mode": "pro"}}, "mode"),
        ({"reasoning": {"context": "all_turns"}}, "context"),
        ({"access_programs": {"cyber": "standard"}}, "access_programs"),
        ({"image": {"context_compression": "enabled"}}, "image"),
        ({"include": ["reasoning.encrypted_content", "web_search_call.action.sources"]},
         "include[1]"),
        ({"tools": [FLAT, {"type": "programmatic_tool_calling"}]}, "tools[1]"),
        *(({"input": [{"role": "user", "content": "Hi"}, {"type": kind, "id": "i", "any": 1}]},
           "input[1]") for kind in ("compaction", "program", "mcp_call", "computer_call")),
        ({"text": {"verbosity": "low"}}, "verbosity"),
        ({"client_metadata": {"a": "b"}}, "client_metadata"),
        ({"service_tier": "priority"}, "service_tier"), ({"prompt_cache_key": "k"},
         "prompt_cache_key"), ({"max_output_tokens": 100_000}, "max_output_tokens"),
        ({"max_output_tokens": 2**53}, "max_output_tokens"),
        ({"context_management": [{"type": "compaction"}]}, "context_management"),
        ({"tools": [{"type": "web_search"}, FLAT, {"type": "mcp", "server_label": "x"}]},
         "tools[0], tools[2]"),
        ({"tools": [{"type": "local_shell"}], "tool_choice": "none"}, "tools[0]"),
        ({"tools": [{"type": "mcp"}, LARK]}, "tools[0]"),
        ({"input": [SEARCH_CALL, {"role": "user", "content": "Hi"}]}, "input[0]"),
        ({"input": [{"type": "reasoning", "summary": [], "encrypted_content": "x"},
                    {"role": "user", "content": "Hi"}]}, "input[0].encrypted_content"),
        ({"input": [{"role": "user", "content": "Hi"}, SEALED, {"role": "user", "content": "Go"}]},
         "input[1]"),
    )),
    *((MESSAGES_URL, change, names) for change, names in (
        ({"max_tokens": 32000}, "max_tokens"), ({"max_tokens": 2**63}, "max_tokens"),
        ({"speed": "fast"}, "speed"), ({"fallbacks": "default"}, "fallbacks"),
        ({"diagnostics": {"previous_message_id": "m"}}, "diagnostics"),
        ({"billing_policy": {"type": "billing_policy", "bill_to": "self"}}, "billing_policy"),
        ({"output_config": {"task_budget": {"type": "tokens", "total": 20000}}}, "task_budget"),
        ({"tools": [{"name": "f", "input_schema": OBJECT},
                    {"type": "browser_toolset_20260801", "name": "browser"},
                    {"type": "computer_toolset_20260801", "name": "computer"}],
          "tool_choice": {"type": "none"}}, "tools[1], tools[2]"),
        ({"context_management": {"edits": []}}, "context_management"),
        ({"cache_control": {"type": "ephemeral"}}, "cache_control"),
        ({"system": [{"type": "text", "text": "x",
                      "cache_control": {"type": "ephemeral", "scope": "global"}}]},
         "cache_control"),
        ({"tools": [{"name": "f", "input_schema": OBJECT, "defer_loading": True,
                     "input_examples": [{}]}], "tool_choice": {"type": "none"}},
         "defer_loading, input_examples"),
        ({"inference_geo": "us"}, "inference_geo"),
    )),
]  # fmt: skip
REFUSED: list[tuple[str, Change, str]] = [
    *((url, change, next(iter(change))) for url in (TEXT_URL, RESPONSES_URL)
      for change in ({"separate_reasoning": False}, {"stream_reasoning": False},
                     {"return_hidden_states": True}, {"include_reasoning": False})),
    (RESPONSES_URL, {"no_stop_trim": True}, "no_stop_trim"),
    *((CHAT_URL, change, param) for change, param in (
        ({"max_tokens": 0}, "max_tokens"), ({"max_tokens": -2}, "max_tokens"),
        ({"max_tokens": 4, "max_completion_tokens": 5}, "max_tokens"),
        ({"n_predict": 5}, "n_predict"), ({"chat_template": "x"}, "chat_template"),
        ({"stream_reasoning": False}, "stream_reasoning"),
        ({"return_hidden_states": True}, "return_hidden_states"),
        ({"typical_p": 0.9}, "typical_p"), ({"tfs_z": 0.9}, "tfs_z"), ({"mirostat": 2}, "mirostat"),
        ({"samplers": ["top_k"]}, "samplers"), ({"dry_multiplier": 0.8}, "dry_multiplier"),
        ({"do_sample": False}, "do_sample"), ({"truncation_side": "right"}, "truncation_side"),
        ({"plugins": [{"id": "web"}]}, "plugins"), ({"enable_search": True}, "enable_search"),
        ({"structured_outputs": {"regex": "a", "disable_any_whitespace": True}},
         "structured_outputs.disable_any_whitespace"), ({"stop_regex": "a"}, "stop_regex"),
        ({"mirostat": 2, "mirostat_tau": 5.0}, "mirostat"), ({"typ_p": 0.9}, "typ_p"),
        ({"dynatemp_range": 0.5}, "dynatemp_range"), ({"top_n_sigma": 1.5}, "top_n_sigma"),
        ({"n_probs": 3}, "n_probs"), ({"adaptive_target": 0.5}, "adaptive_target"),
        ({"repeat_last_n": -2}, "repeat_last_n"), ({"lora": [{"id": 0, "scale": 1}]}, "lora"),
        ({"penalize_nl": False, "repeat_penalty": 1.1}, "penalize_newline"),
        ({"xtc_probability": 0.5, "xtc_threshold": 0.1}, "xtc_probability"),
        ({"options": {"num_ctx": 8}}, "options"),
        ({"format": "json"}, "format"), ({"stop": "x" * 300}, "stop"),
        ({"stop": ["a"] * 17}, "stop"), ({"tool_choice": "required"}, "tool_choice"),
        ({"temperature": 2.5}, "temperature"),
        ({"temperature": -0.1}, "temperature"), ({"seed": 2**63}, "seed"),
        ({"repetition_penalty": 1e-40}, "repetition_penalty"),
        ({"repeat_penalty": 1e-40}, "repeat_penalty"), ({"logprobs": 2}, "logprobs"),
        ({"top_logprobs": 2}, "top_logprobs"), ({"think": "hard"}, "think"),
        ({"extra_body": {"top_k": 1}}, "extra_body"),
        ({"response_format": {"type": "structural_tag", "structures": []}}, "response_format.type"),
        ({"grammar": "root ::= ("}, "grammar"), ({"json_schema": {"not": {}}}, "json_schema"),
        ({"guided_json": {"type": "x"}}, "guided_json"),
        ({"guided_regex": "a", "guided_choice": ["a"]}, "guided_choice"),
        ({"response_format": {"type": "json_object"}, "regex": "a"}, "regex"),
        ({"bad_words": ["a"], "ignore_eos": True}, "ignore_eos"),
        ({"allowed_token_ids": [260]}, "allowed_token_ids[0]"),
        (tool({"not": {}}, strict=True), "tools[0].function.parameters"),
        (tool(ENDLESS, strict=True), "tools[0].function.parameters"),
        ({"json_schema": ENDLESS}, "json_schema"), ({"json_schema": {"$ref": "#"}}, "json_schema"),
        (tool(name="a b"), "tools[0].function.name"), (tool(name="x" * 129),
         "tools[0].function.name"), ({"tools": tool()["tools"] * 2}, "tools[1].function.name"),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {
            "uniqueItems": True}}}}, "response_format.json_schema.schema"),
        (tool() | {"ignore_eos": True}, "ignore_eos"),
        ({"transforms": ["middle-out"]}, "transforms"),
        ({"early_stopping": True}, "early_stopping"),
        ({"use_beam_search": True}, "use_beam_search"), ({"echo": True}, "echo"),
        ({"no_repeat_ngram_size": 3}, "no_repeat_ngram_size"), ({"lora_path": "x"}, "lora_path"),
        ({"adapter_id": "x"}, "adapter_id"), ({"safe_prompt": True}, "safe_prompt"),
        ({"top_a": 0.5}, "top_a"), ({"preset": "x"}, "preset"), ({"api_key": "x"}, "api_key"),
        ({"context_overflow_policy": "rollingWindow"}, "context_overflow_policy"),
        ({"metadata": {str(i): "x" for i in range(20)}}, "metadata"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user", "content": [IMAGE]}]}, "messages[0].content[0]"),
        ({"messages": [{"role": "user", "content": None}]}, "messages[0].content"),
        ({"messages": [{"role": "model", "content": "x"}]}, "messages[0].role"),
        (said({"role": "function", "content": "x"}), "messages[1].name"),
        (said({"role": "function", "name": "f", "content": "x"}), "messages[1].role"),
        (said(CALLED | {"tool_calls": [CALL]}), "messages[1].function_call"),
        ({"functions": FUNCTIONS} | tool(), "functions"),
        ({"functions": FUNCTIONS, "tool_choice": "auto"}, "functions"),
        ({"functions": FUNCTIONS * 2}, "functions[1].name"),
        ({"functions": [{"name": "a b"}]}, "functions[0].name"),
        ({"functions": FUNCTIONS, "function_call": {"name": "g"}}, "function_call"),
        ({"functions": FUNCTIONS, "function_call": "required"}, "function_call"),
        ({"functions": [{"name": "f", "strict": True, "parameters": {"not": {}}}]},
         "functions[0].parameters"),
        ({"function_call": {"name": "f"}}, "function_call"),
        (said({"role": "tool", "content": "x"}), "messages[1].tool_call_id"),
        ({"messages": [HI | {"tool_calls": [CALL]}]}, "messages[0].tool_calls"),
    )),
    *((TEXT_URL, change, param) for change, param in (
        ({"suffix": "x"}, "suffix"), ({"best_of": 2}, "best_of"), ({"logprobs": True}, "logprobs"),
        ({"prompt": []}, "prompt"), ({"prompt": None}, "prompt"), ({"prompt": ["a", 1]},
         "prompt[1]"), ({"max_tokens": 0}, "max_tokens"), ({"top_logprobs": 1}, "top_logprobs"),
        ({"max_completion_tokens": 3}, "max_completion_tokens"), ({"input_suffix": "x"},
         "input_suffix"), ({"prompt": ["a"] * 128, "n": 9}, "n"),
    )),
    *((EMBED_URL, change, param) for change, param in (
        ({"dimensions": 9}, "dimensions"), ({"truncate": "MIDDLE"}, "truncate"),
        ({"truncate": "END", "truncate_prompt_tokens": 4}, "truncate"),
        ({"normalize": False}, "normalize"), ({"input": ""}, "input"),
        ({"input": ["a", ""]}, "input[1]"), ({"messages": [HI]}, "messages"),
    )),
    (RESPONSES_URL, {"previous_response_id": "r"}, "previous_response_id"),
    (RESPONSES_URL, {"background": True}, "background"),
    (RESPONSES_URL, {"tools": [{"type": "web_search"}]}, "tools[0].type"),
    (RESPONSES_URL, {"tools": [FLAT, {"type": "mcp"}], "tool_choice": {"type": "mcp"}},
     "tool_choice.type"),
    (RESPONSES_URL, {"tools": [{"type": "mcp"}, CUSTOM | {"format": {"type": "grammar",
        "syntax": "regex", "definition": "("}}]}, "tools[1].format"),
    (RESPONSES_URL, {"tools": [{"type": "mcp"}, FLAT | {"strict": True, "parameters": {
        "not": {}}}]}, "tools[1].parameters"),
]  # fmt: skip
