"""Chat templates with tools, one a family, written after the forms that the families publish.

Each shows the tools, a call of an earlier answer in its own form, and what the tool said in the
family's own role.
"""

from tests.text.tools.families.deepseek_templates import DEEPSEEK_TEMPLATES
from tests.text.tools.families.mistral_templates import MISTRAL_TEMPLATES
from tests.text.tools.families.other_templates import OTHER_TEMPLATES

_LOOP = "{%- for m in messages %}"
_END = "{%- endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
_TOOLS = "{% if tools %}{{ tools | tojson }}\n{% endif %}"
_PLAIN = "{% else %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endif %}"

QWEN_XML = (
    "{% for t in tools or [] %}{{ '\\n<function>' ~ t.function.name ~ '<parameters>' ~ "
    "(t.function.parameters | tojson | safe) ~ '</parameters></function>\\n' }}{% endfor %}"
    + _LOOP
    + "{% if m.role == 'tool' %}<|im_start|>user\n<tool_response>\n{{ m.content }}\n</tool_response>"
    "<|im_end|>\n{% elif m.tool_calls %}<|im_start|>assistant\n{{ m.content }}"
    "{% for call in m.tool_calls %}<tool_call>\n<function={{ call.function.name }}>\n"
    "{% for key, value in call.function.arguments | items %}<parameter={{ key }}>\n"
    "{{ value if value is string else value | tojson }}\n</parameter>\n{% endfor %}</function>\n"
    "</tool_call>{% endfor %}<|im_end|>\n" + _PLAIN + _END
)
GLM = (
    _TOOLS
    + _LOOP
    + "{% if m.role == 'tool' %}<|observation|>\n<tool_response>\n{{ m.content }}\n</tool_response>"
    "{% elif m.tool_calls %}<|im_start|>assistant{% for call in m.tool_calls %}\n"
    "<tool_call>{{ call.function.name }}\n{% for k, v in call.function.arguments.items() %}"
    "<arg_key>{{ k }}</arg_key>\n<arg_value>{{ v if v is string else v | tojson }}</arg_value>\n"
    "{% endfor %}</tool_call>{% endfor %}" + _PLAIN + _END
)
FUNCTIONARY = (
    "{% if tools %}{{ tools | tojson }}\n<function=example_name>{{ '{' }}...}</function> or "
    "<|python_tag|>\n{% endif %}"
    + _LOOP
    + "{% if m.role == 'tool' %}<|start_header_id|>ipython<|end_header_id|>\n{{ m.content }}<|im_end|>"
    "{% elif m.tool_calls %}{{ m.content or '' }}{% for call in m.tool_calls %}"
    "<function={{ call.function.name }}>{{ call.function.arguments | tojson }}</function>"
    "{% endfor %}<|im_end|>" + _PLAIN + _END
)
LLAMA = (
    '{% if tools %}Respond with {"name": function name, "parameters": dictionary of argument name'
    " and its value}.\n{{ tools | tojson }}\n{% endif %}"
    + _LOOP
    + "{% if m.role == 'tool' %}<|start_header_id|>ipython<|end_header_id|>\n{{ m.content | tojson }}"
    "{% elif m.tool_calls %}{% if m.tool_calls | length != 1 %}{{ raise_exception('one call') }}"
    "{% endif %}{% set call = m.tool_calls[0].function %}"
    '{"name": "{{ call.name }}", "parameters": {{ call.arguments | tojson }}}' + _PLAIN + _END
)
GEMMA4 = (
    _TOOLS
    + _LOOP
    + "{% if m.role == 'tool' %}<|tool_response>response:{{ m.content }}<tool_response|>"
    "{% elif m.tool_calls %}{% for call in m.tool_calls %}<|tool_call>call:{{ call.function.name ~ '{' }}"
    '{% for k, v in call.function.arguments | dictsort %}{{ k }}:{% if v is string %}<|"|>{{ v }}'
    '<|"|>{% else %}{{ v | tojson }}{% endif %}{% if not loop.last %},{% endif %}{% endfor %}}'
    "<tool_call|>{% endfor %}" + _PLAIN + _END
)
_ROLE = "<|start_of_role|>{{ m.role }}<|end_of_role|>{{ m.content }}<|end_of_text|>\n"
GRANITE = (
    "{% if tools %}<|start_of_role|>available_tools<|end_of_role|>{{ tools | tojson }}"
    "<|end_of_text|>\nAnswer with <|tool_call|> and a list of calls.\n{% endif %}"
    + _LOOP
    + "{% if m.role == 'tool' %}<|start_of_role|>tool_response<|end_of_role|>{{ m.content }}"
    "<|end_of_text|>\n{% elif m.tool_calls %}<|start_of_role|>assistant<|end_of_role|><|tool_call|>["
    '{% for call in m.tool_calls %}{"name": "{{ call.function.name }}", "arguments": '
    "{{ call.function.arguments | tojson }}}{% if not loop.last %}, {% endif %}{% endfor %}]"
    "<|end_of_text|>\n{% else %}" + _ROLE + "{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|start_of_role|>assistant<|end_of_role|>{% endif %}"
)
GRANITE4 = (
    "{% if tools %}<|start_of_role|>system<|end_of_role|>Call within <tool_call></tool_call> tags.\n"
    "<tools>{{ tools | tojson }}</tools><|end_of_text|>\n{% endif %}"
    + _LOOP
    + "{% if m.role == 'tool' %}<|start_of_role|>user<|end_of_role|>\n<tool_response>\n"
    "{{ m.content }}\n</tool_response><|end_of_text|>\n{% elif m.tool_calls %}"
    "<|start_of_role|>assistant<|end_of_role|>{{ m.content }}{% for call in m.tool_calls %}\n"
    '<tool_call>\n{"name": "{{ call.function.name }}", "arguments": '
    "{{ call.function.arguments | tojson }}}\n</tool_call>{% endfor %}<|end_of_text|>\n{% else %}"
    + _ROLE
    + "{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|start_of_role|>assistant<|end_of_role|>{% endif %}"
)
HARMONY = (
    "{% if tools %}namespace functions {{ tools | tojson }}\n{% endif %}"
    + _LOOP
    + "{% if m.role == 'tool' %}<|start|>functions.f to=assistant<|channel|>commentary<|message|>"
    "{{ m.content | tojson }}<|end|>{% elif m.tool_calls %}{% set call = m.tool_calls[0].function %}"
    "<|start|>assistant<|channel|>commentary to=functions.{{ call.name }} <|constrain|>json<|message|>"
    "{{ call.arguments | tojson }}<|call|>{% else %}<|start|>{{ m.role }}<|message|>{{ m.content }}"
    "<|end|>{% endif %}{% endfor %}{% if add_generation_prompt %}<|start|>assistant{% endif %}"
    "{# <|channel|>analysis #}"
)
SEED = (
    "{%- for t in tools or [] %}def {{ t.function.name }}({{ t.function.parameters.properties | "
    "list }}):\n{% endfor %}"
    + _LOOP
    + "{%- if m.role == 'assistant' and m.tool_calls is defined and "
    "m.tool_calls is iterable and m.tool_calls | length > 0 %}\n{{ '<seed:bos>' + m.role }}\n"
    "{%- if m.content is string and m.content | trim | length > 0 %}{{ '\\n' + m.content | trim + "
    "'\\n' }}{% endif %}{% for call in m.tool_calls %}{% set call = call.function %}"
    "{{ '\\n<seed:tool_call>\\n<function=' + call.name + '>\\n' }}{% for name, value in "
    "call.arguments | items %}{{ '<parameter=' + name + '>' }}{%- set value = value if value is "
    "string else value | string %}{{ value + '</parameter>\\n' }}{% endfor %}"
    "{{ '</function>\\n</seed:tool_call>' }}{% endfor %}<seed:eos>{% else %}"
    "{{ '<seed:bos>' + m.role + '\\n' + m.content + '<seed:eos>' }}{% endif %}{%- endfor %}"
    "{% if add_generation_prompt %}{{ '<seed:bos>assistant\\n' }}{% endif %}"
)
FAMILIES = {
    "qwen_xml": QWEN_XML,
    "glm": GLM,
    "llama": LLAMA,
    "granite": GRANITE,
    "hermes": GRANITE4,
    "gemma4": GEMMA4,
    "harmony": HARMONY,
    "seed": SEED,
    "functionary": FUNCTIONARY,
    **MISTRAL_TEMPLATES,
    **DEEPSEEK_TEMPLATES,
    **OTHER_TEMPLATES,
}
